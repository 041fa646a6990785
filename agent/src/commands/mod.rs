//! One file for each command, and how they all begin and end.

mod action;
mod agent;
pub mod bootconfig;
mod check;
mod explain;
mod explanation;
mod here;
pub mod image_action;
mod inventory;
mod job_file;
mod local;
mod post_mortem;
mod proxies;
mod run;
mod signals;
pub mod tinkerbell;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use crate::cli::{Cli, Command};
use crate::view;

/// The actions bring their own threads; two are enough for talking.
const WORKERS: usize = 2;

/// How a command ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
}

/// What was asked for cannot be meant, or names what is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    view::start_logging();
    let exit = dispatch(cli).unwrap_or_else(|error| {
        eprintln!("nibs: {error:#}");
        if error.is::<Usage>() { Exit::Usage } else { Exit::Failed }
    });
    ExitCode::from(exit as u8)
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let Cli { json, ca, command } = cli;
    match command {
        Command::Agent(args) => block_on(agent::agent(args, ca, json)),
        Command::Tinkerbell(args) => block_on(tinkerbell::tinkerbell(*args, ca, json)),
        Command::Run(args) => block_on(run::run(args, ca, json)),
        Command::Action(args) => block_on(action::action(args, ca, json)),
        Command::Bootconfig(command) => bootconfig::run(&command),
        Command::Check(what) => check::check(what, json),
        Command::Inventory => inventory::inventory(json),
        Command::PostMortem(args) => block_on(post_mortem::post_mortem(args, ca)),
    }
}

fn block_on(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    let runtime: Runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(command);
    // Whatever still waits for the network must not hold up the end of the process.
    runtime.shutdown_background();
    result
}
