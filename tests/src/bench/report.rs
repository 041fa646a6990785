//! The results: JSON for programs, Markdown for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Options;
use super::contender::Contender;
use super::figures::Run;
use super::goals::Goal;
use super::images::Image;
use super::limit::Limit;
use super::target::Kind;
use crate::process::run;

const MIB: f64 = (1 << 20) as f64;
const GIB: f64 = (1 << 30) as f64;

/// All that was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The day, UTC.
    pub date: String,
    /// Processor, cores, memory, kernel and the filesystem that targets were on.
    pub machine: String,
    /// The versions of all programs, as they say them.
    pub versions: Vec<String>,
    /// Arguments of this program.
    pub arguments: Vec<String>,
    /// Runs of each contender.
    pub repetitions: usize,
    /// One for each image and kind of target.
    pub comparisons: Vec<Comparison>,
    /// What was to be reached.
    pub goals: Vec<Goal>,
}

/// All contenders on one image and one kind of target.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Comparison {
    /// The image.
    pub image: Image,
    /// What it was written to.
    pub target: Kind,
    /// What the machine could do at best.
    pub limit: Limit,
    /// The contenders, Nibs first.
    pub entries: Vec<Entry>,
}

/// One contender.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// Which.
    pub contender: Contender,
    /// Its name in this comparison.
    pub name: String,
    /// All its runs.
    pub runs: Vec<Run>,
    /// Their medians.
    pub median: Run,
    /// How what it left on the target differs from the image.
    pub differs: Option<String>,
}

impl Comparison {
    /// A contender's entry.
    pub fn entry(&self, contender: Contender) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.contender == contender)
    }

    /// A contender's median seconds; not a number if it was not measured.
    pub fn seconds(&self, contender: Contender) -> f64 {
        self.entry(contender).map_or(f64::NAN, |entry| entry.median.seconds)
    }
}

impl Report {
    /// Adds to the results what they were measured on and with.
    pub fn new(options: &Options, comparisons: Vec<Comparison>, goals: Vec<Goal>) -> Result<Self> {
        Ok(Self {
            date: run("date", &["-u", "+%F"])?.trim().to_owned(),
            machine: machine(&options.scratch)?,
            versions: versions(&options.agent)?,
            arguments: std::env::args().skip(1).collect(),
            repetitions: options.repetitions,
            comparisons,
            goals,
        })
    }

    /// Writes it as JSON.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("encoding the results")?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// The page for people.
    pub fn markdown(&self) -> String {
        let mut page = PREFACE.to_owned();
        // Writing to a string cannot fail.
        let _ = self.write_facts(&mut page);
        let _ = self.write_goals(&mut page);
        for comparison in &self.comparisons {
            let _ = comparison.write(&mut page);
        }
        page
    }

    fn write_facts(&self, page: &mut String) -> std::fmt::Result {
        let times = if self.repetitions == 1 { "time" } else { "times" };
        writeln!(
            page,
            "Measured on {}, every contender {} {times}: {}.\n",
            self.date, self.repetitions, self.machine
        )?;
        writeln!(page, "With {}.\n", self.versions.join("; "))
    }

    fn write_goals(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "## Must reach\n")?;
        writeln!(page, "| image | target | times the … | must be | is | |")?;
        writeln!(page, "|---|---|---|--:|--:|---|")?;
        for goal in &self.goals {
            let (image, target, what) = (&goal.image, goal.target.name(), &goal.goal);
            let verdict = if goal.reached { "reached" } else { "**not reached**" };
            let (at_least, figure) = (goal.at_least, goal.figure);
            writeln!(
                page,
                "| {image} | {target} | {what} | {at_least:.2} | {figure:.2} | {verdict} |"
            )?;
        }
        Ok(())
    }
}

