//! The commit of a proven image: what was held back gets onto the disk, the sectors by which it is
//! found last.

use std::ops::Range;

use super::buffer::Buffer;
use super::held::{self, Held, gaps};
use super::progress::Counters;
use super::readback::Misread;
use super::table::Table;
use super::write::{flush, write, zero};
use super::{Result, Target};

/// An image that is on the disk save for what is held back.
#[derive(Debug)]
pub(super) struct Uncommitted {
    pub(super) table: Option<Table>,
    pub(super) held: Vec<Held>,
    /// Bytes of the image.
    pub(super) length: u64,
}

impl Uncommitted {
    /// Writes what was held back, once the image is proven. Says whether the backup GPT was moved
    /// to the end of a larger disk. Whatever fails, the disk is left without what it is booted by.
    pub(super) fn commit(
        mut self,
        target: &dyn Target,
        counters: &Counters,
        read_back: bool,
    ) -> Result<bool> {
        let moved = self.relocate(target.size());
        let seals = self.seals(target);
        let committed = self.write(target, &seals).and_then(|()| match read_back {
            true => self.misread(target).verdict(target),
            false => Ok(()),
        });
        if let Err(error) = committed {
            unseal(target, &seals);
            return Err(error);
        }
        counters.complete(self.length);
        Ok(moved)
    }

    /// Changes the table for a disk that is larger than the image.
    fn relocate(&mut self, size: u64) -> bool {
        let Some(table) = self.table.as_ref().filter(|table| table.image_size < size) else {
            return false;
        };
        let disk = size - size % u64::from(table.sector);
        let backup = table.relocate(&mut self.held[0].bytes, disk);
        // Where the image had its backup, a disk of this size has none.
        let old = table.image_size - table.backup_length()..table.image_size;
        for held in &mut self.held {
            if let Some(both) = held::overlap(&old, &held.range()) {
                let (from, to) = (both.start - held.start, both.end - held.start);
                held.bytes[from as usize..to as usize].fill(0);
            }
        }
        // On a disk hardly larger, the new place overlaps the old one.
        let start = disk - backup.len() as u64;
        for held in &mut self.held {
            let room = usize::try_from(start.saturating_sub(held.start)).unwrap_or(usize::MAX);
            held.bytes.truncate(room);
        }
        self.held.push(Held { start, bytes: backup });
        true
    }

    /// The sectors by which all others are found, and without which they are nothing: MBR and GPT
    /// header at the start, the backup's header at the end. In order.
    fn seals(&self, target: &dyn Target) -> Vec<Range<u64>> {
        let sector = u64::from(target.sector_size());
        let first = 0..2 * sector;
        match (&self.table, self.held.iter().map(|held| held.range().end).max()) {
            (Some(_), Some(end)) => vec![first, end - sector..end],
            _ => vec![first],
        }
    }

    fn write(&self, target: &dyn Target, seals: &[Range<u64>]) -> Result<()> {
        for held in &self.held {
            for gap in gaps(seals, held.range()) {
                write_part(target, held, &gap)?;
            }
        }
        flush(target)?;
        for seal in seals {
            self.held.iter().try_for_each(|held| write_part(target, held, seal))?;
        }
        flush(target)
    }

    /// What of all that was held back is not on the disk.
    fn misread(&self, target: &dyn Target) -> Misread {
        let (mut buffer, mut misread) = (Buffer::new(), Misread::default());
        for held in &self.held {
            let bytes = &mut buffer.whole()[..held.bytes.len()];
            let is_good = target.read(held.start, bytes).map(|()| *bytes == held.bytes);
            misread.note(held.range(), is_good);
        }
        misread
    }
}

/// Takes the seals off again, as far as this disk does what it is told: it has failed already, and
/// that is the error to be told.
fn unseal(target: &dyn Target, seals: &[Range<u64>]) {
    for seal in seals {
        let _ = zero(target, seal.start, seal.end - seal.start);
    }
    let _ = flush(target);
}

/// Writes the part of what was held back that lies in a range, from aligned memory.
fn write_part(target: &dyn Target, held: &Held, range: &Range<u64>) -> Result<()> {
    let Some((start, bytes)) = held.part(range) else { return Ok(()) };
    let mut buffer = Buffer::new();
    buffer.append(bytes);
    write(target, start, buffer.filled())
}
