//! `nibs-server`: the embedded control plane, and a look at a running one.
//!
//! Exit codes: 0 ok, 1 failed, 2 wrong usage (by clap).

mod cli;
mod commands;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(options) => commands::serve(options),
        Command::Machines(options) => commands::machines(options),
        Command::Events(options) => commands::events(options),
        Command::Retry(options) => commands::retry(options),
        Command::Check { directory } => return commands::check(&directory),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nibs-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}
