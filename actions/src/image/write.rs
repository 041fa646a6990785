//! The writer stage: the image onto the disk, except what is held back for the commit.
//!
//! In order of time: checks of the image's GPT against the disk; what the disk held is named, and
//! all by which it, or the image, could be booted is cleared and flushed; all data but the held-back
//! ranges, flushed; the verdict, given elsewhere; then [`super::commit`]: held-back ranges but for
//! MBR and GPT headers, flushed; those, flushed. So whoever finds a GPT finds all else there too.

use std::io;
use std::ops::Range;
use std::sync::mpsc::Sender;

use nibs_job::LogLevel;

use super::buffer::Buffer;
use super::commit::Uncommitted;
use super::held::{self, Held, gaps};
use super::progress::Counters;
use super::readback::{self, Told};
use super::table::{HEAD, Table};
use super::zeros::runs;
use super::{Error, Result, Target, stale};
use crate::Sink;

/// Zeros are told to the disk in ranges of at most this: so that cancelling does not wait for long
/// behind a disk that has to write them all. Bytes.
const ZERO_MAX: u64 = 64 << 20;

/// How much is cleared at the end of the disk: an old backup GPT, md and ZFS superblocks. Bytes.
const TAIL: u64 = 1 << 20;

/// How much is held back of an EFI system partition: its boot sector, and the FATs without which
/// none of its files is found. Bytes.
const ESP_HEAD: u64 = 1 << 20;

/// No disk has smaller sectors. Bytes.
const SMALLEST_SECTOR: u64 = 512;

