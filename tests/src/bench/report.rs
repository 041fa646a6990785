//! The results: JSON for programs, Markdown for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

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
    /// The virtual machine, if one was used.
    pub virtual_machine: Option<String>,
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
#[derive(Debug, Serialize, Deserialize)]
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
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// Which.
    pub contender: Contender,
    /// Its name in this comparison.
    pub name: String,
    /// All its runs that came to an end.
    pub runs: Vec<Run>,
    /// Their medians; nothing if there are none.
    pub median: Option<Run>,
    /// Why it is no measure: it has no end, or left something else than the image.
    pub fault: Option<String>,
}

impl Comparison {
    /// A median figure of a contender; not a number if it has none.
    pub fn figure(&self, contender: Contender, figure: fn(&Run) -> f64) -> f64 {
        let entry = self.entries.iter().find(|entry| entry.contender == contender);
        entry.and_then(|entry| entry.median.as_ref()).map_or(f64::NAN, figure)
    }
}

impl Report {
    /// Adds to the results what they were measured on and with.
    pub fn new(
        options: &Options,
        virtual_machine: Option<String>,
        comparisons: Vec<Comparison>,
        goals: Vec<Goal>,
    ) -> Result<Self> {
        Ok(Self {
            virtual_machine,
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
        let (date, machine) = (&self.date, &self.machine);
        let times = times(self.repetitions);
        writeln!(page, "Measured on {date}, every contender {times}: {machine}.\n")?;
        if let Some(machine) = &self.virtual_machine {
            writeln!(page, "The virtio disk is in {machine}.\n")?;
        }
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
            let figure =
                if figure.is_nan() { "unknown".to_owned() } else { format!("{figure:.2}") };
            writeln!(
                page,
                "| {image} | {target} | {what} | {at_least:.2} | {figure} | {verdict} |"
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
        let nibs = self.figure(Contender::Nibs, |run| run.seconds);
        for entry in &self.entries {
            entry.write(page, size, nibs)?;
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
            if let Some(fault) = &entry.fault {
                writeln!(page, "\n† {}: {fault}.", entry.name)?;
            }
        }
        Ok(())
    }
}

impl Entry {
    /// Its line, for an image of so many bytes, beside the seconds of Nibs.
    fn write(&self, page: &mut String, size: f64, nibs: f64) -> std::fmt::Result {
        let mark = if self.fault.is_some() { " †" } else { "" };
        write!(page, "| {}{mark} | ", self.name)?;
        let Some(Run { seconds, cpu_seconds, written, peak_largest, peak_sum }) = self.median
        else {
            return writeln!(page, "| | | | | | |");
        };
        // One process has one peak.
        let memory = if peak_sum > peak_largest {
            format!("{:.0} (largest {:.0})", peak_sum / MIB, peak_largest / MIB)
        } else {
            format!("{:.0}", peak_largest / MIB)
        };
        writeln!(
            page,
            "{seconds:.2} | {:.0} | {:.2}× | {:.0} | {memory} | {cpu_seconds:.2} | {:.2} |",
            size / seconds / 1e6,
            seconds / nibs,
            written / MIB,
            cpu_seconds / (size / GIB),
        )
    }
}

/// How often, in words.
pub(super) fn times(number: usize) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}

const PREFACE: &str = "\
# Benchmarks

Made by `./build.sh bench` (root, for loop devices); `--quick` runs everything once and leaves this
page alone. All figures, those of each run too, are in `out/bench.json`.

All contenders get the same images from the same HTTP server, save for qemu-img and dd, which read
no compressed image: they get the raw one from a local file. They take turns, and medians count.
Before each run, outside the clock, the target is filled with old data and what will be read is
brought into the page cache. The clock stops when an fsync of the target returns. nibs runs with its
defaults and the image's SHA-256: what is written is proven, what boots is held back until it is. On
a file, which the action takes for no disk, it is the same engine in a process of its own; on a
loop device and on a virtio disk it is `nibs action stream-image`.

On the virtio disk, everything runs inside a virtual machine that is started anew for each run; the
image is in the same shape, and smaller, since a host may have to emulate the processor. What is
read from a local file is in the machine's memory. The disk is a file in the page cache of the host.
Where the processor is emulated (tcg), instructions cost far more than copies, and every wake-up of
another process costs more than on hardware: contenders can be compared there, seconds cannot.

*Written* is what the kernel accounts to the processes (`write_bytes` of `/proc/PID/io`); for the
virtio disk, the host's kernel to QEMU. *Peak memory* is the sum of the peaks of all processes.
*Nibs is* how many times as fast as that line. *Limit* is the slowest stage alone, each the best
that was found: fetching to nowhere, by curl or by nibs' engine; decoding to nowhere, by lz4 or zstd,
a copy for each core and each counted for its share, save for a single zstd frame, or by nibs'
engine; writing as many bytes as the image has data, by fio in several ways.

A contender marked † is no measure for nibs; why is below its table.

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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(median: Option<Run>, fault: Option<&str>) -> Entry {
        Entry {
            contender: Contender::Pipe,
            name: "pipe".into(),
            runs: vec![],
            median,
            fault: fault.map(str::to_owned),
        }
    }

    #[test]
    fn a_contender_without_end_has_a_line_without_figures() {
        let mut page = String::new();
        entry(None, Some("did not finish in 300 s")).write(&mut page, GIB, 1.0).unwrap();
        assert_eq!(page, "| pipe † | | | | | | | |\n");
    }

    #[test]
    fn a_contender_is_set_beside_nibs() {
        let mut page = String::new();
        let run = Run {
            seconds: 2.0,
            cpu_seconds: 3.0,
            written: 5.0 * MIB,
            peak_largest: 6.0 * MIB,
            peak_sum: 7.0 * MIB,
        };
        entry(Some(run), None).write(&mut page, GIB, 0.5).unwrap();
        assert_eq!(page, "| pipe | 2.00 | 537 | 4.00× | 5 | 7 (largest 6) | 3.00 | 3.00 |\n");
    }
}
