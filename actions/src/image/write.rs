//! The writer stage: the image onto the disk, except what is held back for the commit.
//!
//! In order of time: checks of the image's GPT against the disk; what the disk held is named, and
//! all by which it, or the image, could be booted is cleared and flushed; all data but the held-back
//! ranges, flushed; the verdict, given elsewhere; then [`super::commit`]: held-back ranges but for
//! MBR and GPT headers, flushed; those, flushed. So whoever finds a GPT finds all else there too.
//! What a block map lists as nobody's is neither written nor read back.

use std::io;
use std::mem::take;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use nibs_job::LogLevel;

use super::buffer::Buffer;
use super::commit::Uncommitted;
use super::held::{self, Held, gaps};
use super::lanes::{self, Desk, Order, What};
use super::layout::{self, Layout};
use super::progress::Counters;
use super::readback::{self, Extent};
use super::stages::{Halt, Stage};
use super::table::Table;
use super::zeros::runs;
use super::{BlockMap, Error, Proof, Result, Target, stale};
use crate::Sink;

/// Zeros are told to the disk in ranges of at most this: so that cancelling does not wait for long
/// behind a disk that has to write them all. Bytes.
const ZERO_MAX: u64 = 64 << 20;

/// No disk has smaller sectors. Bytes.
const SMALLEST_SECTOR: u64 = 512;

/// An image on its way to a disk.
pub(super) struct Writer<'a> {
    target: &'a dyn Target,
    counters: &'a Counters,
    sink: &'a dyn Sink,
    /// If not all of the image is to be written, but all of it to be looked at: what is.
    only: Option<&'a [Range<u64>]>,
    desk: Desk,
    /// Closes when all lanes have ended.
    lanes: Receiver<()>,
    /// Who reads back, if anybody does.
    reader: Option<Sender<Extent>>,
    table: Option<Table>,
    held: Vec<Held>,
    /// Which parts of the image hold something, where that is known.
    map: Option<&'a BlockMap>,
    /// What of the disk is left as it is, by the map.
    idle: Vec<Range<u64>>,
    /// What is not written as it comes: what is held, and what is idle. In order.
    absent: Vec<Range<u64>>,
    /// Where the image goes on.
    offset: u64,
    /// Zeros that have come and of which the disk is not told yet.
    zeros: Range<u64>,
    /// The extents they are in.
    zeros_of: Vec<Arc<Extent>>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        target: &'a dyn Target,
        counters: &'a Counters,
        sink: &'a dyn Sink,
        proof: &'a Proof,
        (desk, lanes): (Desk, Receiver<()>),
        reader: Option<Sender<Extent>>,
    ) -> Self {
        Self {
            target,
            counters,
            sink,
            only: proof.only.as_deref(),
            desk,
            lanes,
            reader,
            table: None,
            held: Vec::new(),
            map: proof.map.as_deref(),
            idle: Vec::new(),
            absent: Vec::new(),
            offset: 0,
            zeros: 0..0,
            zeros_of: Vec::new(),
        }
    }

    /// Takes the next extent of the image. All but the last one have the same length. The first one
    /// has to hold the image's first MiB, unless it is the last.
    pub(super) fn push(&mut self, mut buffer: Buffer) -> Stage<()> {
        let length = buffer.filled().len() as u64;
        if self.offset == 0 {
            self.start(buffer.filled())?;
        }
        if self.offset + length > self.target.size() {
            return Err(self.too_small(self.offset + length, true).into());
        }
        // Only the last buffer is no whole number of sectors.
        buffer.pad_to(self.target.sector_size() as usize);
        let (buffer, offset) = (Arc::new(buffer), self.offset);
        let range = offset..offset + buffer.filled().len() as u64;
        held::keep(&mut self.held, offset, buffer.filled());
        let parts = gaps(&self.absent, range.clone());
        let read_back = self.reader.is_some();
        let extent = read_back.then(|| Arc::new(Extent::new(offset, &buffer, &parts)));
        let wanted = |only: &[Range<u64>]| only.iter().any(|r| held::overlap(r, &range).is_some());
        if self.only.is_none_or(wanted) {
            for part in parts {
                if buffer.is_blank() {
                    self.add_zeros(part, extent.as_ref())?;
                } else {
                    self.write_runs(&buffer, part, extent.as_ref())?;
                }
            }
        }
        let busy = gaps(&self.idle, range.clone()).iter().map(|r| r.end - r.start).sum::<u64>();
        self.counters.skipped(range.end - range.start - busy);
        self.offset += length;
        lanes::tell(self.reader.as_ref(), extent.into_iter().collect());
        Ok(())
    }

    /// The image is at its end.
    pub(super) fn finish(mut self) -> Stage<Uncommitted> {
        if self.offset == 0 {
            return Err(Error::Empty.into());
        }
        check_whole(self.offset)?;
        self.flush_zeros()?;
        drop(self.desk);
        // It never says anything but that it closes. A lane that failed has said so.
        let _ = self.lanes.recv();
        flush(self.target)?;
        match &self.table {
            Some(table) if self.offset < table.image_size => {
                Err(Error::ShorterThanTable { expected: table.image_size, found: self.offset }
                    .into())
            }
            _ => Ok(Uncommitted { table: self.table, held: self.held, length: self.offset }),
        }
    }

    /// Checks the image against the disk, and makes sure that what the disk held cannot boot.
    fn start(&mut self, bytes: &[u8]) -> Result<()> {
        let (size, sector) = (self.target.size(), self.target.sector_size());
        let layout = Layout::of(bytes, self.target.path(), size, sector)?;
        if let Some(map) = self.map {
            self.idle = map.idle(&layout, bytes, (self.target.path(), size, sector))?;
        }
        let known = self.map.map(BlockMap::image_size).or(layout.image_size());
        if let Some(length) = known {
            self.counters.set_total_out(length);
        }
        let Layout { table, held, cleared } = layout;
        if bytes.len() as u64 > size {
            return Err(self.too_small(bytes.len() as u64, true));
        }
        self.table = table;
        self.held = held.iter().cloned().map(Held::new).collect();
        self.absent = layout::apart(held.into_iter().chain(self.idle.iter().cloned()).collect());
        // When some of it is written once more, the disk has been cleared already.
        if self.only.is_some() { Ok(()) } else { self.clear(&cleared) }
    }

    /// Clears all by which what the disk held, or an older version of the image, could be booted.
    fn clear(&self, ranges: &[Range<u64>]) -> Result<()> {
        let size = self.target.size();
        let (head, tail) = layout::ends(size);
        let found = stale::recognised(&self.peek(&head), &self.peek(&tail), size);
        if !found.is_empty() {
            let (disk, found) = (self.target.path().display(), found.join(", "));
            self.sink.log(LogLevel::Info, format!("clearing {disk}, which held {found}"));
        }
        zero_all(self.target, ranges)?;
        if self.reader.is_none() {
            return Ok(());
        }
        // What stays here would be booted after a failure further on, so that is proven first.
        let left = readback::not_zero(self.target, ranges);
        zero_all(self.target, &left)?;
        match readback::not_zero(self.target, &left).first() {
            None => Ok(()),
            Some(range) => {
                let cause = io::Error::other("it was zeroed and does not read as zeros");
                let length = range.end - range.start;
                Err(failed("clearing", self.target, range.start, length)(cause))
            }
        }
    }

    /// What the disk holds now; nothing, and a word, where it cannot be read: it is to be written
    /// anyway.
    fn peek(&self, range: &Range<u64>) -> Vec<u8> {
        let mut buffer = Buffer::new();
        let bytes = &mut buffer.whole()[..(range.end - range.start) as usize];
        match self.target.read(range.start, bytes) {
            Ok(()) => bytes.to_vec(),
            Err(cause) => {
                let (disk, first, last) =
                    (self.target.path().display(), range.start, range.end - 1);
                let what = format!("bytes {first} to {last} of {disk} cannot be read ({cause})");
                self.sink.warning(format!("{what}; what they held is not named"));
                Vec::new()
            }
        }
    }

    fn write_runs(
        &mut self,
        buffer: &Arc<Buffer>,
        part: Range<u64>,
        extent: Option<&Arc<Extent>>,
    ) -> Stage<()> {
        let first = (part.start - self.offset) as usize;
        let bytes = &buffer.filled()[first..(part.end - self.offset) as usize];
        for run in runs(bytes) {
            let offset = part.start + run.range.start as u64;
            if run.is_zero {
                self.add_zeros(offset..offset + run.range.len() as u64, extent)?;
            } else {
                self.flush_zeros()?;
                let part = first + run.range.start..first + run.range.end;
                let what = What::Write { offset, buffer: Arc::clone(buffer), part };
                self.order(what, extent.into_iter().cloned().collect())?;
            }
        }
        Ok(())
    }

    fn add_zeros(&mut self, range: Range<u64>, extent: Option<&Arc<Extent>>) -> Stage<()> {
        if self.zeros.end != range.start || self.zeros.end - self.zeros.start >= ZERO_MAX {
            self.flush_zeros()?;
            self.zeros = range.start..range.start;
        }
        self.zeros.end = range.end;
        self.zeros_of.extend(extent.cloned());
        Ok(())
    }

    fn flush_zeros(&mut self) -> Stage<()> {
        let (range, extents) = (take(&mut self.zeros), take(&mut self.zeros_of));
        if range.is_empty() { Ok(()) } else { self.order(What::Zero(range), extents) }
    }

    fn order(&self, what: What, extents: Vec<Arc<Extent>>) -> Stage<()> {
        // No lane is left only if all have failed.
        self.desk.send(Order { what, extents }).map_err(|_| Halt::Neighbour)
    }

    fn too_small(&self, needed: u64, at_least: bool) -> Error {
        let (disk, size) = (self.target.path().to_owned(), self.target.size());
        Error::TooSmall { disk, size, needed, at_least }
    }
}