/// An image on its way to a disk.
pub(super) struct Writer<'a> {
    target: &'a dyn Target,
    counters: &'a Counters,
    sink: &'a dyn Sink,
    /// If not all of the image is to be written, but all of it to be looked at: what is.
    only: Option<&'a [Range<u64>]>,
    /// Who reads back, if anybody does, and what is not to be told yet.
    reader: Option<(Sender<Told>, Vec<Told>)>,
    table: Option<Table>,
    held: Vec<Held>,
    /// The ranges of `held`.
    held_ranges: Vec<Range<u64>>,
    /// Where the image goes on.
    offset: u64,
    /// Zeros that have come and are not told to the disk yet.
    zeros: Range<u64>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        target: &'a dyn Target,
        counters: &'a Counters,
        sink: &'a dyn Sink,
        only: Option<&'a [Range<u64>]>,
        reader: Option<Sender<Told>>,
    ) -> Self {
        Self {
            target,
            counters,
            sink,
            only,
            reader: reader.map(|reader| (reader, Vec::new())),
            table: None,
            held: Vec::new(),
            held_ranges: Vec::new(),
            offset: 0,
            zeros: 0..0,
        }
    }

    /// Takes the next extent of the image. All but the last one have the same length. The first one
    /// has to hold the image's first MiB, unless it is the last.
    pub(super) fn push(&mut self, buffer: &mut Buffer) -> Result<()> {
        let length = buffer.filled().len() as u64;
        if self.offset == 0 {
            self.start(buffer.filled())?;
        }
        if self.offset + length > self.target.size() {
            return Err(self.too_small(self.offset + length, true));
        }
        // Only the last buffer is no whole number of sectors.
        buffer.pad_to(self.target.sector_size() as usize);
        let (bytes, offset) = (buffer.filled(), self.offset);
        let extent = offset..offset + bytes.len() as u64;
        held::keep(&mut self.held, offset, bytes);
        let free = gaps(&self.held_ranges, extent.clone());
        if let Some((_, told)) = &mut self.reader {
            let digest = readback::digest(offset, bytes, &free);
            told.push(Told::Extent(bytes.len() as u64, digest));
        }
        let wanted = |only: &[Range<u64>]| only.iter().any(|r| held::overlap(r, &extent).is_some());
        if self.only.is_none_or(wanted) {
            for free in free {
                if buffer.is_blank() {
                    self.add_zeros(free)?;
                } else {
                    let part = (free.start - offset) as usize..(free.end - offset) as usize;
                    self.write_runs(free.start, &bytes[part])?;
                }
            }
        }
        self.offset += length;
        self.tell();
        Ok(())
    }

    /// The image is at its end.
    pub(super) fn finish(mut self) -> Result<Uncommitted> {
        if self.offset == 0 {
            return Err(Error::Empty);
        }
        check_whole(self.offset)?;
        self.flush_zeros()?;
        flush(self.target)?;
        self.tell();
        match &self.table {
            Some(table) if self.offset < table.image_size => {
                Err(Error::ShorterThanTable { expected: table.image_size, found: self.offset })
            }
            _ => Ok(Uncommitted { table: self.table, held: self.held, length: self.offset }),
        }
    }

    /// Checks the image against the disk, and makes sure that what the disk held cannot boot.
    fn start(&mut self, bytes: &[u8]) -> Result<()> {
        let head = &bytes[..bytes.len().min(HEAD)];
        self.table = Table::parse(head)?;
        let first = 0..head.len().next_multiple_of(self.sector()) as u64;
        let mut held = vec![first];
        if let Some(table) = &self.table {
            if table.sector != self.target.sector_size() {
                return Err(Error::SectorSize {
                    disk: self.target.path().to_owned(),
                    image: table.sector,
                    found: self.target.sector_size(),
                });
            }
            if table.image_size > self.target.size() {
                return Err(self.too_small(table.image_size, false));
            }
            let backup = table.image_size - table.backup_length();
            for esp in &table.esps {
                held.push(esp.start..esp.end.min(esp.start.saturating_add(ESP_HEAD)).min(backup));
            }
            held.push(backup..table.image_size);
            self.counters.set_total_out(table.image_size);
        }
        if bytes.len() as u64 > self.target.size() {
            return Err(self.too_small(bytes.len() as u64, true));
        }
        self.held_ranges = apart(held);
        self.held = self.held_ranges.iter().cloned().map(Held::new).collect();
        if let Some((_, told)) = &mut self.reader {
            told.push(Told::Held(self.held_ranges.clone()));
        }
        // When some of it is written once more, the disk has been cleared already.
        if self.only.is_some() { Ok(()) } else { self.clear() }
    }

    /// Clears both ends of the disk, and the places of what is held back: an image that is written
    /// over an older version of itself would find its boot sectors there.
    fn clear(&self) -> Result<()> {
        let size = self.target.size();
        let head = 0..(HEAD as u64).min(size);
        let tail = size.saturating_sub(TAIL).max(head.end)..size;
        let found = stale::recognised(&self.peek(&head), &self.peek(&tail), size);
        if !found.is_empty() {
            let (disk, found) = (self.target.path().display(), found.join(", "));
            self.sink.log(LogLevel::Info, format!("clearing {disk}, which held {found}"));
        }
        let all = [head, tail].into_iter().chain(self.held_ranges.iter().cloned());
        for range in apart(all.collect()) {
            zero(self.target, range.start, range.end - range.start)?;
        }
        flush(self.target)
    }

    /// What the disk holds now; nothing where it cannot be read, since it is to be written anyway.
    fn peek(&self, range: &Range<u64>) -> Vec<u8> {
        let mut buffer = Buffer::new();
        let bytes = &mut buffer.whole()[..(range.end - range.start) as usize];
        match self.target.read(range.start, bytes) {
            Ok(()) => bytes.to_vec(),
            Err(_) => Vec::new(),
        }
    }

    fn write_runs(&mut self, start: u64, bytes: &[u8]) -> Result<()> {
        for run in runs(bytes) {
            let at = start + run.range.start as u64;
            if run.is_zero {
                self.add_zeros(at..at + run.range.len() as u64)?;
            } else {
                self.flush_zeros()?;
                let data = &bytes[run.range];
                write(self.target, at, data)?;
                self.counters.written(data.len() as u64);
            }
        }
        Ok(())
    }

    fn add_zeros(&mut self, range: Range<u64>) -> Result<()> {
        if self.zeros.end != range.start || self.zeros.end - self.zeros.start >= ZERO_MAX {
            self.flush_zeros()?;
            self.zeros = range.start..range.start;
        }
        self.zeros.end = range.end;
        Ok(())
    }

    fn flush_zeros(&mut self) -> Result<()> {
        let range = std::mem::take(&mut self.zeros);
        if !range.is_empty() {
            zero(self.target, range.start, range.end - range.start)?;
            self.counters.zeroed(range.end - range.start);
        }
        Ok(())
    }

    /// Tells the reader of all that is on the disk.
    fn tell(&mut self) {
        if let Some((reader, told)) = &mut self.reader
            && self.zeros.is_empty()
        {
            // A reader that is gone has failed, and says so itself.
            told.drain(..).for_each(|told| drop(reader.send(told)));
        }
    }

    fn sector(&self) -> usize {
        self.target.sector_size() as usize
    }

    fn too_small(&self, needed: u64, at_least: bool) -> Error {
        let (disk, size) = (self.target.path().to_owned(), self.target.size());
        Error::TooSmall { disk, size, needed, at_least }
    }
}

/// Ranges in order, none empty, and none with a byte of another.
fn apart(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut end = 0;
    for range in &mut ranges {
        range.start = range.start.max(end);
        end = end.max(range.end);
    }
    ranges.retain(|range| !range.is_empty());
    ranges
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

pub(super) fn flush(target: &dyn Target) -> Result<()> {
    target.flush().map_err(failed("flushing", target, 0, target.size()))
}

fn failed(
    doing: &'static str,
    target: &dyn Target,
    offset: u64,
    length: u64,
) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Disk { doing, disk: target.path().to_owned(), offset, length, cause }
}
