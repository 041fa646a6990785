//! `nibs-bench`: the image engine beside what one would use instead.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use lab::artefacts::Artefacts;
use lab::bench::target::Kind;
use lab::bench::{self, Options, engine, images};

/// How often each contender runs, where it is not said.
const REPETITIONS: usize = 5;

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
    },
    /// Nibs' image engine on a file.
    #[command(hide = true)]
    Engine(engine::Arguments),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Images { directory } => images::make(&directory),
        Command::Engine(arguments) => engine::run(&arguments),
        Command::Run { images, page, quick, repetitions, only, on } => {
            let artefacts = Artefacts::find();
            let whole = !quick && only.is_empty() && on.is_none();
            let report = bench::run(&Options {
                images,
                agent: artefacts.agent(),
                scratch: artefacts.directory().join("bench"),
                repetitions: if quick { 1 } else { repetitions },
                only,
                targets: on.map_or_else(|| vec![Kind::File, Kind::Loop], |kind| vec![kind]),
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
