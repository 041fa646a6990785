//! The benchmark: the image engine beside what one would use instead, in the same run.
//!
//! ```text
//!  server (this process, from the page cache) ── HTTP ──> contender ──> target
//!                                                                       old data on it
//! ```
//!
//! Contenders take turns: every repetition runs each of them once, so that what else the machine
//! does hits all alike. Before each run, outside the clock, the target is filled with old data,
//! since a disk to be installed is not blank and freed space is not written as used space is, and
//! what will be read is brought into the page cache. The clock stops when an fsync of the target
//! returns, whoever did it first. The first result of each contender is compared with the image. Who
//! has no end is killed when its time is up, and not started again.
//!
//! - [`images`]: what is installed, made from nothing but this code.
//! - [`server`], [`target`]: where from and where to.
//! - [`contender`]: who runs; [`engine`] is Nibs where the target is no device.
//! - [`measure`]: what a run took.
//! - [`here`] and [`vm`]: where contenders run, on this host or in a virtual machine.
//! - [`limit`]: what the machine could do at best.
//! - [`figures`], [`goals`], [`report`]: what it all means.

pub mod contender;
pub mod engine;
pub mod figures;
pub mod goals;
pub mod here;
pub mod images;
pub mod limit;
pub mod measure;
pub mod report;
pub mod server;
pub mod target;
mod tree;
pub mod vm;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use contender::Contender;
use figures::{Outcome, median};
use goals::goals;
use here::Here;
use images::{Image, Images};
use limit::Limit;
use report::{Comparison, Entry, Report};
use target::{Kind, Target};

/// What is to be measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Options {
    /// Where [`images::make`] put the images.
    pub images: PathBuf,
    /// The agent.
    pub agent: PathBuf,
    /// Where targets may be made; on a disk, not in memory.
    pub scratch: PathBuf,
    /// How often each contender runs.
    pub repetitions: usize,
    /// Seconds after which a contender is killed.
    pub timeout: u64,
    /// Names of images; empty: all.
    pub only: Vec<String>,
    /// Kinds of targets.
    pub targets: Vec<Kind>,
    /// The system of the virtual machine, a cpio archive.
    pub system: PathBuf,
    /// The kernel of the virtual machine.
    pub kernel: PathBuf,
}

/// Where contenders run.
trait Place {
    /// Runs a contender on a target that is as it has to be.
    fn run(&mut self, contender: Contender, image: &Image, target: &Target) -> Result<Outcome>;
    /// Finds the limit there; the target's content is lost.
    fn limit(&mut self, image: &Image, target: &Target) -> Result<Limit>;
}

impl Options {
    /// Which images are to be measured on which targets, of those kinds.
    fn plan(&self, kinds: &[Kind]) -> Result<Vec<(Image, Kind)>> {
        let Images { images } = Images::load(&self.images)?;
        for name in &self.only {
            let known: Vec<&str> = images.iter().map(|image| image.name.as_str()).collect();
            ensure!(
                known.contains(&name.as_str()),
                "no image {name}: there are {}",
                known.join(", ")
            );
        }
        let is_chosen = |image: &Image| self.only.is_empty() || self.only.contains(&image.name);
        let mut plan = Vec::new();
        for image in images.into_iter().filter(is_chosen) {
            for kind in kinds.iter().filter(|kind| self.targets.contains(kind)) {
                if image.on.contains(kind) {
                    plan.push((image.clone(), *kind));
                }
            }
        }
        Ok(plan)
    }
}

/// Measures everything.
pub fn run(options: &Options) -> Result<Report> {
    fs::create_dir_all(&options.scratch)
        .with_context(|| format!("making {}", options.scratch.display()))?;
    // What can go wrong soonest comes first, and last in the report.
    let measured =
        if options.plan(&[Kind::Vm])?.is_empty() { None } else { Some(vm::measure(options)?) };
    let plan = options.plan(&[Kind::File, Kind::Loop])?;
    let mut comparisons = compare_all(options, &plan, &mut Here::start(options)?)?;
    let mut virtual_machine = None;
    if let Some(vm::Measured { machine, comparisons: within }) = measured {
        virtual_machine = Some(machine);
        comparisons.extend(within);
    }
    ensure!(!comparisons.is_empty(), "nothing to measure: that image is not for that target");
    let goals = goals(&comparisons);
    Report::new(options, virtual_machine, comparisons, goals)
}

/// Measures images on targets, one after the other, in one place.
fn compare_all(
    options: &Options,
    plan: &[(Image, Kind)],
    place: &mut dyn Place,
) -> Result<Vec<Comparison>> {
    let of = plan.len() * options.repetitions * Contender::ALL.len();
    let mut progress = Progress { start: Instant::now(), done: 0, of };
    plan.iter().map(|(image, kind)| compare(options, image, *kind, place, &mut progress)).collect()
}

