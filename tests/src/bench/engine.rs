//! The image engine in a process of its own: on a regular file, which the action takes for no disk,
//! with what the action gives it by default; and parts of it alone, which tell what is possible.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Subcommand;
use nibs_actions::image::{
    self, Access, Device, Expected, Fetch, FileSource, Proof, Source, Target,
};
use nibs_actions::{Sink, Stop, http};
use nibs_job::params::DEFAULT_STALL_TIMEOUT;
use nibs_job::{HexDigest, LogLevel, Progress};
use tokio::runtime::{Builder, Runtime};

/// As many as the agent has.
const WORKERS: usize = 2;
const SECTOR: u32 = 512;
/// More than any image has.
const ROOM: u64 = 1 << 40;

/// What the engine does.
#[derive(Debug, Subcommand)]
pub enum Engine {
    /// Write an image to a file, proven and read back.
    Write {
        /// Where the image is.
        #[arg(long)]
        url: String,
        /// SHA-256 of the bytes as served.
        #[arg(long)]
        sha256: HexDigest<32>,
        /// A file of the image's size.
        #[arg(long)]
        target: PathBuf,
    },
    /// Fetch an image, to nowhere.
    Fetch {
        /// Where it is.
        #[arg(long)]
        url: String,
    },
    /// Decode an image from a file, to nowhere.
    Decode {
        /// The file.
        #[arg(long)]
        file: PathBuf,
    },
}

impl Engine {
    /// Does it.
    pub fn run(&self) -> Result<()> {
        let stop = Stop::default();
        match self {
            Self::Write { url, sha256, target } => {
                let size = fs::metadata(target)
                    .with_context(|| format!("looking at {}", target.display()))?;
                let runtime = runtime()?;
                let source = fetch(url, &runtime, &stop)?;
                let device = Device::open(target, size.len(), SECTOR)?;
                let served = Expected { sha256: Some(*sha256), sha512: None };
                let proof = Proof { served, read_back: true, ..Proof::default() };
                image::stream(source, &device, &proof, &stop, &Lines)?;
            }
            Self::Fetch { url } => {
                let runtime = runtime()?;
                let mut source = fetch(url, &runtime, &stop)?;
                while source.next()?.is_some() {}
            }
            Self::Decode { file } => {
                let source = Box::new(FileSource::open(file)?);
                image::stream(source, &Nowhere, &Proof::default(), &stop, &Lines)?;
            }
        }
        Ok(())
    }
}

fn runtime() -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(WORKERS).enable_all().build().context("starting a runtime")
}

fn fetch(url: &str, runtime: &Runtime, stop: &Stop) -> Result<Box<dyn Source>> {
    let fetch = Fetch {
        urls: vec![url.parse().context("parsing the URL")?],
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
    Ok(fetch.open()?)
}

/// A disk that takes everything at once and keeps nothing.
struct Nowhere;

impl Target for Nowhere {
    fn path(&self) -> &Path {
        Path::new("nowhere")
    }

    fn size(&self) -> u64 {
        ROOM
    }

    fn sector_size(&self) -> u32 {
        SECTOR
    }

    fn manner(&self) -> &'static str {
        "not at all"
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn zero(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn read(&self, _: u64, into: &mut [u8]) -> io::Result<()> {
        into.fill(0);
        Ok(())
    }

    fn reads_behind(&self) -> bool {
        false
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::server::Server;
    use super::*;

    /// 3 MiB without a partition table.
    fn image() -> Vec<u8> {
        (0..3u32 << 20).map(|at| at.wrapping_mul(at) as u8).collect()
    }

    #[test]
    fn decoding_alone_reads_the_whole_and_notices_damage() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("image.zst");
        let mut packed = zstd::bulk::compress(&image(), 1).unwrap();
        fs::write(&file, &packed).unwrap();
        Engine::Decode { file: file.clone() }.run().unwrap();
        packed.pop();
        fs::write(&file, &packed).unwrap();
        assert!(Engine::Decode { file }.run().is_err());
    }

    #[test]
    fn fetching_alone_reads_from_the_server_only() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("image"), image()).unwrap();
        let server = Server::start(directory.path(), Ipv4Addr::LOCALHOST).unwrap();
        Engine::Fetch { url: server.url("image") }.run().unwrap();
        assert!(Engine::Fetch { url: server.url("other") }.run().is_err());
    }
}
