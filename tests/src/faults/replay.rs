//! Every state in which a loss of power could have left a disk, from the log of one run.
//!
//! Until a disk is told to flush, it may keep what is written to it in a cache of its own, and write
//! it to the medium in any order or never. So for each moment of the run: all before the last
//! flush is there, and of what came after it any sectors are.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::Random;
use super::reference::{Reference, difference, open, without};
use super::table::{Ends, SECTOR};
use super::write_log::{Entry, Write, WriteLog};

/// How many states are tried for each moment.
const DRAWS: usize = 24;
/// Bytes copied at once.
const STEP: u64 = 1 << 20;

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Writes of the run.
    pub writes: usize,
    /// Its flushes.
    pub flushes: usize,
    /// States that were looked at.
    pub states: usize,
    /// Of these, those that firmware would start something from.
    pub starting: usize,
}

/// Looks at the states of the run that is logged at `log`, which began with the reference's old disk
/// and left `after`. Fails at the first one that must never be found.
pub fn replay(log: &Path, after: &Path, reference: &Reference, seed: u64) -> Result<Replayed> {
    let log = WriteLog::open(log)?;
    let medium = after.with_file_name("medium.img");
    reference.put_old(&medium)?;
    let file = File::options().read(true).write(true).open(&medium)?;
    let mut disk = Disk {
        ends: Ends::read(&file)?,
        medium: file,
        log: &log,
        reference,
        cached: Vec::new(),
        flushes: 0,
        is_whole: None,
    };
    let mut random = Random::new(seed);
    let mut replayed = Replayed::default();
    for (moment, entry) in log.entries.iter().enumerate() {
        let at = || format!("the power goes after {moment} of {} requests", log.entries.len());
        disk.look(&mut random, &mut replayed).with_context(at)?;
        match entry {
            Entry::Write(write) => {
                disk.write(write).with_context(at)?;
                replayed.writes += 1;
            }
            Entry::Flush => {
                disk.flush()?;
                replayed.flushes += 1;
            }
        }
    }
    disk.look(&mut random, &mut replayed).context("the power goes at the end")?;
    ensure!(disk.cached.is_empty(), "the last thing that was done was no flush");
    // The log would be worth nothing if it were not all that happened.
    let all = 0..reference.size();
    if let Some(byte) = difference(&disk.medium, &open(after)?, std::slice::from_ref(&all))? {
        bail!("the log of writes does not lead to the disk that the run left: byte {byte}");
    }
    fs::remove_file(medium)?;
    Ok(replayed)
}

/// A disk with a cache.
struct Disk<'a> {
    medium: File,
    /// Both ends of what is on the medium.
    ends: Ends,
    log: &'a WriteLog,
    reference: &'a Reference,
    cached: Vec<Cached>,
    flushes: usize,
    /// Whether the medium has all of the image but the seals; none if that is not known.
    is_whole: Option<bool>,
}

/// What may be in the cache or on the medium.
struct Cached {
    write: Write,
    /// Those of its sectors that lie at either end of the disk, and where.
    sectors: Vec<(u64, Vec<u8>)>,
    /// Whether it is more than seals.
    is_data: bool,
}

