//! A machine's disk as QEMU has it: a raw file, and what stands before it.
//!
//! Two of QEMU's block drivers make the faults of real disks: `blkdebug` fails chosen requests with
//! EIO, `blklogwrites` keeps a log of all that was written and flushed
//! (`qapi/block-core.json` of QEMU describes both).

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Node of the disk in QEMU's graph, which the device and statistics name.
pub const NODE: &str = "disk";

/// Room for a log of writes. It has to be there before, and costs nothing until it is used. Bytes.
const LOG_SIZE: u64 = 8 << 30;

/// A disk: its size, and what it does besides keeping bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// Bytes. A disk whose file is not there yet starts empty.
    pub size: u64,
    /// What it does.
    pub manner: Manner,
}

/// How a disk behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// As it should.
    Sound,
    /// As it should, and each write and flush is kept in `writes.log`.
    Logged,
    /// It fails these requests.
    Faulty(Vec<Fault>),
}

/// Requests that fail with EIO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What is asked for.
    pub request: Request,
    /// Only requests that touch this sector of 512 bytes; else all. A flush touches none.
    pub sector: Option<u64>,
    /// When.
    pub when: When,
}

/// What can be asked of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// To read.
    Read,
    /// To write bytes.
    Write,
    /// To make a range zero without being sent zeros.
    Zero,
    /// To make durable what was written.
    Flush,
}

/// When a fault shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Each time.
    Always,
    /// The first time only.
    Once,
    /// From the flush of this number on, counted from 1.
    FromFlush(u16),
}

impl Drive {
    /// A disk without faults.
    pub fn sound(size: u64) -> Self {
        Self { size, manner: Manner::Sound }
    }

    /// Makes its files in `directory`, where they are not there yet, and gives the value of QEMU's
    /// `-blockdev`.
    pub(crate) fn blockdev(&self, directory: &Path) -> Result<String> {
        let image = directory.join("disk.img");
        if !image.exists() {
            sparse(&image, self.size)?;
        }
        let file = json!({
            "driver": "file",
            "filename": image,
            "discard": "unmap",
        });
        let raw = |file: Value| {
            json!({
                "driver": "raw",
                "file": file,
                "discard": "unmap",
                // What is lost with the lab need not reach the host's disk: a flush is seen by all
                // that stands before the file, and goes no further.
                "cache": { "no-flush": true },
            })
        };
        let mut disk = match &self.manner {
            Manner::Sound => raw(file),
            Manner::Logged => {
                let log = directory.join("writes.log");
                sparse(&log, LOG_SIZE)?;
                json!({
                    "driver": "blklogwrites",
                    "file": raw(file),
                    "log": { "driver": "file", "filename": log },
                    "discard": "unmap",
                })
            }
            Manner::Faulty(faults) => {
                let mut debug = json!({
                    "driver": "blkdebug",
                    "image": raw(file),
                    "discard": "unmap",
                });
                // QEMU takes an empty list for an option that it does not know.
                let rules: Vec<Value> = faults.iter().map(Fault::rule).collect();
                for (name, list) in [("inject-error", rules), ("set-state", count_flushes(faults))]
                {
                    if !list.is_empty() {
                        debug[name] = json!(list);
                    }
                }
                // Flushes are announced to the driver below, which is how it counts them.
                json!({ "driver": "raw", "file": debug, "discard": "unmap" })
            }
        };
        disk["node-name"] = json!(NODE);
        Ok(disk.to_string())
    }
}

impl Fault {
    /// A fault that shows each time, wherever.
    pub fn always(request: Request) -> Self {
        Self { request, sector: None, when: When::Always }
    }

    /// The same at one sector only.
    pub fn at(self, sector: u64) -> Self {
        Self { sector: Some(sector), ..self }
    }

    /// The same at another time.
    pub fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    fn rule(&self) -> Value {
        let kind = match self.request {
            Request::Read => "read",
            Request::Write => "write",
            Request::Zero => "write-zeroes",
            Request::Flush => "flush",
        };
        let mut rule = json!({
            // Armed from the start.
            "event": "none",
            "iotype": kind,
            "errno": libc::EIO,
            "once": self.when == When::Once,
        });
        if let Some(sector) = self.sector {
            rule["sector"] = json!(sector);
        }
        if let When::FromFlush(number) = self.when {
            rule["event"] = json!("flush_to_disk");
            rule["state"] = json!(number);
        }
        rule
    }
}

/// The driver starts in state 1; each flush takes it to the next, up to the last that matters.
fn count_flushes(faults: &[Fault]) -> Vec<Value> {
    let last = faults.iter().filter_map(|fault| match fault.when {
        When::FromFlush(number) => Some(number),
        _ => None,
    });
    (1..last.max().unwrap_or(1))
        .map(|state| json!({ "event": "flush_to_disk", "state": state, "new_state": state + 1 }))
        .collect()
}

fn sparse(path: &Path, size: u64) -> Result<()> {
    File::create(path)
        .and_then(|file| file.set_len(size))
        .with_context(|| format!("making {}", path.display()))
}
