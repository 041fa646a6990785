//! Whether the disk holds what was written: read past the caches of this machine, and compared
//! with digests that were taken on the way.
//!
//! The digest is XXH3-128: what it has to find are faults of media, cables, controllers and memory,
//! not forgers, who are met by the image's own digest; and it costs next to nothing. One for every
//! extent of 4 MiB makes 4 MiB for a TiB.

use std::ops::Range;
use std::sync::mpsc::Receiver;

use twox_hash::XxHash3_128;

use super::buffer::Buffer;
use super::held::gaps;
use super::{Error, Result, Target};
use crate::Stop;

/// What the writer tells the reader behind it.
#[derive(Debug)]
pub(super) enum Told {
    /// These ranges are not on the disk yet.
    Held(Vec<Range<u64>>),
    /// The next extent is on the disk: its length, and the digest of all in it that is not held.
    Extent(u64, u128),
}

/// The digest of those parts of an extent that are not held.
pub(super) fn digest(offset: u64, extent: &[u8], free: &[Range<u64>]) -> u128 {
    if let [all] = free
        && all.end - all.start == extent.len() as u64
    {
        return XxHash3_128::oneshot(extent);
    }
    let mut hasher = XxHash3_128::new();
    for range in free {
        hasher.write(&extent[(range.start - offset) as usize..(range.end - offset) as usize]);
    }
    hasher.finish_128()
}

/// Reads every extent that it is told of, until the writer has nothing more to tell. Gives those
/// that are not as they were written, in order and joined.
pub(super) fn read_back(
    target: &dyn Target,
    told: &Receiver<Told>,
    stop: &Stop,
) -> Result<Vec<Range<u64>>> {
    // Where reading has to wait for the last write, all is told first.
    let first: Vec<Told> = if target.reads_behind() { Vec::new() } else { told.iter().collect() };
    let mut buffer = Buffer::new();
    let (mut held, mut offset, mut bad) = (Vec::new(), 0, Vec::new());
    for told in first.into_iter().chain(told.iter()) {
        let (length, expected) = match told {
            Told::Held(ranges) => {
                held = ranges;
                continue;
            }
            Told::Extent(length, digest) => (length, digest),
        };
        stop.check()?;
        let extent = offset..offset + length;
        offset = extent.end;
        let bytes = &mut buffer.whole()[..length as usize];
        let free = gaps(&held, extent.clone());
        // A sector that cannot be read may well be writable: the disk has others in reserve.
        let is_good = target.read(extent.start, bytes).is_ok()
            && digest(extent.start, bytes, &free) == expected;
        if !is_good {
            join(&mut bad, extent);
        }
    }
    Ok(bad)
}

fn join(ranges: &mut Vec<Range<u64>>, next: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => ranges.push(next),
    }
}

/// Says that nothing was misread, or where.
pub(super) fn verdict(target: &dyn Target, bad: Vec<Range<u64>>) -> Result<()> {
    if bad.is_empty() {
        return Ok(());
    }
    Err(Error::Misread { disk: target.path().to_owned(), ranges: bad })
}
