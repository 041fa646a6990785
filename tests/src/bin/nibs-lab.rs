//! `nibs-lab`: the lab's virtual machines from a command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::{Parser, Subcommand};
use lab::artefacts::Artefacts;
use lab::demo::{self, System};
use lab::machine::Machine;
use lab::{namespace, terminal};

/// A machine that is kept is looked at for long.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

/// Virtual machines for Nibs.
#[derive(Debug, Parser)]
#[command(name = "nibs-lab", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install a machine from nothing and verify it; exits 0 only if all is as it must be.
    Demo {
        /// What to install.
        #[arg(value_enum, default_value = "bottlerocket")]
        system: System,
        /// Leave the machine running until Ctrl-C.
        #[arg(long)]
        keep: bool,
        /// Where the machine's files, logs and report go. [default: out/demo]
        #[arg(long)]
        out: Option<PathBuf>,
        /// When the command that led here was given, in seconds since 1970.
        #[arg(long, hide = true)]
        given: Option<f64>,
        /// That command found everything built.
        #[arg(long, hide = true, requires = "given")]
        reused: bool,
    },
    /// Connect this terminal to the console of a machine that is kept.
    Console {
        /// Where the machine's files are. [default: out/demo]
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

fn main() -> Result<ExitCode> {
    let directory =
        |out: Option<PathBuf>| out.unwrap_or_else(|| Artefacts::find().directory().join("demo"));
    match Cli::parse().command {
        Command::Demo { system, keep, out, given, reused } => {
            namespace::enter()?;
            let out = directory(out);
            let command = given.map(|seconds| demo::Command {
                given: SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds),
                reused,
            });
            let report = demo::run(system, &out, command, |report, machine| {
                println!("\n{report}");
                println!("report: {}", out.join("report.json").display());
                if keep { stay(machine, &out) } else { Ok(()) }
            })?;
            Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Console { out } => {
            terminal::attach(&directory(out).join("console.sock"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn stay(machine: &mut Machine, out: &Path) -> Result<()> {
    println!("\nThe machine stays on until Ctrl-C here. From another terminal:");
    println!(
        "  its console:   {} console --out {}",
        std::env::current_exe()?.display(),
        out.display()
    );
    println!("  its network:   nsenter --net --target {} (as root)", namespace::outer_process()?);
    println!("  its log:       {}", out.join("console.log").display());
    machine.wait(KEEP)
}
