//! The log that QEMU's `blklogwrites` keeps, in the format of the kernel's dm-log-writes
//! (`Documentation/admin-guide/device-mapper/log-writes.rst`, `drivers/md/dm-log-writes.c`).
//!
//! ```text
//!  sector 0      superblock: magic, version, number of entries (u64), sector size (u32)
//!  each entry    one sector: sector, sectors, flags, length of a mark (u64); then what was written
//! ```

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::table::SECTOR;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// What was done to a disk, in order.
#[derive(Debug)]
pub(super) struct WriteLog {
    file: File,
    pub(super) entries: Vec<Entry>,
}

/// One thing done to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Write(Write),
    Flush,
}

/// A write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    /// Where on the disk. Bytes.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) length: u64,
    /// Where its bytes are in the log.
    place: u64,
}

impl WriteLog {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let entries = parse(&file).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { file, entries })
    }

    /// Fills `into` with what was written, from byte `from` of the write on.
    pub(super) fn read(&self, write: &Write, from: u64, into: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(into, write.place + from).context("reading the log of writes")
    }
}

fn parse(file: &File) -> Result<Vec<Entry>> {
    let [magic, version, count, sector] = four(file, 0)?;
    ensure!(magic == MAGIC && version == VERSION, "it is no log of writes");
    ensure!(sector & 0xffff_ffff == SECTOR as u64, "its sectors are not {SECTOR} bytes");
    let mut place = SECTOR as u64;
    let mut entries = Vec::new();
    for _ in 0..count {
        let [sector, sectors, flags, _] = four(file, place)?;
        place += SECTOR as u64;
        let length = sectors * SECTOR as u64;
        if flags & (DISCARD | MARK) != 0 {
            bail!("at sector {sector} something was done that is neither write nor flush: {flags}");
        }
        if length > 0 {
            entries.push(Entry::Write(Write { offset: sector * SECTOR as u64, length, place }));
            place += length;
        }
        if flags & FLUSH != 0 {
            entries.push(Entry::Flush);
        }
    }
    Ok(entries)
}

fn four(file: &File, place: u64) -> Result<[u64; 4]> {
    let mut bytes = [0; 32];
    file.read_exact_at(&mut bytes, place)?;
    Ok([0, 8, 16, 24].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))))
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Writes a log: what was written where, or none for a flush.
    pub(in crate::faults) fn log(directory: &Path, done: &[Option<(u64, Vec<u8>)>]) -> PathBuf {
        let mut bytes = Vec::new();
        let mut sector = |numbers: [u64; 4]| {
            let at = bytes.len();
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            bytes.resize(at + SECTOR, 0);
            std::mem::take(&mut bytes)
        };
        let mut log = sector([MAGIC, VERSION, done.len() as u64, SECTOR as u64]);
        for done in done {
            let (offset, data) = done.clone().unwrap_or_default();
            let unit = SECTOR as u64;
            let flags = if done.is_none() { FLUSH } else { 0 };
            log.extend(sector([offset / unit, data.len() as u64 / unit, flags, 0]));
            log.extend(data);
        }
        let path = directory.join("writes.log");
        std::fs::write(&path, log).unwrap();
        path
    }

    #[test]
    fn writes_and_flushes_come_out_in_their_order() {
        let directory = tempfile::tempdir().unwrap();
        let done = [Some((1024, vec![7; 512])), None, Some((0, vec![8; 1024])), None];
        let log = WriteLog::open(&log(directory.path(), &done)).unwrap();
        let writes: Vec<_> = log
            .entries
            .iter()
            .map(|entry| match entry {
                Entry::Write(write) => {
                    let mut bytes = vec![0; write.length as usize];
                    log.read(write, 0, &mut bytes).unwrap();
                    Some((write.offset, bytes))
                }
                Entry::Flush => None,
            })
            .collect();
        assert_eq!(writes, done);
    }

    #[test]
    fn what_is_no_log_or_has_a_discard_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = log(directory.path(), &[Some((0, vec![0; 512]))]);
        let good = std::fs::read(&path).unwrap();
        for (at, byte) in [(0, 0), (24, 7), (SECTOR + 16, 4)] {
            let mut bad = good.clone();
            bad[at] = byte;
            std::fs::write(&path, bad).unwrap();
            assert!(WriteLog::open(&path).is_err(), "{at}");
        }
    }
}
