//! What is written to: a file, a loop device on one, or the file that is a virtual machine's disk;
//! full of old data.

use std::alloc::Layout;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde::{Deserialize, Serialize};

use crate::process::run;

/// What old data looks like.
const OLD: u8 = 0xaa;
/// How much is written or compared at once.
const CHUNK: usize = 4 << 20;
/// What direct I/O wants of memory addresses.
const ALIGNMENT: usize = 4096;

/// A kind of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A regular file of the image's size.
    File,
    /// A loop device on such a file, with direct I/O to it.
    Loop,
    /// A virtio disk in a virtual machine, with contenders in the machine.
    Vm,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::File, Self::Loop, Self::Vm];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Loop => "a loop device",
            Self::Vm => "a virtio disk",
        }
    }
}

/// The file of a target; the name is the one that a machine gives to its disk's.
const FILE: &str = "disk.img";

/// A target as a contender finds it. Gone when dropped.
#[derive(Debug)]
pub struct Target {
    file: PathBuf,
    device: Option<String>,
}

impl Target {
    /// Makes one of `size` bytes, all of them old data, none of them in the page cache.
    pub fn prepare(kind: Kind, scratch: &Path, size: u64) -> Result<Self> {
        let file = scratch.join(FILE);
        // From here on it is removed, whatever happens.
        let mut target = Self { file, device: None };
        fill(&target.file, size)
            .with_context(|| format!("filling {} with old data", target.file.display()))?;
        if kind == Kind::Loop {
            let file = target.file.display().to_string();
            let arguments = ["--find", "--show", "--partscan", "--direct-io=on", &file];
            target.device = Some(run("losetup", &arguments)?.trim().to_owned());
        }
        Ok(target)
    }

    /// Where to write to; of a virtual machine's disk, its file on this host.
    pub fn path(&self) -> &Path {
        self.device.as_ref().map_or(&self.file, Path::new)
    }

    /// Whether it is a block device.
    pub fn is_device(&self) -> bool {
        self.device.is_some()
    }

    /// How the target differs from the image; nothing if it does not.
    pub fn difference(&self, image: &Path) -> Result<Option<String>> {
        let mut image =
            File::open(image).with_context(|| format!("opening {}", image.display()))?;
        let mut target = File::open(self.path()).context("opening the target")?;
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        let (mut old, mut wrong) = (0, 0);
        loop {
            expected.clear();
            found.clear();
            (&mut image).take(CHUNK as u64).read_to_end(&mut expected).context("reading")?;
            (&mut target).take(CHUNK as u64).read_to_end(&mut found).context("reading")?;
            if expected.len() != found.len() {
                return Ok(Some("it has another length".to_owned()));
            }
            if expected.is_empty() {
                return Ok(describe(old, wrong));
            }
            if expected == found {
                continue;
            }
            for (expected, found) in expected.chunks(ALIGNMENT).zip(found.chunks(ALIGNMENT)) {
                let bytes = found.len() as u64;
                if expected == found {
                } else if found.iter().all(|&byte| byte == OLD) {
                    old += bytes;
                } else {
                    wrong += bytes;
                }
            }
        }
    }
}

fn describe(old: u64, wrong: u64) -> Option<String> {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    match (old, wrong) {
        (0, 0) => None,
        (_, 0) => Some(format!("{} MiB of old data are left", mib(old))),
        _ => Some(format!("{} MiB are wrong, {} MiB of old data are left", mib(wrong), mib(old))),
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(device) = &self.device
            && let Err(error) = run("losetup", &["--detach", device])
        {
            eprintln!("{error:#}");
        }
        // It may not have been made yet.
        let _ = fs::remove_file(&self.file);
    }
}

/// Writes past the page cache: gigabytes in it would be written out while the clock runs.
fn fill(path: &Path, size: u64) -> Result<()> {
    let file =
        OpenOptions::new().create(true).write(true).custom_flags(libc::O_DIRECT).open(path)?;
    file.set_len(size)?;
    let layout = Layout::from_size_align(CHUNK, ALIGNMENT)?;
    let memory = vec![OLD; layout.size() + layout.align()];
    let start = memory.as_ptr().align_offset(layout.align());
    let mut at = 0;
    while at < size {
        let length = (CHUNK as u64).min(size - at) as usize;
        file.write_all_at(&memory[start..start + length], at)?;
        at += length as u64;
    }
    file.sync_all()?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_apart_from_what_was_there_before() {
        let directory = tempfile::tempdir().unwrap();
        let target = Target::prepare(Kind::File, directory.path(), 5 << 20).unwrap();
        let image = directory.path().join("image");
        let compare = |bytes: &[u8]| {
            fs::write(&image, bytes).unwrap();
            target.difference(&image).unwrap()
        };
        let mut bytes = vec![OLD; 5 << 20];
        assert_eq!(compare(&bytes), None);
        bytes[3 << 20..].fill(0);
        assert_eq!(compare(&bytes).unwrap(), "2 MiB of old data are left");
        fs::write(target.path(), vec![7; 5 << 20]).unwrap();
        assert_eq!(compare(&bytes).unwrap(), "5 MiB are wrong, 0 MiB of old data are left");
        assert_eq!(compare(&bytes[1..]).unwrap(), "it has another length");
    }
}
