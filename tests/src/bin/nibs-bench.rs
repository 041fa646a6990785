//! `nibs-bench`: the image engine beside what one would use instead.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use lab::artefacts::Artefacts;
use lab::bench::engine::Engine;
use lab::bench::target::Kind;
use lab::bench::{self, Options, images, vm};

/// How often each contender runs, where it is not said.
const REPETITIONS: usize = 5;
/// Seconds after which a contender is killed, where it is not said: many times what any takes.
const TIMEOUT: u64 = 300;

/// Benchmarks of Nibs.
#[derive(Debug, Parser)]
#[command(name = "nibs-bench", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the images.
    Images {
        /// Where; an empty directory.
        directory: PathBuf,
    },
    /// Measure; print the results and write them to out/bench.json and out/benchmarks.md.
    Run {
        /// Where the images are.
        #[arg(long)]
        images: PathBuf,
        /// Also write the page here, if everything was measured.
        #[arg(long)]
        page: PathBuf,
        /// Every contender once.
        #[arg(long, conflicts_with = "repetitions")]
        quick: bool,
        /// How often each contender runs.
        #[arg(long, default_value_t = REPETITIONS)]
        repetitions: usize,
        /// Only this image; may be repeated.
        #[arg(long, value_name = "IMAGE")]
        only: Vec<String>,
        /// Only this kind of target.
        #[arg(long, value_enum)]
        on: Option<Kind>,
        /// Seconds after which a contender is killed.
        #[arg(long, default_value_t = TIMEOUT)]
        timeout: u64,
        /// The system of the virtual machine, a cpio archive.
        #[arg(long)]
        system: PathBuf,
    },
    /// Nibs' image engine, or a part of it.
    #[command(hide = true, subcommand)]
    Engine(Engine),
    /// Measure in a virtual machine.
    #[command(hide = true)]
    Vm {
        /// What, in JSON.
        options: String,
    },
    /// Be the virtual machine's process 1.
    #[command(hide = true)]
    Guest {
        /// What to do there.
        task: String,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Images { directory } => images::make(&directory),
        Command::Engine(engine) => engine.run(),
        Command::Vm { options } => vm::run(&options),
        Command::Guest { task } => vm::guest::run(&task),
        Command::Run { images, page, quick, repetitions, only, on, timeout, system } => {
            let artefacts = Artefacts::find();
            let whole = !quick && only.is_empty() && on.is_none();
            let report = bench::run(&Options {
                images,
                agent: artefacts.agent(),
                scratch: artefacts.directory().join("bench"),
                repetitions: if quick { 1 } else { repetitions },
                timeout,
                only,
                targets: on.map_or_else(|| Kind::ALL.into(), |kind| vec![kind]),
                system,
                kernel: artefacts.kernel(),
            })?;
            let text = report.markdown();
            print!("{text}");
            report.write_json(&artefacts.directory().join("bench.json"))?;
            let mut pages = vec![artefacts.directory().join("benchmarks.md")];
            pages.extend(whole.then_some(page));
            for page in pages {
                std::fs::write(&page, &text)
                    .with_context(|| format!("writing {}", page.display()))?;
            }
            Ok(())
        }
    }
}