impl Disk<'_> {
    fn write(&mut self, write: &Write) -> Result<()> {
        let range = write.offset..write.offset + write.length;
        if self.flushes == 0 {
            self.check_clearing(write, &range)?;
        }
        let tail = self.ends.tail_start();
        let middle = super::table::END as u64..tail;
        let mut sectors = Vec::new();
        for part in without(&range, &[middle]) {
            for offset in part.step_by(SECTOR) {
                let mut bytes = vec![0; SECTOR];
                self.log.read(write, offset - write.offset, &mut bytes)?;
                sectors.push((offset, bytes));
            }
        }
        let is_data = !without(&range, &self.reference.seals()).is_empty();
        self.cached.push(Cached { write: *write, sectors, is_data });
        Ok(())
    }

    /// Before the old system is gone for good, nothing of the new one may be there.
    fn check_clearing(&self, write: &Write, range: &Range<u64>) -> Result<()> {
        let beyond = without(range, &self.reference.cleared());
        ensure!(beyond.is_empty(), "{beyond:?} is written before the old tables are gone for good");
        let mut bytes = vec![0; write.length as usize];
        self.log.read(write, 0, &mut bytes)?;
        ensure!(bytes.iter().all(|byte| *byte == 0), "{range:?} is not cleared but written");
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut buffer = vec![0; STEP as usize];
        for cached in std::mem::take(&mut self.cached) {
            let write = cached.write;
            for from in (0..write.length).step_by(STEP as usize) {
                let bytes = &mut buffer[..STEP.min(write.length - from) as usize];
                self.log.read(&write, from, bytes)?;
                self.medium.write_all_at(bytes, write.offset + from)?;
            }
            for (offset, bytes) in &cached.sectors {
                self.ends.write(*offset, bytes);
            }
            if cached.is_data {
                self.is_whole = None;
            }
        }
        self.flushes += 1;
        Ok(())
    }

    fn look(&mut self, random: &mut Random, replayed: &mut Replayed) -> Result<()> {
        let draws = if self.cached.iter().any(|c| !c.sectors.is_empty()) { DRAWS } else { 1 };
        for _ in 0..draws {
            let ends = self.some(random);
            replayed.states += 1;
            // Until the first flush, the old system is all there is: see `check_clearing`.
            if ends.starts() {
                replayed.starting += 1;
                if self.flushes > 0 {
                    self.check_whole(&ends)?;
                }
            }
        }
        Ok(())
    }

    /// The ends of the disk, if some of the cached sectors are on the medium, in some order.
    fn some(&self, random: &mut Random) -> Ends {
        let mut sectors = Vec::new();
        for cached in &self.cached {
            // All of a write, none of it, or some.
            let share = random.within(&(0..=4));
            let written = cached.sectors.iter().filter(|_| random.within(&(0..=3)) < share);
            sectors.extend(written.cloned().collect::<Vec<_>>());
        }
        for at in (1..sectors.len()).rev() {
            sectors.swap(at, random.within(&(0..=at as u64)) as usize);
        }
        let mut ends = self.ends.clone();
        sectors.iter().for_each(|(offset, bytes)| ends.write(*offset, bytes));
        ends
    }

    /// Firmware would start it: then all is there but, at most, the seals.
    fn check_whole(&mut self, ends: &Ends) -> Result<()> {
        let tables = match (ends.has_first_table(), ends.has_backup()) {
            (true, true) => "both tables are",
            (true, false) => "the first table is",
            (false, true) => "the backup table is",
            (false, false) => "the boot sector is",
        };
        if let Some(data) = self.cached.iter().find(|cached| cached.is_data) {
            bail!("{tables} there, byte {} need not be", data.write.offset);
        }
        let whole = match self.is_whole {
            Some(whole) => whole,
            None => self.reference.missing(&self.medium)?.is_none(),
        };
        self.is_whole = Some(whole);
        ensure!(whole, "{tables} there, the image is not");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::reference::tests::reference;
    use super::super::write_log::tests::log;
    use super::*;

    type Done = Option<(u64, Vec<u8>)>;

    /// An image engine in five lines: what it does in order, each step ended by a flush.
    fn steps(reference: &Reference, whole: &Path) -> Vec<Vec<Done>> {
        let whole = fs::read(whole).unwrap();
        let zeros =
            |range: Range<u64>| Some((range.start, vec![0; (range.end - range.start) as usize]));
        let bytes = |range: Range<u64>| {
            Some((range.start, whole[range.start as usize..range.end as usize].to_vec()))
        };
        let held = reference.cleared();
        let seals = reference.seals();
        let image = 0..reference.image();
        vec![
            held.iter().cloned().map(zeros).collect(),
            without(&image, &held).into_iter().map(bytes).collect(),
            held.iter().flat_map(|held| without(held, &seals)).map(bytes).collect(),
            seals.into_iter().map(bytes).collect(),
        ]
    }

    /// What comes of a log of these steps.
    fn outcome(directory: &Path, reference: &Reference, steps: &[Vec<Done>]) -> Result<Replayed> {
        let (log, after) = carry_out(directory, reference, steps);
        replay(&log, &after, reference, 1)
    }

    /// The log of these steps, and the disk that they lead to.
    fn carry_out(
        directory: &Path,
        reference: &Reference,
        steps: &[Vec<Done>],
    ) -> (PathBuf, PathBuf) {
        let after = directory.join("after");
        reference.put_old(&after).unwrap();
        let file = File::options().write(true).open(&after).unwrap();
        for (offset, bytes) in steps.iter().flatten().flatten() {
            file.write_all_at(bytes, *offset).unwrap();
        }
        let done: Vec<Done> =
            steps.iter().flat_map(|step| step.iter().cloned().chain([None])).collect();
        (log(directory, &done), after)
    }

    #[test]
    fn an_order_that_is_safe_passes_and_each_that_is_not_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let Some(reference) = reference(directory) else { return };
        let good = steps(&reference, &directory.join("disk"));
        let replayed = outcome(directory, &reference, &good).unwrap();
        assert_eq!(replayed.flushes, 4);
        assert!(replayed.starting > 0 && replayed.states > replayed.starting);

        let joined = |first: usize| {
            let mut steps = good.clone();
            let second = steps.remove(first + 1);
            steps[first].extend(second);
            steps
        };
        let mut cases = vec![joined(0), joined(2)];
        // All in the right order, but one extent is forgotten.
        let mut forgotten = good.clone();
        forgotten[1].pop();
        cases.push(forgotten);
        let mut not_cleared = good.clone();
        not_cleared.remove(0);
        cases.push(not_cleared);
        let mut backup_not_cleared = good.clone();
        backup_not_cleared[0].retain(|done| done.as_ref().is_some_and(|(at, _)| *at < 6 << 20));
        cases.push(backup_not_cleared);
        for (number, case) in cases.iter().enumerate() {
            let found = outcome(directory, &reference, case);
            assert!(found.is_err(), "case {number}: {found:?}");
        }
    }

    #[test]
    fn a_log_that_is_not_all_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let Some(reference) = reference(directory) else { return };
        let good = steps(&reference, &directory.join("disk"));
        let (log, after) = carry_out(directory, &reference, &good);
        let file = File::options().write(true).open(&after).unwrap();
        file.write_all_at(&[5; SECTOR], 5 << 20).unwrap();
        let error = replay(&log, &after, &reference, 1).unwrap_err();
        assert!(error.to_string().contains("does not lead"), "{error}");
    }
}
