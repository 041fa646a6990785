//! The decode stage: bytes as served become the image, in buffers of the pool; from front to back,
//! or on all cores where the format allows it.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, sync_channel};

use nibs_job::LogLevel;

use super::buffer::{Buffer, Pool};
use super::chunks::{ChunkReader, Piece};
use super::decode::{self, Limit};
use super::format::Format;
use super::lz4::{self, Step};
use super::reflow::Reflow;
use super::stages::{Halt, Outlet, Shared, Stage, Stages};
use super::workers;

/// Why decoding ended early: an error still to be told where it was, or one that is told.
enum Failure {
    Io(io::Error),
    Halt(Halt),
}

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

/// The decode stage, which starts others beside it if the format can be decoded on all cores.
pub(super) fn decode_all<'scope>(
    stages: &Stages<'scope, '_>,
    mut input: ChunkReader,
    total: Option<u64>,
    limit: &Limit,
    pool: &Pool,
    send: Sender<Piece<Buffer>>,
) -> Stage<()> {
    let shared = stages.shared;
    let announced = decode::announce(&mut input, total, limit);
    if input.is_broken() {
        return Err(Halt::Neighbour);
    }
    let announced = announced?;
    let format = announced.format;
    if let Some(bytes) = announced.at_least {
        shared.counters.set_total_out(bytes);
    }
    shared.sink.log(LogLevel::Debug, format!("the image is served as {}", format.name()));
    let decoded = match format {
        Format::Lz4 => spread(stages, &mut input, pool, send),
        _ => in_sequence(shared, &mut input, format, pool, &send),
    };
    if input.is_broken() {
        return Err(Halt::Neighbour);
    }
    match decoded {
        Ok(()) => Ok(()),
        Err(Failure::Io(error)) => Err(decode::broken(format, input.consumed(), &error).into()),
        Err(Failure::Halt(halt)) => Err(halt),
    }
}

fn in_sequence(
    shared: &Shared<'_>,
    input: &mut ChunkReader,
    format: Format,
    pool: &Pool,
    send: &Sender<Piece<Buffer>>,
) -> std::result::Result<(), Failure> {
    let mut reader = decode::reader(input, format)?;
    let mut is_first = true;
    loop {
        shared.stop.check().map_err(Halt::from)?;
        let mut buffer = pool.take().ok_or(Halt::Neighbour)?;
        decode::fill(&mut reader, &mut buffer)?;
        if std::mem::take(&mut is_first) {
            decode::inspect(buffer.filled()).map_err(Halt::from)?;
        }
        if buffer.filled().is_empty() {
            break;
        }
        send.send(Piece::Data(buffer)).map_err(|_| Halt::Neighbour)?;
    }
    drop(reader);
    decode::expect_end(input, format).map_err(Halt::from)?;
    Ok(send.put(Piece::End)?)
}

/// A step of decoding, in order, that may not be done yet.
enum Ordered {
    Start(lz4::Header),
    Ready(Buffer),
    /// Where the buffer will come, and where in the bytes as served its blocks end.
    Later(Receiver<io::Result<Buffer>>, u64),
    FrameEnd(Option<u32>, u64),
    End,
}

/// Takes frames apart for workers to decode, and has their bytes put in order again and checked.
fn spread<'scope>(
    stages: &Stages<'scope, '_>,
    input: &mut ChunkReader,
    pool: &Pool,
    send: Sender<Piece<Buffer>>,
) -> std::result::Result<(), Failure> {
    let (desk, queue) = workers::queue();
    let queue = Arc::new(queue);
    for _ in 0..workers::count() {
        let queue = Arc::clone(&queue);
        let work = move || {
            queue.work();
            Ok(())
        };
        stages.start("worker", work).map_err(Halt::from)?;
    }
    let (order, ordered) = sync_channel(workers::STEPS);
    stages.start("check", move || check(&ordered, &send)).map_err(Halt::from)?;
    let mut splitter = lz4::Splitter::new(input);
    loop {
        stages.shared.stop.check().map_err(Halt::from)?;
        let mut starved = false;
        let step = splitter.next(&mut || {
            let buffer = pool.take();
            starved = buffer.is_none();
            buffer
        })?;
        let offset = splitter.consumed();
        let next = match step {
            _ if starved => return Err(Halt::Neighbour.into()),
            None => Ordered::End,
            Some(Step::Start(header)) => Ordered::Start(header),
            Some(Step::Decoded(buffer)) => Ordered::Ready(buffer),
            Some(Step::Blocks(blocks)) => Ordered::Later(desk.put(blocks), offset),
            Some(Step::End(checksum)) => Ordered::FrameEnd(checksum, offset),
        };
        let is_end = matches!(next, Ordered::End);
        order.send(next).map_err(|_| Halt::Neighbour)?;
        if is_end {
            return Ok(());
        }
    }
}

/// Waits for decoded blocks in their order, checks every frame, and hands on full buffers.
fn check(receive: &Receiver<Ordered>, send: &Sender<Piece<Buffer>>) -> Stage<()> {
    let broken = |offset, error| Halt::Failed(decode::broken(Format::Lz4, offset, &error));
    let mut frame = None;
    let mut reflow = Reflow::default();
    let mut is_first = true;
    let mut hand_on = |buffer: Buffer| {
        if !buffer.filled().is_empty() && std::mem::take(&mut is_first) {
            decode::inspect(buffer.filled())?;
        }
        send.put(Piece::Data(buffer))
    };
    loop {
        let buffer = match receive.recv().map_err(|_| Halt::Neighbour)? {
            Ordered::Start(header) => {
                frame = Some(lz4::Check::new(header));
                continue;
            }
            Ordered::FrameEnd(checksum, offset) => {
                let ended = frame.take().map_or(Ok(()), |frame| frame.finish(checksum));
                ended.map_err(|error| broken(offset, error))?;
                continue;
            }
            Ordered::End => break,
            Ordered::Ready(buffer) => buffer,
            Ordered::Later(result, offset) => {
                let decoded = result.recv().map_err(|_| Halt::Neighbour)?;
                decoded.map_err(|error| broken(offset, error))?
            }
        };
        if let Some(frame) = &mut frame {
            frame.update(buffer.filled());
        }
        reflow.push(buffer, &mut hand_on)?;
    }
    reflow.finish().map_or(Ok(()), hand_on)?;
    send.put(Piece::End)
}
