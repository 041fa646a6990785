//! What this machine could do at best: each stage alone, with the rest of the machine idle.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::images::Format;
use crate::process::run;

/// Block size and queue depth of the ways of writing that are tried; the best is the limit.
const WRITES: [(&str, &str); 4] = [("1M", "8"), ("2M", "8"), ("4M", "2"), ("4M", "8")];

/// The best seconds of each stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// Fetching the bytes as served, to nowhere.
    pub fetch: f64,
    /// Decoding them on all cores, where the format can be cut; else on one. To nowhere.
    pub decode: f64,
    /// Writing as many bytes as the image has data.
    pub write: f64,
}

impl Limit {
    /// No engine that does one thing after the other, or all at once, can be faster. Seconds.
    pub fn seconds(&self) -> f64 {
        self.fetch.max(self.decode).max(self.write)
    }

    /// The stage that takes longest.
    pub fn stage(&self) -> &'static str {
        match self.seconds() {
            slowest if slowest <= self.fetch => "fetch",
            slowest if slowest <= self.decode => "decode",
            _ => "write",
        }
    }
}

/// An image and a target, each stage of whose meeting is to be measured alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// How the image is served.
    pub format: Format,
    /// Where it is served.
    pub url: String,
    /// The same bytes in a file.
    pub served: PathBuf,
    /// How many bytes of the image are data.
    pub data: u64,
    /// What is written to; its content is lost.
    pub target: PathBuf,
    /// How often each is measured.
    pub repetitions: usize,
}

impl Stages {
    /// Finds the limit. What reads the images is to be in the page cache.
    pub fn find(&self) -> Result<Limit> {
        let mut limit = Limit { fetch: f64::INFINITY, decode: f64::INFINITY, write: f64::INFINITY };
        for _ in 0..self.repetitions {
            limit.fetch = limit.fetch.min(self.fetch()?);
            limit.decode = limit.decode.min(self.decode()?);
            for (block, depth) in WRITES {
                limit.write = limit.write.min(self.write(block, depth)?);
            }
        }
        Ok(limit)
    }

    /// By curl or by the engine, whichever is faster.
    fn fetch(&self) -> Result<f64> {
        let curl = timed(1, "curl", &["-sf", "-o", "/dev/null", &self.url])?;
        Ok(curl.min(engine(&["fetch", "--url", &self.url])?))
    }

    /// By the format's own program or by the engine, whichever is faster. The program has one
    /// thread: where the format can be cut, one for each core decodes the whole at once, and each
    /// counts for its share.
    fn decode(&self) -> Result<f64> {
        let program = match self.format {
            Format::Raw => return Ok(0.0),
            Format::Lz4 => "lz4",
            Format::Zstd | Format::ZstdFrames => "zstd",
        };
        let cores = thread::available_parallelism().context("counting the cores")?.get();
        let copies = if self.format.is_parallel() { cores } else { 1 };
        let served = self.served.display().to_string();
        let program = timed(copies, program, &["-tq", &served])? / copies as f64;
        Ok(program.min(engine(&["decode", "--file", &served])?))
    }

    fn write(&self, block: &str, depth: &str) -> Result<f64> {
        write(&self.target, self.data, block, depth)
    }
}

/// A part of Nibs' engine, in a process of its own as the others are.
fn engine(arguments: &[&str]) -> Result<f64> {
    let this = std::env::current_exe().context("finding this program")?;
    timed(1, &this.display().to_string(), &[&["engine"], arguments].concat())
}

/// The seconds until the last of so many copies of a program, started at once, has ended.
fn timed(copies: usize, program: &str, arguments: &[&str]) -> Result<f64> {
    let start = Instant::now();
    thread::scope(|scope| {
        let running: Vec<_> =
            (0..copies).map(|_| scope.spawn(|| run(program, arguments))).collect();
        running.into_iter().try_for_each(|copy| {
            copy.join().map_err(|_| anyhow!("running {program}: its thread panicked"))?.map(drop)
        })
    })?;
    Ok(start.elapsed().as_secs_f64())
}

fn write(target: &Path, bytes: u64, block: &str, depth: &str) -> Result<f64> {
    if bytes == 0 {
        return Ok(0.0);
    }
    let output = run(
        "fio",
        &[
            "--name=limit",
            "--rw=write",
            "--direct=1",
            "--ioengine=io_uring",
            "--end_fsync=1",
            "--output-format=json",
            &format!("--filename={}", target.display()),
            &format!("--size={bytes}"),
            &format!("--bs={block}"),
            &format!("--iodepth={depth}"),
        ],
    )?;
    written_in(&output, bytes).context("understanding what fio printed")
}

/// The seconds that fio says it took, flush included.
fn written_in(output: &str, bytes: u64) -> Result<f64> {
    // Notes may come before.
    let start = output.find('{').context("no JSON")?;
    let output: Value = serde_json::from_str(&output[start..])?;
    let job = &output["jobs"][0];
    let written = job["write"]["io_bytes"].as_u64().context("no bytes written")?;
    ensure!(written > 0, "it wrote nothing");
    let milliseconds = job["job_runtime"].as_f64().context("no time")?;
    // It writes whole blocks: a little more, or less.
    Ok(milliseconds / 1e3 * bytes as f64 / written as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_stage_is_the_limit() {
        let limit = Limit { fetch: 1.0, decode: 3.0, write: 2.0 };
        assert_eq!((limit.seconds(), limit.stage()), (3.0, "decode"));
        let limit = Limit { fetch: 1.0, decode: 0.0, write: 2.0 };
        assert_eq!((limit.seconds(), limit.stage()), (2.0, "write"));
    }

    #[test]
    fn a_copy_that_fails_fails_the_measurement() {
        assert!(timed(2, "sleep", &["0.1"]).unwrap() >= 0.1);
        assert!(timed(2, "sh", &["-c", "exit 1"]).is_err());
    }

    #[test]
    fn fio_is_understood_and_its_time_is_for_the_bytes_asked_for() {
        let text = r#"note
            {"jobs": [{"job_runtime": 1500, "write": {"io_bytes": 3000}}]}"#;
        let seconds = written_in(text, 4000).unwrap();
        assert!((seconds - 2.0).abs() < 1e-9);
        assert!(written_in(&text.replace("3000", "0"), 2000).is_err());
        assert!(written_in("fio: no such file", 1).is_err());
    }
}
