//! The benchmark: the image engine beside what one would use instead, in the same run.
//!
//! ```text
//!  server (this process, from the page cache) ── HTTP, loopback ──> contender ──> target
//!                                                                                 old data on it
//! ```
//!
//! Contenders take turns: every repetition runs each of them once, so that what else the machine
//! does hits all alike. Before each run, outside the clock, the target is filled with old data,
//! since a disk to be installed is not blank and freed space is not written as used space is, and
//! what will be read is brought into the page cache. The clock stops when an fsync of the target
//! returns, whoever did it first. The first result of each contender is compared with the image.
//!
//! - [`images`]: what is installed, made from nothing but this code.
//! - [`server`], [`target`]: where from and where to.
//! - [`contender`]: who runs; [`engine`] is Nibs where the target is no device.
//! - [`measure`]: what a run took.
//! - [`limit`]: what the machine could do at best.
//! - [`figures`], [`goals`], [`report`]: what it all means.

pub mod contender;
pub mod engine;
pub mod figures;
pub mod goals;
pub mod images;
pub mod limit;
pub mod measure;
pub mod report;
pub mod server;
pub mod target;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use contender::{Contender, Job};
use figures::{Run, median};
use goals::goals;
use images::{Image, Images};
use report::{Comparison, Entry, Report};
use server::Server;
use target::{Kind, Target};

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where [`images::make`] put the images.
    pub images: PathBuf,
    /// The agent.
    pub agent: PathBuf,
    /// Where targets may be made; on a disk, not in memory.
    pub scratch: PathBuf,
    /// How often each contender runs.
    pub repetitions: usize,
    /// Names of images; empty: all.
    pub only: Vec<String>,
    /// Kinds of targets.
    pub targets: Vec<Kind>,
}

/// Measures everything.
pub fn run(options: &Options) -> Result<Report> {
    let images = Images::load(&options.images)?;
    for name in &options.only {
        let known: Vec<&str> = images.images.iter().map(|image| image.name.as_str()).collect();
        ensure!(known.contains(&name.as_str()), "no image {name}: there are {}", known.join(", "));
    }
    std::fs::create_dir_all(&options.scratch)
        .with_context(|| format!("making {}", options.scratch.display()))?;
    let server = Server::start(&options.images)?;
    let mut comparisons = Vec::new();
    let chosen = |image: &&Image| options.only.is_empty() || options.only.contains(&image.name);
    for image in images.images.iter().filter(chosen) {
        for &kind in &options.targets {
            comparisons.push(compare(options, image, kind, &server)?);
        }
    }
    let goals = goals(&comparisons);
    Report::new(options, comparisons, goals)
}

/// All contenders on one image and one kind of target.
fn compare(options: &Options, image: &Image, kind: Kind, server: &Server) -> Result<Comparison> {
    let say = |text: &str| eprintln!("{} on {}: {text}", image.name, kind.name());
    let mut entries: Vec<(Contender, Vec<Run>, Option<String>)> =
        Contender::ALL.map(|contender| (contender, vec![], None)).into();
    let log = options.scratch.join("log");
    for repetition in 0..options.repetitions {
        for (contender, runs, differs) in &mut entries {
            let target = Target::prepare(kind, &options.scratch, image.size)?;
            let job = Job {
                image,
                server,
                directory: &options.images,
                agent: &options.agent,
                target: &target,
            };
            job.warm(*contender)?;
            let run = measure::run(&contender.commands(&job)?, &target, &log)?;
            say(&format!("{} {:.2} s", contender.name(image.format), run.seconds));
            runs.push(run);
            if repetition == 0 {
                *differs = target.difference(&options.images.join(&image.raw))?;
                if let (Contender::Nibs, Some(differs)) = (*contender, differs) {
                    bail!("nibs wrote {} wrong onto a {}: {differs}", image.name, kind.name());
                }
            }
        }
    }
    let target = Target::prepare(kind, &options.scratch, image.size)?;
    let limit = limit::find(image, &options.images, server, &target, options.repetitions)?;
    say(&format!("limit {:.2} s", limit.seconds()));
    let entries = entries
        .into_iter()
        .map(|(contender, runs, differs)| Entry {
            name: contender.name(image.format).to_owned(),
            contender,
            median: median(&runs),
            runs,
            differs,
        })
        .collect();
    Ok(Comparison { image: image.clone(), target: kind, limit, entries })
}