impl Comparison {
    fn write(&self, page: &mut String) -> std::fmt::Result {
        let Image { name, size, data, served_size, .. } = &self.image;
        let (size, data, served_size) = (*size as f64, *data as f64, *served_size as f64);
        writeln!(page, "\n## {name} on {}\n", self.target.name())?;
        writeln!(
            page,
            "{:.2} GiB, {:.2} GiB of it data, served as {:.2} GiB.\n",
            size / GIB,
            data / GIB,
            served_size / GIB
        )?;
        writeln!(
            page,
            "| | seconds | MB/s | nibs is | written, MiB | peak memory, MiB | CPU s | CPU s/GiB |"
        )?;
        writeln!(page, "|---|--:|--:|--:|--:|--:|--:|--:|")?;
        let nibs = self.seconds(Contender::Nibs);
        for entry in &self.entries {
            let Run { seconds, cpu_seconds, written, peak_largest, peak_sum } = entry.median;
            // One process has one peak.
            let memory = if peak_sum > peak_largest {
                format!("{:.0} (largest {:.0})", peak_sum / MIB, peak_largest / MIB)
            } else {
                format!("{:.0}", peak_largest / MIB)
            };
            writeln!(
                page,
                "| {}{} | {seconds:.2} | {:.0} | {:.2}× | {:.0} | {memory} | {cpu_seconds:.2} | {:.2} |",
                entry.name,
                if entry.differs.is_some() { " †" } else { "" },
                size / seconds / 1e6,
                seconds / nibs,
                written / MIB,
                cpu_seconds / (size / GIB),
            )?;
        }
        let Limit { fetch, decode, write } = self.limit;
        let limit = self.limit.seconds();
        writeln!(
            page,
            "| limit: {} | {limit:.2} | {:.0} | {:.2}× | | | | |\n",
            self.limit.stage(),
            size / limit / 1e6,
            limit / nibs,
        )?;
        writeln!(page, "Alone: fetch {fetch:.2} s, decode {decode:.2} s, write {write:.2} s.")?;
        for entry in &self.entries {
            if let Some(differs) = &entry.differs {
                writeln!(page, "\n† {}: not the image; {differs}.", entry.name)?;
            }
        }
        Ok(())
    }
}

const PREFACE: &str = "\
# Benchmarks

Made by `./build.sh bench` (root, for loop devices); `--quick` runs everything once and leaves this
page alone. All figures, those of each run too, are in `out/bench.json`.

All contenders get the same images from the same HTTP server on loopback, save for qemu-img and dd,
which read no compressed image: they get the raw one from a local file.
They take turns, and medians count. Before each run, outside the clock, the target is filled with
old data and what will be read is brought into the page cache. The clock stops when an fsync of the
target returns. nibs runs with its defaults and the image's SHA-256: what is written is proven, what
boots is held back until it is. On a file, which the action takes for no disk, it is the same
engine in a process of its own; on a loop device it is `nibs action stream-image`.

*Written* is what the kernel accounts to the processes (`write_bytes` of `/proc/PID/io`). *Peak
memory* is the sum of the peaks of all processes. *Nibs is* how many times as fast as that line.
*Limit* is the slowest stage alone: curl to nowhere; lz4 on all cores, zstd, which has one frame, on
one; fio writing as many bytes as the image has data, in the best of several ways.

";

fn machine(scratch: &Path) -> Result<String> {
    let processors = read("/proc/cpuinfo")?;
    let memory = read("/proc/meminfo")?;
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(':').nth(1)).unwrap_or("unknown").trim().to_owned()
    };
    let kib: f64 = value(&memory, "MemTotal").trim_end_matches(" kB").parse().unwrap_or(f64::NAN);
    let cores = processors.lines().filter(|line| line.starts_with("processor")).count();
    let scratch = scratch.display().to_string();
    Ok(format!(
        "{cores} cores of {}, {:.0} GiB of memory, Linux {}, targets on {}",
        value(&processors, "model name"),
        kib / (1 << 20) as f64,
        read("/proc/sys/kernel/osrelease")?.trim(),
        run("stat", &["--file-system", "--format=%T", &scratch])?.trim(),
    ))
}

fn versions(agent: &Path) -> Result<Vec<String>> {
    let agent = agent.display().to_string();
    ["curl", "lz4", "zstd", "dd", "bmaptool", "qemu-img", "fio"]
        .into_iter()
        .chain([agent.as_str()])
        .map(|program| {
            let said = run(program, &["--version"])?;
            let line = said.lines().find(|line| !line.is_empty()).unwrap_or(program);
            // Authors and libraries are of no interest.
            let end = [", by", " libcurl"].iter().filter_map(|text| line.find(text)).min();
            Ok(line[..end.unwrap_or(line.len())].trim_matches(['*', ' ']).to_owned())
        })
        .collect()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {path}"))
}
