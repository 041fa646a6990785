//! The one binary: PID 1 when the kernel starts it as `init`, the kernel's tool when it is called
//! `bootconfig`, an agent of Tinkerbell or one of its actions when it is called by their names, else
//! the `nibs` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    nibs_agent::memory::share_one_arena();
    match nibs_agent::cli::role() {
        nibs_agent::cli::Role::Init => nibs_agent::init::main(),
        nibs_agent::cli::Role::KernelBootconfig => nibs_agent::commands::bootconfig::kernel_tool(),
        nibs_agent::cli::Role::TinkerbellAgent(name) => {
            nibs_agent::commands::tinkerbell::by_their_name(name)
        }
        nibs_agent::cli::Role::ImageAction(name) => nibs_agent::commands::image_action::main(name),
        nibs_agent::cli::Role::Command => nibs_agent::commands::main(),
    }
}
