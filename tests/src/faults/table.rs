//! Whether firmware would start anything from a disk: its GPT at either end (UEFI 2.10, section
//! 5.3) and the boot sector of old.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};

/// Bytes of a sector. The lab's disks have no others.
pub(super) const SECTOR: usize = 512;
/// How much is looked at at either end of a disk: tables, and all of before that could start
/// anything. Bytes.
pub(super) const END: usize = 1 << 20;

const HEADER: usize = 92;
const ENTRIES: usize = 128;
const ENTRY: usize = 128;
/// What a table takes at the end of a disk: its entries and its header. Bytes.
pub(super) const BACKUP: u64 = (ENTRIES * ENTRY + SECTOR) as u64;
/// Type of an EFI system partition, C12A7328-F81F-11D2-BA4B-00A0C93EC93B, as it is on disk.
const ESP: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];

/// Both ends of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) head: Vec<u8>,
    pub(super) tail: Vec<u8>,
    /// Bytes of the disk.
    size: u64,
}

/// A partition, as a table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) name: String,
    pub(super) is_esp: bool,
    /// Bytes of the disk.
    pub(super) range: Range<u64>,
}

impl Ends {
    pub(super) fn read(disk: &File) -> Result<Self> {
        let size = disk.metadata().context("looking at a disk")?.len();
        ensure!(size >= 2 * END as u64, "a disk of {size} bytes has no two ends");
        let read = |offset: u64| {
            let mut bytes = vec![0; END];
            disk.read_exact_at(&mut bytes, offset).context("reading an end of a disk")?;
            anyhow::Ok(bytes)
        };
        Ok(Self { head: read(0)?, tail: read(size - END as u64)?, size })
    }

    /// Where the second end begins. Bytes.
    pub(super) fn tail_start(&self) -> u64 {
        self.size - END as u64
    }

    /// Changes what of these bytes, which are written at `offset`, belongs to either end.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let written = offset..offset + bytes.len() as u64;
        let tail_start = self.tail_start();
        for (end, start) in [(&mut self.head, 0), (&mut self.tail, tail_start)] {
            let from = written.start.max(start);
            let to = written.end.min(start + END as u64);
            if from < to {
                let of = |base: u64| (from - base) as usize..(to - base) as usize;
                end[of(start)].copy_from_slice(&bytes[of(offset)]);
            }
        }
    }

    /// Whether firmware would look for a loader on it, by a table at either end or by a boot sector.
    pub(super) fn starts(&self) -> bool {
        self.has_first_table() || self.has_backup() || self.head[510..512] == [0x55, 0xaa]
    }

    pub(super) fn has_first_table(&self) -> bool {
        self.is_table(SECTOR as u64)
    }

    pub(super) fn has_backup(&self) -> bool {
        self.is_table(self.size - SECTOR as u64)
    }

    /// The partitions of the first table.
    pub(super) fn partitions(&self) -> Result<Vec<Partition>> {
        ensure!(self.has_first_table(), "the disk has no GPT at its start");
        let header = self.at(SECTOR as u64, HEADER).context("the GPT's header")?;
        let entries = self.entries(header).context("the GPT's entries")?;
        let used = entries.chunks(ENTRY).filter(|entry| entry[..16] != [0; 16]);
        Ok(used
            .map(|entry| {
                let at = |field| number(entry, field, 8) * SECTOR as u64;
                let name: Vec<u16> = entry[56..]
                    .chunks(2)
                    .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                    .take_while(|unit| *unit != 0)
                    .collect();
                Partition {
                    name: String::from_utf16_lossy(&name),
                    is_esp: entry.starts_with(&ESP),
                    range: at(32)..at(40) + SECTOR as u64,
                }
            })
            .collect())
    }

    fn is_table(&self, offset: u64) -> bool {
        let Some(header) = self.at(offset, HEADER) else { return false };
        let mut unsealed = header.to_vec();
        unsealed[16..20].fill(0);
        header.starts_with(b"EFI PART")
            && number(header, 16, 4) == u64::from(crc32fast::hash(&unsealed))
            && number(header, 24, 8) * SECTOR as u64 == offset
            && self
                .entries(header)
                .is_some_and(|all| number(header, 88, 4) == u64::from(crc32fast::hash(all)))
    }

    fn entries(&self, header: &[u8]) -> Option<&[u8]> {
        self.at(number(header, 72, 8).checked_mul(SECTOR as u64)?, ENTRIES * ENTRY)
    }

    /// Bytes of the disk, if they are in one of its ends.
    fn at(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let (end, start) = match offset.checked_sub(self.tail_start()) {
            Some(inside) => (&self.tail, inside),
            None => (&self.head, offset),
        };
        let start = usize::try_from(start).ok()?;
        end.get(start..start.checked_add(length)?)
    }
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::process::run;

    pub(in crate::faults) const SIZE: u64 = 8 << 20;

    /// A disk of [`SIZE`] with an ESP at 2 MiB and a private partition at 5 MiB, as `sgdisk` makes
    /// it; none where that is not there.
    pub(in crate::faults) fn disk(directory: &Path) -> Option<PathBuf> {
        let path = directory.join("disk");
        File::create(&path).unwrap().set_len(SIZE).unwrap();
        let made = run(
            "sgdisk",
            &[
                "--new=1:4096:+2M",
                "--typecode=1:ef00",
                "--change-name=1:EFI-SYSTEM",
                "--new=2:10240:+1M",
                "--change-name=2:BOTTLEROCKET-PRIVATE",
                path.to_str().unwrap(),
            ],
        );
        if made.is_err() {
            eprintln!("skipped: needs sgdisk (./build.sh deps)");
        }
        made.ok().map(|_| path)
    }

    #[test]
    fn a_table_is_found_at_either_end_and_only_if_it_is_sound() {
        let directory = tempfile::tempdir().unwrap();
        let Some(path) = disk(directory.path()) else { return };
        let whole = Ends::read(&File::open(path).unwrap()).unwrap();
        assert!(whole.has_first_table() && whole.has_backup());
        let partitions = whole.partitions().unwrap();
        assert_eq!(partitions[0].range, 2 << 20..4 << 20);
        assert!(partitions[0].is_esp && !partitions[1].is_esp);
        assert_eq!(partitions[1].name, "BOTTLEROCKET-PRIVATE");

        let last = SIZE - SECTOR as u64;
        // Nothing; the boot sector; the first header; an entry of either; the backup's header.
        let cases: [(&[u64], bool); 5] = [
            (&[], true),
            (&[0, 512], true),
            (&[0, 512, last], false),
            (&[0, 1024, last - 512], true),
            (&[0, 1024, SIZE - BACKUP], false),
        ];
        for (broken, starts) in cases {
            let mut ends = whole.clone();
            for offset in broken {
                ends.write(*offset, &[0; SECTOR]);
            }
            assert_eq!(ends.starts(), starts, "without the sectors at {broken:?}");
        }
        let mut boot_sector = Ends { head: vec![0; END], tail: vec![0; END], size: SIZE };
        assert!(!boot_sector.starts());
        boot_sector.write(510, &[0x55, 0xaa]);
        assert!(boot_sector.starts());
    }
}
