//! What this machine could do at best: each stage alone, with the rest of the machine idle.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::images::{Format, Image};
use super::server::Server;
use super::target::Target;
use crate::process::run;

/// Block size and queue depth of the ways of writing that are tried; the best is the limit.
const WRITES: [(&str, &str); 4] = [("1M", "8"), ("2M", "8"), ("4M", "2"), ("4M", "8")];

/// The best seconds of each stage.
#[derive(Debug, Clone, Copy, Serialize)]
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

/// Finds the limit for an image and a target, whose content is lost.
pub fn find(
    image: &Image,
    directory: &Path,
    server: &Server,
    target: &Target,
    repetitions: usize,
) -> Result<Limit> {
    let mut limit = Limit { fetch: f64::INFINITY, decode: f64::INFINITY, write: f64::INFINITY };
    let served = directory.join(&image.served);
    for _ in 0..repetitions {
        limit.fetch = limit.fetch.min(fetch(&server.url(&image.served))?);
        limit.decode = limit.decode.min(decode(image.format, &served)?);
        for (block, depth) in WRITES {
            limit.write = limit.write.min(write(target, image.data, block, depth)?);
        }
    }
    Ok(limit)
}

fn fetch(url: &str) -> Result<f64> {
    let start = Instant::now();
    run("curl", &["-sf", "-o", "/dev/null", url])?;
    Ok(start.elapsed().as_secs_f64())
}

/// A frame of independent lz4 blocks can be decoded on all cores. Nothing at hand does that, so a
/// decoder for each core decodes the whole at once, and each counts for its share.
fn decode(format: Format, served: &Path) -> Result<f64> {
    let cores = thread::available_parallelism().context("counting the cores")?.get();
    let (program, copies) = match format {
        Format::Raw => return Ok(0.0),
        Format::Lz4 => ("lz4", cores),
        Format::Zstd => ("zstd", 1),
    };
    let start = Instant::now();
    let decoders = (0..copies)
        .map(|_| Command::new(program).arg("-tq").arg(served).stdin(Stdio::null()).spawn());
    for decoder in decoders.collect::<Vec<_>>() {
        let status = decoder.and_then(|mut decoder| decoder.wait());
        let status = status.with_context(|| format!("running {program}"))?;
        ensure!(status.success(), "running {program}: {status}");
    }
    Ok(start.elapsed().as_secs_f64() / copies as f64)
}

fn write(target: &Target, bytes: u64, block: &str, depth: &str) -> Result<f64> {
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
            &format!("--filename={}", target.path().display()),
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
    fn fio_is_understood_and_its_time_is_for_the_bytes_asked_for() {
        let text = r#"note
            {"jobs": [{"job_runtime": 1500, "write": {"io_bytes": 3000}}]}"#;
        let seconds = written_in(text, 4000).unwrap();
        assert!((seconds - 2.0).abs() < 1e-9);
        assert!(written_in(&text.replace("3000", "0"), 2000).is_err());
        assert!(written_in("fio: no such file", 1).is_err());
    }
}
