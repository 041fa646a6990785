//! What a disk may hold: made with other tools than the ones that are tested.
//!
//! The disk held an older version of the same system, with the same partitions: tables, boot
//! sectors and EFI system partitions of before are where the new ones go, and a table of before
//! that survives would boot a half of each.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nibs_job::{Job, Task};

use super::table::{BACKUP, END, Ends, SECTOR};
use crate::artefacts::DiskImage;
use crate::process::run;

/// How much larger than the image a disk is, so that the backup table has to move. Bytes.
const SPARE: u64 = 16 << 20;
/// What the disk is full of.
const OLD: u8 = 0x11;
/// Of each EFI system partition, the agent clears and holds back so much. Bytes.
const ESP_HEAD: u64 = 1 << 20;
/// Bytes read or written at once.
const STEP: u64 = 1 << 20;
/// Name of the partition that a job's files go to.
const PRIVATE: &str = "BOTTLEROCKET-PRIVATE";

/// What the disk held before, and what it has to hold after.
#[derive(Debug)]
pub struct Reference {
    old: PathBuf,
    whole: PathBuf,
    /// Bytes of the disk.
    size: u64,
    /// Bytes of the image.
    image: u64,
    esps: Vec<Range<u64>>,
    private: Range<u64>,
}

/// What a disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The system of before, of which nothing but what makes it start may be gone.
    Old,
    /// Nothing that firmware would start.
    Nothing,
    /// The whole image.
    Whole,
}

impl Reference {
    /// Makes both in `directory`.
    pub fn make(image: &DiskImage, directory: &Path) -> Result<Self> {
        let whole = directory.join("whole.img");
        let output = File::create(&whole).context("making the reference")?;
        let mut lz4 = Command::new("lz4");
        lz4.args(["-dcq"]).arg(&image.path).stdin(Stdio::null()).stdout(output);
        let status = lz4.status().context("starting lz4")?;
        ensure!(status.success(), "running {lz4:?}: {status}");
        Self::of(whole, &directory.join("old.img"), SPARE)
    }

    /// Of an image, which becomes a disk that is `spare` bytes larger.
    pub(super) fn of(whole: PathBuf, old: &Path, spare: u64) -> Result<Self> {
        let disk = File::options().read(true).write(true).open(&whole)?;
        let image = disk.metadata()?.len();
        let size = image + spare;
        disk.set_len(size)?;
        if spare > 0 {
            run("sgdisk", &["--move-second-header".as_ref(), whole.as_os_str()])?;
            // Where the image had its backup, a disk of this size has none.
            disk.write_all_at(&[0; BACKUP as usize], image - BACKUP)?;
        }
        let ends = Ends::read(&disk)?;
        ensure!(ends.has_first_table() && ends.has_backup(), "sgdisk left no sound tables");
        let partitions = ends.partitions()?;
        let esps = partitions.iter().filter(|p| p.is_esp).map(|p| {
            let end = p.range.end.min(p.range.start + ESP_HEAD);
            p.range.start..end
        });
        let private = partitions.iter().find(|partition| partition.name == PRIVATE);
        let reference = Self {
            old: old.to_owned(),
            size,
            image,
            esps: esps.collect(),
            private: private.with_context(|| format!("the image has no {PRIVATE}"))?.range.clone(),
            whole,
        };
        reference.make_old(&disk).context("making the older version")?;
        Ok(reference)
    }

