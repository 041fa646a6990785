//! The image engine on a regular file, which the action takes for no disk: with what the action
//! gives it by default, in a process of its own.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use nibs_actions::image::{self, Access, Device, Expected, Fetch, Proof};
use nibs_actions::{Sink, Stop, http};
use nibs_job::params::DEFAULT_STALL_TIMEOUT;
use nibs_job::{HexDigest, LogLevel, Progress};
use tokio::runtime::Builder;

/// As many as the agent has.
const WORKERS: usize = 2;
const SECTOR: u32 = 512;

/// What to write where.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the image is.
    #[arg(long)]
    url: String,
    /// SHA-256 of the bytes as served.
    #[arg(long)]
    sha256: HexDigest<32>,
    /// A file of the image's size.
    #[arg(long)]
    target: PathBuf,
}

/// Writes the image to the file.
pub fn run(arguments: &Arguments) -> Result<()> {
    let target = &arguments.target;
    let size = fs::metadata(target).with_context(|| format!("looking at {}", target.display()))?;
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let stop = Stop::default();
    let fetch = Fetch {
        urls: vec![arguments.url.parse().context("parsing the URL")?],
        client: http::client(&http::Options::default())?,
        access: Access::default(),
        accept: None,
        runtime: runtime.handle().clone(),
        stop: stop.clone(),
        sink: Arc::new(Lines),
        stall_timeout: DEFAULT_STALL_TIMEOUT.0,
        proven_by_digest: true,
        connections: 1,
    };
    let device = Device::open(target, size.len(), SECTOR)?;
    let served = Expected { sha256: Some(arguments.sha256), sha512: None };
    let proof = Proof { served, read_back: true, ..Proof::default() };
    image::stream(fetch.open()?, &device, &proof, &stop, &Lines)?;
    Ok(())
}

/// What the engine says, on stderr.
struct Lines;

impl Sink for Lines {
    fn progress(&self, _: Progress) {}

    fn reset(&self, reason: String) {
        eprintln!("reset: {reason}");
    }

    fn warning(&self, message: String) {
        eprintln!("warning: {message}");
    }

    fn log(&self, _: LogLevel, message: String) {
        eprintln!("{message}");
    }
}
