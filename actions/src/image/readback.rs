//! Whether the disk holds what was written: read past the caches of this machine, and compared
//! with digests that were taken on the way.
//!
//! The digest is XXH3-128: what it has to find are faults of media, cables, controllers and memory,
//! not forgers, who are met by the image's own digest; and it costs next to nothing. One for every
//! extent of 4 MiB makes 4 MiB for a TiB.

use std::io;
use std::ops::Range;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};

use twox_hash::XxHash3_128;

use super::buffer::Buffer;
use super::zeros::all_zero;
use super::{Error, Result, Target};
use crate::Stop;

/// How many extents are read at once, if the disk can be read while it is written. With two, reads
/// get the lesser share of a disk that is written by two lanes as well.
pub(super) const READERS: usize = 4;

/// How much is read at once: enough for any disk, and so little that it is still in the processor's
/// cache when it is looked at. Bytes.
const PIECE: u64 = 512 << 10;

/// A part of the image that is on the disk.
#[derive(Debug)]
pub(super) struct Extent {
    range: Range<u64>,
    /// What of it is on the disk: all but what is held back.
    parts: Vec<Range<u64>>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Zeros,
    Digest(u128),
}

impl Extent {
    /// Of an extent at `offset`, the parts that will be on the disk.
    pub(super) fn new(offset: u64, extent: &Buffer, parts: &[Range<u64>]) -> Self {
        let bytes = extent.filled();
        let range = offset..offset + bytes.len() as u64;
        let content = if extent.is_blank() {
            Content::Zeros
        } else {
            let mut hasher = XxHash3_128::new();
            for part in parts {
                hasher.write(&bytes[(part.start - offset) as usize..(part.end - offset) as usize]);
            }
            Content::Digest(hasher.finish_128())
        };
        Self { range, parts: parts.to_vec(), content }
    }

    /// Whether the disk has it as it was written.
    fn is_on(&self, target: &dyn Target, buffer: &mut Buffer) -> io::Result<bool> {
        let mut hasher = XxHash3_128::new();
        for part in &self.parts {
            let mut at = part.start;
            while at < part.end {
                let piece = &mut buffer.whole()[..PIECE.min(part.end - at) as usize];
                target.read(at, piece)?;
                match self.content {
                    Content::Zeros if !all_zero(piece) => return Ok(false),
                    Content::Zeros => {}
                    Content::Digest(_) => hasher.write(piece),
                }
                at += PIECE;
            }
        }
        Ok(match self.content {
            Content::Zeros => true,
            Content::Digest(digest) => digest == hasher.finish_128(),
        })
    }
}

/// What is not on the disk as it was written.
#[derive(Debug, Default)]
pub(super) struct Misread {
    ranges: Vec<Range<u64>>,
    /// Why some of it could not be read at all, the first time.
    unreadable: Option<io::Error>,
}

impl Misread {
    /// Notes what became of reading a range. One that cannot be read may well be writable: the disk
    /// has other sectors in reserve.
    pub(super) fn note(&mut self, range: Range<u64>, is_good: io::Result<bool>) {
        match is_good {
            Ok(true) => return,
            Ok(false) => {}
            Err(cause) => drop(self.unreadable.get_or_insert(cause)),
        }
        self.ranges.push(range);
    }

    /// What of several parts was found.
    pub(super) fn all(parts: Vec<Self>) -> Self {
        let mut all = Self::default();
        for part in parts {
            all.ranges.extend(part.ranges);
            all.unreadable = all.unreadable.or(part.unreadable);
        }
        all
    }

    /// Says that nothing was misread, or where.
    pub(super) fn verdict(self, target: &dyn Target) -> Result<()> {
        if self.ranges.is_empty() {
            return Ok(());
        }
        let disk = target.path().to_owned();
        let (ranges, unreadable) = (joined(self.ranges), self.unreadable);
        Err(Error::Misread { disk, ranges, unreadable })
    }
}

/// Reads extents until the writer has nothing more to tell.
pub(super) fn read_back(
    target: &dyn Target,
    told: &Mutex<Receiver<Extent>>,
    stop: &Stop,
) -> Result<Misread> {
    let told = || told.lock().unwrap_or_else(PoisonError::into_inner);
    // Where reading has to wait for the last write, all is told first, and to one reader.
    let mut first: Vec<Extent> =
        if target.reads_behind() { Vec::new() } else { told().iter().collect() };
    first.sort_by_key(|extent| extent.range.start);
    let (mut buffer, mut misread) = (Buffer::new(), Misread::default());
    let rest = std::iter::from_fn(|| told().recv().ok());
    for extent in first.into_iter().chain(rest) {
        stop.check()?;
        let is_good = extent.is_on(target, &mut buffer);
        misread.note(extent.range, is_good);
    }
    Ok(misread)
}

/// Those of some ranges that do not read as zeros.
pub(super) fn not_zero(target: &dyn Target, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut buffer = Buffer::new();
    let mut is_zero = |range: &Range<u64>| {
        let parts = vec![range.clone()];
        Extent { range: range.clone(), parts, content: Content::Zeros }.is_on(target, &mut buffer)
    };
    ranges.iter().filter(|range| !is_zero(range).unwrap_or(false)).cloned().collect()
}

/// Ranges in order, and joined where one ends at the start of the next.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let joins = last.end == next.start;
        if joins {
            last.end = next.end;
        }
        joins
    });
    ranges
}