/// Refuses what cannot be a whole disk image, by its length.
pub(super) fn check_whole(length: u64) -> Result<()> {
    if length.is_multiple_of(SMALLEST_SECTOR) {
        return Ok(());
    }
    Err(Error::NotWholeSectors { length })
}

pub(super) fn write(target: &dyn Target, offset: u64, bytes: &[u8]) -> Result<()> {
    let length = bytes.len() as u64;
    target.write(offset, bytes).map_err(failed("writing to", target, offset, length))
}

pub(super) fn zero(target: &dyn Target, offset: u64, length: u64) -> Result<()> {
    target.zero(offset, length).map_err(failed("zeroing", target, offset, length))
}

/// Makes ranges read as zeros for good.
fn zero_all(target: &dyn Target, ranges: &[Range<u64>]) -> Result<()> {
    if ranges.is_empty() {
        return Ok(());
    }
    ranges.iter().try_for_each(|range| zero(target, range.start, range.end - range.start))?;
    flush(target)
}

pub(super) fn flush(target: &dyn Target) -> Result<()> {
    target.flush().map_err(|cause| Error::Flush { disk: target.path().to_owned(), cause })
}

fn failed(
    doing: &'static str,
    target: &dyn Target,
    offset: u64,
    length: u64,
) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Disk { doing, disk: target.path().to_owned(), offset, length, cause }
}