    fn make_old(&self, whole: &File) -> Result<()> {
        let old = File::create(&self.old)?;
        let other = [OLD; STEP as usize];
        for offset in (0..self.size).step_by(STEP as usize) {
            let length = STEP.min(self.size - offset) as usize;
            old.write_all_at(&other[..length], offset)?;
        }
        let ends = [0..END as u64, self.size - BACKUP..self.size];
        for same in ends.iter().chain(&self.esps) {
            let mut bytes = vec![0; (same.end - same.start) as usize];
            whole.read_exact_at(&mut bytes, same.start)?;
            old.write_all_at(&bytes, same.start)?;
        }
        Ok(())
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the image.
    pub fn image(&self) -> u64 {
        self.image
    }

    /// The first sector that an install writes among the image's data: it is not held back, and no
    /// zeros.
    pub fn data_sector(&self) -> Result<u64> {
        let whole = open(&self.whole)?;
        let mut sector = [0; SECTOR];
        for data in without(&(0..self.image), &self.cleared()) {
            for offset in data.step_by(SECTOR) {
                whole.read_exact_at(&mut sector, offset)?;
                if sector != [0; SECTOR] {
                    return Ok(offset / SECTOR as u64);
                }
            }
        }
        bail!("the image has no data");
    }

    /// The disk's last sector, which has the header of the backup table.
    pub fn last_sector(&self) -> u64 {
        self.size / SECTOR as u64 - 1
    }

    /// Makes `disk` hold the older version, and nothing else.
    pub fn put_old(&self, disk: &Path) -> Result<()> {
        fs::copy(&self.old, disk).with_context(|| format!("writing {}", disk.display()))?;
        Ok(())
    }

    /// What a disk holds; fails if it is something that must never be found. The partition that a
    /// job's files go to may hold anything.
    pub fn look(&self, disk: &Path) -> Result<Found> {
        let file = open(disk)?;
        let ends = Ends::read(&file)?;
        if !ends.starts() {
            return Ok(Found::Nothing);
        }
        let private = std::slice::from_ref(&self.private);
        let but_private: Vec<_> =
            self.proven().iter().flat_map(|range| without(range, private)).collect();
        let Some(wrong) = difference(&file, &open(&self.whole)?, &but_private)? else {
            return Ok(Found::Whole);
        };
        let untouched = without(&(0..self.size), &self.cleared());
        let Some(changed) = difference(&file, &open(&self.old)?, &untouched)? else {
            return Ok(Found::Old);
        };
        bail!(
            "{} would be started, and is neither the old system (byte {changed} differs) nor the \
             whole image (byte {wrong} differs)",
            disk.display()
        );
    }

    /// Fails unless the disk holds the whole image, sound tables that `sgdisk` finds nothing wrong
    /// with, and the files of the job.
    pub fn check_installed(&self, disk: &Path, job: &Job) -> Result<()> {
        let found = self.look(disk)?;
        ensure!(found == Found::Whole, "{} does not hold the image: {found:?}", disk.display());
        let ends = Ends::read(&open(disk)?)?;
        ensure!(ends.has_first_table(), "{} has no table at its start", disk.display());
        ensure!(ends.has_backup(), "{} has no table at its end", disk.display());
        let verdict = run("sgdisk", &["--verify".as_ref(), disk.as_os_str()])?;
        ensure!(verdict.contains("No problems found"), "sgdisk: {verdict}");
        let files = job.actions.iter().flat_map(|action| match &action.task {
            Task::WriteFiles(with) => with.files.as_slice(),
            _ => &[],
        });
        let copy = disk.with_file_name("file");
        for file in files {
            let path = file.path.display();
            let filesystem = format!("{}?offset={}", disk.display(), self.private.start);
            let _ = fs::remove_file(&copy);
            run("debugfs", &["-R", &format!("dump {path} {}", copy.display()), &filesystem])?;
            let found = fs::read(&copy).with_context(|| format!("{path} is not on the disk"))?;
            let expected = file.content.bytes().map_err(anyhow::Error::msg)?;
            ensure!(found == expected, "{path} is not as the job has it");
        }
        Ok(())
    }

    /// The first byte of the image that is not on the disk as it has to be, save for the sectors by
    /// which the tables are found.
    pub(super) fn missing(&self, disk: &File) -> Result<Option<u64>> {
        difference(disk, &open(&self.whole)?, &self.proven())
    }

    /// What a disk has to hold before it has a table. What is behind the image and was not cleared
    /// is nobody's. The sectors by which tables are found differ in what sgdisk and Nibs may choose.
    fn proven(&self) -> Vec<Range<u64>> {
        let tail = self.size - END as u64;
        let between = self.image..tail.max(self.image);
        without(&(2 * SECTOR as u64..self.size - SECTOR as u64), &[between])
    }

    /// What the agent clears before it writes anything.
    pub(super) fn cleared(&self) -> Vec<Range<u64>> {
        let ends =
            [0..END as u64, self.image - BACKUP..self.image, self.size - END as u64..self.size];
        ends.into_iter().chain(self.esps.iter().cloned()).collect()
    }

    /// The sectors that come last.
    pub(super) fn seals(&self) -> [Range<u64>; 2] {
        [0..2 * SECTOR as u64, self.size - SECTOR as u64..self.size]
    }
}

/// Opens a file to read it.
pub(super) fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

/// The first byte in `ranges` that differs.
pub(super) fn difference(one: &File, other: &File, ranges: &[Range<u64>]) -> Result<Option<u64>> {
    let (mut first, mut second) = (vec![0; STEP as usize], vec![0; STEP as usize]);
    for range in ranges {
        for offset in range.clone().step_by(STEP as usize) {
            let length = STEP.min(range.end - offset) as usize;
            let (first, second) = (&mut first[..length], &mut second[..length]);
            one.read_exact_at(first, offset).context("reading a disk")?;
            other.read_exact_at(second, offset).context("reading a disk")?;
            // As a whole at first, which is quick.
            if first != second {
                let at = first.iter().zip(second.iter()).position(|(a, b)| a != b);
                return Ok(at.map(|at| offset + at as u64));
            }
        }
    }
    Ok(None)
}

/// The parts of a range that lie in none of `others`, in order.
pub(super) fn without(range: &Range<u64>, others: &[Range<u64>]) -> Vec<Range<u64>> {
    others.iter().fold(vec![range.clone()], |left, other| {
        let parts = left.into_iter().flat_map(|range| {
            let before = range.start..range.end.min(other.start);
            let after = range.start.max(other.end)..range.end;
            [before, after]
        });
        parts.filter(|part| !part.is_empty()).collect()
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::faults::table::tests::disk;

    /// Of an image that is full of bytes of its own; none where its tools are missing.
    pub(in crate::faults) fn reference(directory: &Path) -> Option<Reference> {
        let image = disk(directory)?;
        let file = File::options().write(true).open(&image).unwrap();
        file.write_all_at(&[0x77; 6 << 20], END as u64).unwrap();
        Some(Reference::of(image, &directory.join("old"), 4 << 20).unwrap())
    }

    #[test]
    fn a_disk_is_old_or_nothing_or_whole_or_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let Some(reference) = reference(directory.path()) else { return };
        let disk = directory.path().join("tried");
        reference.put_old(&disk).unwrap();
        assert_eq!(reference.look(&disk).unwrap(), Found::Old);
        let write = |offset: u64, byte: u8| {
            let file = File::options().write(true).open(&disk).unwrap();
            file.write_all_at(&[byte; SECTOR], offset).unwrap();
        };
        write(3 << 20, 0x77);
        let half = reference.look(&disk).unwrap_err().to_string();
        assert!(half.contains("neither the old system"), "{half}");
        for seal in reference.seals() {
            (seal.start..seal.end).step_by(SECTOR).for_each(|offset| write(offset, 0));
        }
        assert_eq!(reference.look(&disk).unwrap(), Found::Nothing);
        fs::copy(&reference.whole, &disk).unwrap();
        assert_eq!(reference.look(&disk).unwrap(), Found::Whole);
        write(reference.private.start, 1);
        assert_eq!(reference.look(&disk).unwrap(), Found::Whole);
        write(reference.private.end, 1);
        assert!(reference.look(&disk).is_err());
    }

    #[test]
    fn ranges_are_taken_out_of_a_range() {
        assert_eq!(without(&(0..10), &[8..12, 2..3]), [0..2, 3..8]);
        assert_eq!(without(&(3..4), &[0..2, 2..9]), []);
    }
}
