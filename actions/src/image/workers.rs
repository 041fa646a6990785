//! Decoding on all cores: units go to whoever is idle, oldest first.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::ahead::{Ahead, Need, Number};
use super::buffer::Buffer;
use super::chunks::{ChunkReader, Piece};
use super::cut::{Failure, Outcome};
use super::format::Format;
use super::stages::Halt;
use super::{Result, decode, lz4};

/// More cores than this decode faster than disks write, and each of them takes memory.
const WORKERS_MAX: usize = 4;

/// How many threads are to decode.
pub(super) fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)
}

/// How a unit is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Blocks of an lz4 frame.
    Lz4(lz4::Header),
    /// What is a stream of its own in any other format.
    Stream(Format),
}

/// A part of a stream that can be decoded without what precedes it.
pub(super) struct Unit {
    pub(super) number: Number,
    pub(super) kind: Kind,
    pub(super) need: Need,
    /// Where it starts in the stream as served.
    pub(super) offset: u64,
    pub(super) input: ChunkReader,
    pub(super) output: Sender<Output>,
}

/// What comes of a unit.
pub(super) type Output = Result<Piece<Buffer>>;

/// Where the buffers of a unit come from and go to.
pub(super) struct Basin<'a> {
    ahead: &'a Ahead,
    number: Number,
    output: Sender<Output>,
}

impl Basin<'_> {
    pub(super) fn take(&self) -> Outcome<Buffer> {
        Ok(self.ahead.take(self.number).ok_or(Halt::Neighbour)?)
    }

    pub(super) fn put(&self, buffer: Buffer) -> Outcome<()> {
        self.send(Ok(Piece::Data(buffer)))
    }

    fn send(&self, output: Output) -> Outcome<()> {
        Ok(self.output.send(output).map_err(|_| Halt::Neighbour)?)
    }
}

impl Unit {
    fn decode(self, ahead: &Ahead, scratch: &mut lz4::Scratch) -> Outcome<()> {
        let Self { number, kind, need, offset, mut input, output } = self;
        ahead.start(number, need).ok_or(Halt::Neighbour)?;
        let basin = Basin { ahead, number, output };
        let (format, decoded) = match kind {
            Kind::Lz4(header) => (Format::Lz4, lz4::decode(&mut input, header, scratch, &basin)),
            Kind::Stream(format) => (format, decode::decode(&mut input, format, &basin)),
        };
        let ended = match decoded {
            Ok(()) => decode::expect_end(&mut input, format, offset),
            Err(Failure::Io(error)) => {
                Err(decode::broken(format, offset + input.consumed(), &error))
            }
            Err(halt) => return Err(halt),
        };
        // What is missing could not be taken apart, of which is told there.
        if input.is_broken() {
            return Err(Halt::Neighbour.into());
        }
        basin.send(ended.map(|()| Piece::End))
    }
}

/// Where units are put.
pub(super) struct Desk(Sender<Unit>);

/// Where workers take them from.
pub(super) struct Queue(Mutex<Receiver<Unit>>);

/// Makes a queue. What bounds it is the order in which the units are put together again.
pub(super) fn queue() -> (Desk, Queue) {
    let (send, receive) = channel();
    (Desk(send), Queue(Mutex::new(receive)))
}

impl Desk {
    /// Has a unit decoded; nothing comes of it if the workers are gone.
    pub(super) fn put(&self, unit: Unit) {
        let _ = self.0.send(unit);
    }
}

impl Queue {
    /// Decodes until the desk is gone.
    pub(super) fn work(&self, ahead: &Ahead) {
        let mut scratch = lz4::Scratch::default();
        loop {
            let unit = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(unit) = unit else { return };
            // Whoever waits for it sees that nothing came; if nobody does, something else failed.
            let _ = unit.decode(ahead, &mut scratch);
        }
    }
}