/// All contenders on one image and one kind of target.
fn compare(
    options: &Options,
    image: &Image,
    kind: Kind,
    place: &mut dyn Place,
    progress: &mut Progress,
) -> Result<Comparison> {
    let mut entries = Contender::ALL.map(|contender| Entry {
        contender,
        name: contender.name(image.format).to_owned(),
        runs: vec![],
        median: None,
        fault: None,
    });
    let what = |did: &str| format!("{} on {}: {did}", image.name, kind.name());
    let mut has_no_end = [false; Contender::ALL.len()];
    for repetition in 0..options.repetitions {
        for (entry, has_no_end) in entries.iter_mut().zip(&mut has_no_end) {
            if *has_no_end {
                progress.passed(&what(&format!("{} left out", entry.name)));
                continue;
            }
            let target = Target::prepare(kind, &options.scratch, image.size)?;
            match place.run(entry.contender, image, &target)? {
                Outcome::Finished(run) => {
                    progress.passed(&what(&format!("{} {:.2} s", entry.name, run.seconds)));
                    entry.runs.push(run);
                    if repetition == 0 {
                        let differs = target.difference(&options.images.join(&image.raw))?;
                        entry.fault = differs.map(|differs| format!("not the image; {differs}"));
                    }
                }
                Outcome::TimedOut => {
                    *has_no_end = true;
                    let fault = format!("did not finish in {} s", options.timeout);
                    progress.passed(&what(&format!("{} {fault}", entry.name)));
                    entry.fault = Some(fault);
                }
            }
            if let (Contender::Nibs, Some(fault)) = (entry.contender, &entry.fault) {
                bail!("nibs with {} on {}: {fault}", image.name, kind.name());
            }
        }
    }
    for entry in &mut entries {
        entry.median = median(&entry.runs);
    }
    let target = Target::prepare(kind, &options.scratch, image.size)?;
    let limit = place.limit(image, &target)?;
    eprintln!("{}", what(&format!("limit {:.2} s, {}", limit.seconds(), limit.stage())));
    Ok(Comparison { image: image.clone(), target: kind, limit, entries: entries.into() })
}

/// How far a measurement is, for who waits for it.
struct Progress {
    start: Instant,
    done: usize,
    of: usize,
}

impl Progress {
    /// One more run is over.
    fn passed(&mut self, what: &str) {
        self.done += 1;
        let (done, of, seconds) = (self.done, self.of, self.start.elapsed().as_secs());
        eprintln!("[{done}/{of}, {}:{:02}] {what}", seconds / 60, seconds % 60);
    }
}

/// Brings a file into the page cache, so that nobody waits for the server's disk.
fn warm(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut io::sink()))
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::figures::Run;
    use super::images::Format;
    use super::*;

    /// A place where each contender leaves the image, and some are too slow or careless.
    struct Stage {
        runs: Vec<Contender>,
    }

    impl Place for Stage {
        fn run(&mut self, contender: Contender, image: &Image, target: &Target) -> Result<Outcome> {
            self.runs.push(contender);
            if contender == Contender::QemuImg {
                return Ok(Outcome::TimedOut);
            }
            if contender != Contender::Bmaptool {
                fs::write(target.path(), vec![7; image.size as usize])?;
            }
            Ok(Outcome::Finished(Run {
                seconds: 1.0,
                cpu_seconds: 1.0,
                written: 0.0,
                peak_largest: 0.0,
                peak_sum: 0.0,
            }))
        }

        fn limit(&mut self, _: &Image, _: &Target) -> Result<Limit> {
            Ok(Limit { fetch: 1.0, decode: 1.0, write: 1.0 })
        }
    }

    fn image(size: u64) -> Image {
        Image {
            name: "image".into(),
            on: vec![Kind::File],
            format: Format::Raw,
            size,
            data: size,
            raw: "raw".into(),
            served: "raw".into(),
            served_size: size,
            served_sha256: String::new(),
            bmap: String::new(),
        }
    }

    #[test]
    fn who_has_no_end_is_not_started_again_and_who_leaves_something_else_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = directory.path().to_owned();
        let size = 1 << 20;
        fs::write(scratch.join("raw"), vec![7; size as usize]).unwrap();
        let options = Options {
            images: scratch.clone(),
            agent: PathBuf::new(),
            scratch,
            repetitions: 2,
            timeout: 9,
            only: vec![],
            targets: vec![Kind::File],
            system: PathBuf::new(),
            kernel: PathBuf::new(),
        };
        let mut stage = Stage { runs: vec![] };
        let plan = [(image(size), Kind::File)];
        let comparisons = compare_all(&options, &plan, &mut stage).unwrap();
        let count = |contender| stage.runs.iter().filter(|run| **run == contender).count();
        assert_eq!((count(Contender::Nibs), count(Contender::QemuImg)), (2, 1));
        let entries = &comparisons[0].entries;
        let fault = |contender| {
            let entry = entries.iter().find(|entry| entry.contender == contender).unwrap();
            (entry.fault.as_deref(), entry.median.is_some())
        };
        assert_eq!(fault(Contender::Nibs), (None, true));
        assert_eq!(fault(Contender::QemuImg), (Some("did not finish in 9 s"), false));
        let left = "not the image; 1 MiB of old data are left";
        assert_eq!(fault(Contender::Bmaptool), (Some(left), true));
    }
}
