//! Whether there is room for an image before it is unpacked.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use super::error::{Error, Result};
use super::image::Image;
use crate::Machine;
use crate::image::manifest::Descriptor;

/// What stays free for the agent and for what the program itself takes, bytes: the most that the
/// agent is meant to take.
const RESERVE: u64 = 64 << 20;

/// How much larger than its bytes as served a layer is thought to be where nothing tells: programs
/// are packed to a third or so.
const USUAL_RATIO: u64 = 3;

/// How much larger a layer hardly ever is. Where there is room for that, nobody is asked.
const EXTREME_RATIO: u64 = 12;

/// Length of the end of a gzip member that tells how long its content is (RFC 1952, ISIZE).
const ISIZE: u64 = 4;

/// Where an image is unpacked, and how much may be put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes.
    pub(super) free: u64,
    /// None: memory.
    pub(super) scratch: Option<PathBuf>,
}

impl Room {
    /// What memory or a mounted scratch directory has.
    pub(super) fn look(machine: &Machine, scratch: Option<&Path>) -> Result<Self> {
        let failed = |step: String| move |cause| Error::Prepare { step, cause };
        let free = match scratch {
            Some(directory) => {
                let found = statvfs(directory).map_err(|errno| {
                    failed(format!("looking for room in {}", directory.display()))(errno.into())
                })?;
                found.blocks_available() * found.fragment_size()
            }
            None => {
                let path = machine.proc.join("meminfo");
                let text = fs::read_to_string(&path)
                    .map_err(failed(format!("reading {}", path.display())))?;
                available(&text).unwrap_or(0).saturating_sub(RESERVE)
            }
        };
        Ok(Self { free, scratch: scratch.map(Path::to_owned) })
    }

    /// Refuses an image that does not fit.
    pub(super) fn check(&self, image: &Image, name: &str) -> Result<()> {
        if image.size().saturating_mul(EXTREME_RATIO) <= self.free {
            return Ok(());
        }
        let mut about = false;
        let needed = image.layers.iter().map(|layer| {
            let told = told(image, layer);
            about |= told.is_none();
            told.unwrap_or(layer.size.saturating_mul(USUAL_RATIO))
        });
        let needed = needed.fold(0_u64, u64::saturating_add);
        if needed <= self.free {
            return Ok(());
        }
        Err(Error::NoRoom {
            image: name.to_owned(),
            needed,
            about,
            free: self.free,
            place: self.place(),
            advice: self.advice(),
        })
    }

    /// What is said when an image turns out not to fit.
    pub(super) fn full(&self, name: &str) -> Error {
        let (image, free) = (name.to_owned(), self.free);
        Error::Full { image, free, place: self.place(), advice: self.advice() }
    }

    fn place(&self) -> String {
        match &self.scratch {
            Some(path) => path.display().to_string(),
            None => "memory".into(),
        }
    }

    fn advice(&self) -> &'static str {
        match self.scratch {
            Some(_) => "make room there",
            None => "give the machine more memory, or the action a scratch disk (scratch)",
        }
    }
}

/// How many bytes the archive of a layer has, where that can be known.
fn told(image: &Image, layer: &Descriptor) -> Option<u64> {
    let kind = layer.media_type.as_deref().unwrap_or_default();
    if kind.ends_with(".tar") {
        return Some(layer.size);
    }
    if !kind.ends_with("gzip") {
        return None;
    }
    let tail = image.place.tail(layer, ISIZE)?;
    let length = u64::from(u32::from_le_bytes(tail[..].try_into().ok()?));
    // Of several members, the last one's says nothing.
    (length >= layer.size).then_some(length)
}

/// `MemAvailable` of proc(5), bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::image::{Config, Place};
    use super::*;

    fn layered(media_type: &str, size: u64) -> Image {
        let layer = json!({ "mediaType": media_type, "digest": "sha256:00", "size": size });
        let layers = vec![serde_json::from_value(layer).unwrap()];
        Image { config: Config::default(), layers, place: Place::Layout("/nowhere".into()) }
    }

    #[test]
    fn an_image_that_does_not_fit_says_what_it_needs_and_what_is_there() {
        let room = Room { free: 1000 << 20, scratch: None };
        let tar = "application/vnd.oci.image.layer.v1.tar";
        room.check(&layered(tar, 900 << 20), "a").unwrap();
        let error = room.check(&layered(tar, 1001 << 20), "a").unwrap_err().to_string();
        assert!(error.starts_with("unpacking a: needs 1001.0 MiB (1049624576 bytes) in memory, "));
        assert!(error.contains("1000.0 MiB (1048576000 bytes) are there"), "{error}");
        assert!(error.ends_with("(scratch)"), "{error}");
        let error = room.check(&layered("zstd", 400 << 20), "a").unwrap_err().to_string();
        assert!(error.contains("needs about 1.2 GiB"), "{error}");
    }

    #[test]
    fn memory_is_what_the_kernel_has_to_give_less_what_the_agent_takes() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("meminfo"), "MemTotal: 9 kB\nMemAvailable: 102400 kB\n")
            .unwrap();
        let machine = Machine { proc: directory.path().into(), ..Machine::default() };
        assert_eq!(Room::look(&machine, None).unwrap().free, 36 << 20);
        assert!(Room::look(&machine, Some(directory.path())).unwrap().free > 0);
    }
}
