//! Takes a stream as served apart into units that workers decode independently of each other.
//!
//! A format's file knows where its units end, from headers alone: it reads them here, and the bytes
//! flow on to the unit's worker as they come, without a copy.
//!
//! ```text
//!  chunk as served  |·······|##########|-----|.................|
//!                   ^ of the unit      ^ read, and of no unit yet
//! ```

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};

use bytes::{Buf, Bytes};

use super::ahead::{Ahead, Need, Number, SERVED_PIECE};
use super::buffer::BUFFER;
use super::chunks::{ChunkReader, Piece};
use super::format::is_skippable;
use super::lz4;
use super::stages::Halt;
use super::workers::{Desk, Kind, Output, Unit};
use crate::Stop;

/// Why decoding ended early: an error still to be told where it was, or one that is told.
pub(super) enum Failure {
    Io(io::Error),
    Halt(Halt),
}

pub(super) type Outcome<T> = std::result::Result<T, Failure>;

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

/// Bytes that are not what the format says they are.
pub(super) fn invalid(what: &str) -> Failure {
    Failure::Io(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// What becomes of a stream, in its order.
pub(super) enum Step {
    /// A unit, whose decoded bytes come here.
    Unit(Receiver<Output>),
    /// Units follow that are checked as one.
    Check(lz4::Check),
    /// They end, and are to hash to this; before this offset of the stream as served.
    Checked(Option<u32>, u64),
    /// The stream ends.
    End,
}

/// A stream as served being taken apart.
pub(super) struct Cut<'a> {
    input: &'a mut ChunkReader,
    ahead: &'a Arc<Ahead>,
    stop: &'a Stop,
    desk: Desk,
    order: SyncSender<Step>,
    chunk: Bytes,
    /// How much of the chunk is of the unit, and not with its worker yet.
    of_unit: usize,
    /// How much of the chunk has been read, what is of the unit included.
    read: usize,
    /// What was read of chunks before, and is of no unit yet.
    kept: Vec<Bytes>,
    /// Bytes of the stream that have been read.
    offset: u64,
    unit: Option<Sender<Piece<Bytes>>>,
    next: Number,
    /// What the unit becomes, and what the one before did, at most; bytes.
    size: u64,
    size_before: u64,
}

impl<'a> Cut<'a> {
    pub(super) fn new(
        input: &'a mut ChunkReader,
        ahead: &'a Arc<Ahead>,
        stop: &'a Stop,
        desk: Desk,
        order: SyncSender<Step>,
    ) -> Self {
        let offset = input.consumed();
        Self {
            input,
            ahead,
            stop,
            desk,
            order,
            chunk: Bytes::new(),
            of_unit: 0,
            read: 0,
            kept: Vec::new(),
            offset,
            unit: None,
            next: 0,
            size: 0,
            size_before: BUFFER as u64,
        }
    }

    /// Bytes of the stream that have been read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether there is nothing more to be read.
    pub(super) fn at_end(&mut self) -> Outcome<bool> {
        Ok(self.here()?.is_empty())
    }

    /// Reads bytes, which stay of no unit.
    pub(super) fn read<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let mut bytes = [0; N];
        self.read_into(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads bytes, which stay of no unit.
    pub(super) fn read_into(&mut self, mut into: &mut [u8]) -> Outcome<()> {
        while !into.is_empty() {
            let here = self.here()?;
            if here.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let length = here.len().min(into.len());
            let (now, later) = into.split_at_mut(length);
            now.copy_from_slice(&here[..length]);
            into = later;
            self.advance(length);
        }
        Ok(())
    }

    /// Starts the next unit, to which belongs what is passed on from now on.
    pub(super) fn start(&mut self, kind: Kind, window: u64) -> Outcome<()> {
        self.end()?;
        let ((send, input), (output, decoded)) = (channel(), channel());
        let need = Need { window, size: self.size_before };
        let kept: usize = self.kept.iter().map(Bytes::len).sum();
        let offset = self.offset - (kept + self.read) as u64;
        let input = ChunkReader::new(input);
        self.order.send(Step::Unit(decoded)).map_err(|_| Halt::Neighbour)?;
        self.desk.put(Unit { number: self.next, kind, need, offset, input, output });
        self.next += 1;
        self.unit = Some(send);
        Ok(())
    }

    /// Starts the next unit unless the one that has been started, which has to be of the same kind,
    /// is too small to be worth a worker's while.
    pub(super) fn start_if_full(&mut self, kind: Kind, window: u64) -> Outcome<bool> {
        let starts = self.unit.is_none() || self.size >= BUFFER as u64;
        if starts {
            self.start(kind, window)?;
        }
        Ok(starts)
    }

    /// Says what is passed on becomes, at most; bytes.
    pub(super) fn grow(&mut self, size: u64) {
        self.size = self.size.saturating_add(size);
    }

    /// What has been read becomes the unit's, and so many bytes more.
    pub(super) fn pass(&mut self, mut length: u64) -> Outcome<()> {
        for kept in std::mem::take(&mut self.kept) {
            self.hand_over(kept)?;
        }
        self.of_unit = self.read;
        while length > 0 {
            let here = self.here()?.len();
            if here == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let step = here.min(usize::try_from(length).unwrap_or(usize::MAX));
            self.advance(step);
            self.of_unit = self.read;
            length -= step as u64;
        }
        Ok(())
    }

    /// What has been read becomes the unit's, and all that follows.
    pub(super) fn pass_rest(&mut self) -> Outcome<()> {
        while !self.at_end()? {
            self.pass(self.here_length())?;
        }
        self.pass(0)
    }

    /// Gives a unit bytes that are not in the stream, in front of what has been read.
    pub(super) fn put(&mut self, bytes: Bytes) -> Outcome<()> {
        self.flush()?;
        self.hand_over(bytes)
    }

    /// What has been read becomes nobody's.
    pub(super) fn drop_read(&mut self) -> Outcome<()> {
        self.flush()?;
        self.kept.clear();
        self.chunk.advance(std::mem::take(&mut self.read));
        Ok(())
    }

    /// What has been read becomes nobody's, and so many bytes more.
    pub(super) fn skip(&mut self, mut length: u64) -> Outcome<()> {
        self.drop_read()?;
        while length > 0 {
            if self.at_end()? {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let step = self.here_length().min(length);
            self.advance(step as usize);
            self.drop_read()?;
            length -= step;
        }
        Ok(())
    }

    /// Reads the magic of the next frame, past those that are to be skipped; or finds that there is
    /// none.
    pub(super) fn next_frame(&mut self, magic: [u8; 4]) -> Outcome<bool> {
        while !self.at_end()? {
            let found = self.read()?;
            if found == magic {
                return Ok(true);
            }
            if !is_skippable(found) {
                return Err(invalid("bytes that are no frame follow a frame"));
            }
            let length = u32::from_le_bytes(self.read()?);
            self.skip(u64::from(length))?;
        }
        Ok(false)
    }

    /// Has what follows, up to [`Cut::checked`], checked as one.
    pub(super) fn check(&mut self, check: lz4::Check) -> Outcome<()> {
        self.end()?;
        Ok(self.order.send(Step::Check(check)).map_err(|_| Halt::Neighbour)?)
    }

    /// Says what is to be checked ends, and what it has to hash to.
    pub(super) fn checked(&mut self, checksum: Option<u32>) -> Outcome<()> {
        self.end()?;
        let step = Step::Checked(checksum, self.offset);
        Ok(self.order.send(step).map_err(|_| Halt::Neighbour)?)
    }

    /// Says that the stream has ended.
    pub(super) fn finish(mut self) -> Outcome<()> {
        self.end()?;
        Ok(self.order.send(Step::End).map_err(|_| Halt::Neighbour)?)
    }

    /// Ends the unit.
    fn end(&mut self) -> Outcome<()> {
        self.flush()?;
        if let Some(unit) = self.unit.take() {
            unit.send(Piece::End).map_err(|_| Halt::Neighbour)?;
            self.size_before = std::mem::take(&mut self.size);
        }
        Ok(())
    }

    /// Gives the unit's worker what is the unit's.
    fn flush(&mut self) -> Outcome<()> {
        if self.of_unit > 0 {
            let bytes = self.chunk.split_to(self.of_unit);
            self.read -= std::mem::take(&mut self.of_unit);
            self.hand_over(bytes)?;
        }
        Ok(())
    }

    fn hand_over(&self, bytes: Bytes) -> Outcome<()> {
        // A worker that found its unit broken has hung up, which the check stage will tell.
        let sent = self.unit.as_ref().map(|unit| unit.send(Piece::Data(bytes)));
        Ok(sent.unwrap_or(Ok(())).map_err(|_| Halt::Neighbour)?)
    }

    fn advance(&mut self, length: usize) {
        self.read += length;
        self.offset += length as u64;
    }

    fn here_length(&self) -> u64 {
        (self.chunk.len() - self.read) as u64
    }

    /// What follows in the chunk, or in the next one; nothing at the end of the stream.
    fn here(&mut self) -> Outcome<&[u8]> {
        if self.read == self.chunk.len() {
            self.flush()?;
            self.stop.check().map_err(Halt::from)?;
            let served = self.input.take_some(SERVED_PIECE)?;
            if self.read > 0 {
                self.kept.push(std::mem::take(&mut self.chunk));
                self.read = 0;
            }
            self.chunk = self.ahead.admit(served).ok_or(Halt::Neighbour)?;
        }
        Ok(&self.chunk[self.read..])
    }
}
