//! The decode stage: bytes as served become the image, in buffers of the pool, on all cores where
//! the format allows it.
//!
//! ```text
//!                 ┌─> worker ─┐
//!  chunks ──> cut ┼─> worker ─┼─> check ──> full buffers
//!                 └─> worker ─┘
//!              └─── the order ───┘
//! ```
//!
//! [`cut`](super::cut) finds units that can be decoded by themselves, without decoding, and passes
//! their bytes on as they come; a [worker](super::workers) makes buffers of a unit; the check puts
//! them in order again. What can be told apart is a matter of the format:
//!
//! - lz4: the blocks of a frame, if they are independent, else frames; see [`lz4`].
//! - zstd: frames, as `pzstd` and the seekable format make them; see [`zstd`]. `zstd -T` makes one.
//! - xz: blocks, as `xz -T` makes them; see [`xz`].
//! - gzip: members if each of them says how long it is, as those of `bgzip` do; see [`gzip`]. The
//!   end of any other member, those of `pigz` and of concatenated files among them, is known only
//!   once it is decoded: such a stream is one unit.
//! - bzip2 and raw images are one unit.
//!
//! Units are streamed, however long they are, and [`ahead`](super::ahead) bounds what is in memory.
//! So a stream of one unit is decoded from front to back, by one worker, in the same way. liblzma's
//! own decoder with threads keeps whole blocks in memory instead: with blocks of 24 MiB, two cores
//! took 125 MiB, and the limit of 64 MiB made it use one; this one uses both, within 60 MiB.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, sync_channel};

use nibs_job::LogLevel;

use super::ahead::Ahead;
use super::buffer::Buffer;
use super::chunks::{ChunkReader, Piece};
use super::cut::{Cut, Failure, Outcome, Step};
use super::decode::{self, Limit};
use super::format::Format;
use super::reflow::Reflow;
use super::stages::{Halt, Outlet, Stage, Stages};
use super::workers::{self, Kind};
use super::{gzip, lz4, xz, zstd};

/// Steps on their way from cut to check, and so how many units are in the works. What they hold is
/// bounded elsewhere; this bounds those that hold nothing.
const STEPS: usize = 16;

/// The decode stage, which starts others beside it. `behind`: see [`Ahead::new`].
pub(super) fn decode_all<'scope>(
    stages: &Stages<'scope, '_>,
    mut input: ChunkReader,
    total: Option<u64>,
    limit: &Limit,
    behind: usize,
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
    let ahead = Ahead::new(behind);
    let (desk, queue) = workers::queue();
    let queue = Arc::new(queue);
    for _ in 0..workers::count() {
        let (queue, ahead) = (Arc::clone(&queue), Arc::clone(&ahead));
        let work = move || {
            queue.work(&ahead);
            Ok(())
        };
        stages.start("worker", work)?;
    }
    let (order, ordered) = sync_channel(STEPS);
    let beside = Closing(Arc::clone(&ahead));
    stages.start("check", move || check(&ordered, &beside.0, format, &send))?;
    let mut cut = Cut::new(&mut input, &ahead, shared.stop, desk, order);
    let taken_apart = take_apart(&mut cut, format);
    let offset = cut.offset();
    let ended = taken_apart.and_then(|()| cut.finish());
    if input.is_broken() {
        return Err(Halt::Neighbour);
    }
    ended.map_err(|failure| match failure {
        Failure::Io(error) => decode::broken(format, offset, &error).into(),
        Failure::Halt(halt) => halt,
    })
}

/// Takes a stream apart to its end.
fn take_apart(cut: &mut Cut<'_>, format: Format) -> Outcome<()> {
    match format {
        Format::Lz4 => lz4::take_apart(cut),
        Format::Zstd => zstd::take_apart(cut),
        Format::Xz => xz::take_apart(cut),
        Format::Gzip => gzip::take_apart(cut),
        Format::Raw | Format::Bzip2 => {
            cut.start(Kind::Stream(format), 0)?;
            cut.pass_rest()
        }
    }
}

/// Lets nobody wait for the check stage once it is gone, however it went.
struct Closing(Arc<Ahead>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Puts what is decoded in order, checks every frame, and hands on full buffers.
fn check(
    receive: &Receiver<Step>,
    ahead: &Ahead,
    format: Format,
    send: &Sender<Piece<Buffer>>,
) -> Stage<()> {
    let mut frame = None;
    let mut reflow = Reflow::default();
    let mut is_first = true;
    let mut hand_on = |buffer: Buffer| {
        if !buffer.filled().is_empty() && std::mem::take(&mut is_first) {
            decode::inspect(buffer.filled())?;
        }
        send.put(Piece::Data(buffer))
    };
    let mut unit = 0;
    loop {
        match receive.recv().map_err(|_| Halt::Neighbour)? {
            Step::Check(of_frame) => frame = Some(of_frame),
            Step::Checked(checksum, offset) => {
                let ended = frame.take().map_or(Ok(()), |frame: lz4::Check| frame.finish(checksum));
                ended.map_err(|error| decode::broken(format, offset, &error))?;
            }
            Step::Unit(decoded) => {
                ahead.turn(unit);
                unit += 1;
                while let Piece::Data(buffer) = decoded.recv().map_err(|_| Halt::Neighbour)?? {
                    if let Some(frame) = &mut frame {
                        frame.update(buffer.filled());
                    }
                    reflow.push(buffer, &mut hand_on)?;
                }
            }
            Step::End => break,
        }
    }
    reflow.finish().map_or(Ok(()), hand_on)?;
    send.put(Piece::End)
}

#[cfg(test)]
pub(super) mod tests;
