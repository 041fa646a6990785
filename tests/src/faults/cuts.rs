//! The power goes at random moments of an install.
//!
//! A moment is a count of what the disk has done, and not a time: so it means the same on a host
//! that has more to do. One install that is not disturbed tells how much there is.

use std::fmt;
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Random;
use super::reference::Found;
use super::site::{Site, watch};
use crate::drive::Manner;
use crate::qmp::Work;

/// After the last write before it and the moment of the cut there is at most so much. Microseconds.
const JITTER: RangeInclusive<u64> = 0..=3000;
/// Flushes before what makes a disk start is written: of what was cleared, and of the data.
const BEFORE_COMMIT: u64 = 2;
/// Flushes until the image is there for good: those, and of what was held back and of the seals.
const COMMITTED: u64 = 4;

/// What was found after the cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Disks that held the old system.
    pub old: usize,
    /// Disks that do not boot.
    pub nothing: usize,
    /// Disks that held the whole image.
    pub whole: usize,
}

/// What an install asks of a disk, in requests.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Course {
    all: RangeInclusive<u64>,
    commit: RangeInclusive<u64>,
}

/// Cuts the power so often, at moments drawn from `seed`: over the whole install, and every second
/// time while what makes the disk start is written. After each cut the disk does not boot or is
/// whole, and a run on the same disk ends installed.
pub fn run(site: &mut Site, cuts: usize, seed: u64) -> Result<Tally> {
    println!("{cuts} power cuts, NIBS_SEED={seed}");
    let course = rehearse(site).context("installing without a cut")?;
    let mut random = Random::new(seed);
    let mut tally = Tally::default();
    for number in 1..=cuts {
        let (phase, range) = match number % 2 {
            0 => ("in the commit", &course.commit),
            _ => ("anywhere", &course.all),
        };
        let requests = random.within(range);
        let jitter = Duration::from_micros(random.within(&JITTER));
        let told = format!("cut {number} of {cuts} ({phase}, at request {requests} + {jitter:?})");
        let cut = cut(site, requests, jitter).with_context(|| told.clone())?;
        println!("{told}: {cut}");
        match cut.found {
            Found::Old => tally.old += 1,
            Found::Nothing => tally.nothing += 1,
            Found::Whole => tally.whole += 1,
        }
    }
    println!("{tally}");
    Ok(tally)
}

/// One cut and what came after it.
struct Cut {
    seen: Work,
    found: Found,
    /// Whether the server had the end of the job already.
    reported: bool,
    again: Duration,
}

fn cut(site: &mut Site, requests: u64, jitter: Duration) -> Result<Cut> {
    site.reference.put_old(&site.disk())?;
    let mut assigned = site.assign(|_| true)?;
    let mut machine = site.power_on(&assigned, Manner::Sound)?;
    let seen = watch(&mut machine, |work| work.writes + work.flushes >= requests)?;
    thread::sleep(jitter);
    machine.cut_power()?;
    let found = site.reference.look(&site.disk())?;

    let again = Instant::now();
    // A job that has ended is not offered again.
    let reported = site.outcome(&assigned).is_some();
    if reported {
        assigned = site.assign(|_| true)?;
    }
    site.install(&assigned).context("installing after the cut")?;
    Ok(Cut { seen, found, reported, again: again.elapsed() })
}

fn rehearse(site: &mut Site) -> Result<Course> {
    site.reference.put_old(&site.disk())?;
    let assigned = site.assign(|_| true)?;
    let mut machine = site.power_on(&assigned, Manner::Sound)?;
    let (mut first, mut committed) = (None, None);
    let last = watch(&mut machine, |work| {
        let requests = work.writes + work.flushes;
        if work.flushes >= BEFORE_COMMIT {
            first.get_or_insert(requests);
        }
        if work.flushes >= COMMITTED {
            committed.get_or_insert(requests);
        }
        false
    })?;
    site.follow(&assigned, &mut machine)?;
    site.reference.check_installed(&site.disk(), &assigned.job)?;
    let all = last.writes + last.flushes;
    let from = first.context("the data was never flushed")?;
    let to = committed.context("the image was never committed")?;
    println!("without a cut: {last}, what makes the disk start at requests {from} to {to}");
    Ok(Course { all: 1..=all, commit: from..=to })
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = match self.found {
            Found::Old => "the old system",
            Found::Nothing => "does not boot",
            Found::Whole => "the whole image",
        };
        let reported = if self.reported { ", reported" } else { "" };
        let seconds = self.again.as_secs_f64();
        write!(f, "{}: {found}{reported}; then installed in {seconds:.1} s", self.seen)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, nothing, whole } = self;
        let all = old + nothing + whole;
        write!(
            f,
            "{all} cuts: {nothing} disks do not boot, {whole} hold the whole image, {old} the old \
             system; {all} installed after"
        )
    }
}
