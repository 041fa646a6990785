//! The writer stage: the image onto the disk, except what is held back, and the commit of that.
//!
//! In order of time: checks of the image's GPT against the disk; the old first and last MiB of the
//! disk cleared and flushed; all data but the held-back ranges; the verdict, given elsewhere; data
//! flushed; held-back ranges, flushed; the first sectors, by which firmware finds the rest, flushed.

use std::io;

use super::buffer::Buffer;
use super::held::{self, Held};
use super::progress::Counters;
use super::table::{HEAD, Table};
use super::zeros::runs;
use super::{Error, Result, Target};

/// Zeros are told to the disk in ranges of at most this: so that cancelling does not wait for long
/// behind a disk that has to write them all. Bytes.
const ZERO_MAX: u64 = 64 << 20;

/// How much is cleared at the end of the disk: an old backup GPT, md and LVM superblocks. Bytes.
const TAIL: u64 = 1 << 20;

/// No disk has smaller sectors. Bytes.
const SMALLEST_SECTOR: u64 = 512;

/// What makes the held-back rest count: MBR and GPT header, for both sector sizes. Written last.
const COMMIT: usize = 8192;

/// An image on its way to a disk.
pub(super) struct Writer<'a> {
    target: &'a dyn Target,
    counters: &'a Counters,
    table: Option<Table>,
    held: Vec<Held>,
    /// Where the image goes on.
    offset: u64,
    /// Zeros that have come and are not told to the disk yet.
    zeros: std::ops::Range<u64>,
}

/// An image that is on the disk save for what is held back.
#[derive(Debug)]
pub(super) struct Uncommitted {
    table: Option<Table>,
    held: Vec<Held>,
    /// Bytes of the image.
    pub(super) length: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(target: &'a dyn Target, counters: &'a Counters) -> Self {
        Self { target, counters, table: None, held: Vec::new(), offset: 0, zeros: 0..0 }
    }

    /// Takes the next bytes of the image. The first ones have to hold its first MiB, unless it is
    /// shorter.
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
        let bytes = buffer.filled();
        for free in held::take(&mut self.held, self.offset, bytes) {
            for run in runs(&bytes[free.clone()]) {
                let start = self.offset + (free.start + run.range.start) as u64;
                if run.is_zero {
                    self.add_zeros(start, run.range.len() as u64)?;
                } else {
                    self.flush_zeros()?;
                    let data = &bytes[free.clone()][run.range];
                    write(self.target, start, data)?;
                    self.counters.written(data.len() as u64);
                }
            }
        }
        self.offset += length;
        Ok(())
    }

    /// The image is at its end.
    pub(super) fn finish(mut self) -> Result<Uncommitted> {
        if self.offset == 0 {
            return Err(Error::Empty);
        }
        check_whole(self.offset)?;
        self.flush_zeros()?;
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
        self.held.push(Held::new(0..head.len().next_multiple_of(self.sector()) as u64));
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
            // In an image hardly longer than its head, the head holds the backup too.
            let backup = backup.max(head.len() as u64);
            if backup < table.image_size {
                self.held.push(Held::new(backup..table.image_size));
            }
            self.counters.set_total_out(table.image_size);
        }
        self.clear_ends()
    }

    fn clear_ends(&self) -> Result<()> {
        let size = self.target.size();
        let head = (HEAD as u64).min(size);
        zero(self.target, 0, head)?;
        let tail = size.saturating_sub(TAIL).max(head);
        if tail < size {
            zero(self.target, tail, size - tail)?;
        }
        flush(self.target)
    }

    fn add_zeros(&mut self, start: u64, length: u64) -> Result<()> {
        if self.zeros.end != start || self.zeros.end - self.zeros.start >= ZERO_MAX {
            self.flush_zeros()?;
            self.zeros = start..start;
        }
        self.zeros.end += length;
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

    fn sector(&self) -> usize {
        self.target.sector_size() as usize
    }

    fn too_small(&self, needed: u64, at_least: bool) -> Error {
        let (disk, size) = (self.target.path().to_owned(), self.target.size());
        Error::TooSmall { disk, size, needed, at_least }
    }
}

impl Uncommitted {
    /// Writes what was held back, once the image is proven. Says whether the backup GPT was moved
    /// to the end of a larger disk.
    pub(super) fn commit(mut self, target: &dyn Target, counters: &Counters) -> Result<bool> {
        let moves = self.table.as_ref().filter(|table| table.image_size < target.size()).cloned();
        if let Some(table) = &moves {
            let disk = target.size() - target.size() % u64::from(table.sector);
            let backup = table.relocate(&mut self.held[0].bytes, disk);
            // Where the image had its backup, a disk of this size has none.
            let old = table.image_size - table.backup_length();
            for range in &mut self.held {
                let from = old.saturating_sub(range.start).min(range.bytes.len() as u64);
                let to =
                    (table.image_size.saturating_sub(range.start)).min(range.bytes.len() as u64);
                range.bytes[from as usize..to as usize].fill(0);
            }
            let start = disk - backup.len() as u64;
            self.held.push(Held { start, bytes: backup });
        }
        flush(target)?;
        let [head, others @ ..] = &self.held[..] else { return Ok(false) };
        let (first, rest) = head.bytes.split_at(head.bytes.len().min(COMMIT));
        write_held(target, head.start + first.len() as u64, rest)?;
        for range in others {
            write_held(target, range.start, &range.bytes)?;
        }
        flush(target)?;
        write_held(target, head.start, first)?;
        flush(target)?;
        counters.complete(self.length);
        Ok(moves.is_some())
    }
}

/// Refuses what cannot be a whole disk image, by its length.
pub(super) fn check_whole(length: u64) -> Result<()> {
    if length.is_multiple_of(SMALLEST_SECTOR) {
        return Ok(());
    }
    Err(Error::NotWholeSectors { length })
}

/// Writes bytes that are not in aligned memory.
fn write_held(target: &dyn Target, start: u64, bytes: &[u8]) -> Result<()> {
    let mut buffer = Buffer::new();
    buffer.whole()[..bytes.len()].copy_from_slice(bytes);
    buffer.set_filled(bytes.len());
    write(target, start, buffer.filled())
}

fn write(target: &dyn Target, offset: u64, bytes: &[u8]) -> Result<()> {
    let length = bytes.len() as u64;
    target.write(offset, bytes).map_err(failed("writing to", target, offset, length))
}

fn zero(target: &dyn Target, offset: u64, length: u64) -> Result<()> {
    target.zero(offset, length).map_err(failed("zeroing", target, offset, length))
}

fn flush(target: &dyn Target) -> Result<()> {
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
