//! The engine: its stages in a row, and its verdict.

use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nibs_job::LogLevel;

use super::buffer::{Buffer, Pool, Return};
use super::chunks::{ChunkReader, Piece};
use super::commit::Uncommitted;
use super::decode::Limit;
use super::digest::{Expected, Verifier};
use super::progress::{Counters, Rate};
use super::readback::{self, read_back};
use super::stages::{Halt, Outlet, Shared, Stage, Stages};
use super::unpack::decode_all;
use super::write::Writer;
use super::{Error, Result, Source, Target, workers};
use crate::{Sink, Stop};

/// How often progress is told.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// How many chunks as served may wait between two stages. One has at most some 400 KiB.
const QUEUE: usize = 8;

/// What became of a finished stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bytes as served.
    pub served: u64,
    /// Bytes of the image.
    pub image: u64,
    /// Of those, zeros that the disk was told of instead of being sent them.
    pub zeroed: u64,
    /// Whether the backup GPT was moved to the end of a larger disk.
    pub backup_moved: bool,
}

/// How an image is proven.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof {
    /// Digests of the bytes as served.
    pub served: Expected,
    /// Digests of the image.
    pub image: Expected,
    /// Whether the disk is read back, and compared with what was written to it.
    pub read_back: bool,
    /// If the disk has been written already, save for these ranges of the image: only they are
    /// written, and all is proven as ever. See [`Error::Misread`].
    pub only: Option<Vec<Range<u64>>>,
}

/// Streams an image onto a target, and makes the target bootable only when the image is proven.
///
/// `stop` is cancelled if a stage fails, which wakes a source that waits for its server: give the
/// same one to both, and one that is used for nothing else ([`Stop::child`]).
pub fn stream(
    source: Box<dyn Source + '_>,
    target: &dyn Target,
    proof: &Proof,
    stop: &Stop,
    sink: &dyn Sink,
) -> Result<Summary> {
    let shared = Shared { stop, sink, counters: Counters::default(), failure: Mutex::new(None) };
    if let Some(total) = source.total() {
        shared.counters.set_total_in(total);
    }
    let uncommitted = run_stages(&shared, source, target, proof)?;
    stop.check()?;
    let length = uncommitted.length;
    let backup_moved = uncommitted.commit(target, &shared.counters, proof.read_back)?;
    let figures = shared.counters.figures();
    sink.log(LogLevel::Debug, format!("wrote {} {}", target.path().display(), target.manner()));
    sink.progress(figures);
    let (served, zeroed) = (figures.bytes_in, figures.bytes_zeroed);
    Ok(Summary { served, image: length, zeroed, backup_moved })
}

fn run_stages(
    shared: &Shared<'_>,
    mut source: Box<dyn Source + '_>,
    target: &dyn Target,
    proof: &Proof,
) -> Result<Uncommitted> {
    let total = source.total();
    let limit = Limit { disk: target.path().to_owned(), size: target.size() };
    let (pool, give) = Pool::new(workers::count());
    let (alive, all_ended) = channel::<()>();
    thread::scope(|scope| {
        let stages = Stages { scope, shared, alive };
        let (send, chunks) = sync_channel(QUEUE);
        stages.start("source", move || pump(shared, &mut *source, &send))?;
        let chunks = if proof.served.is_empty() {
            chunks
        } else {
            let (send, verified) = sync_channel(QUEUE);
            let verifier = Verifier::new(proof.served, "bytes as served");
            stages.start("digest", move || verify(verifier, &chunks, &send, |chunk| chunk))?;
            verified
        };
        let (send, buffers) = channel();
        let beside = stages.clone();
        stages.start("decode", move || {
            decode_all(&beside, ChunkReader::new(chunks), total, &limit, &pool, send)
        })?;
        let buffers = if proof.image.is_empty() {
            buffers
        } else {
            let (send, verified) = channel();
            let verifier = Verifier::new(proof.image, "image");
            stages
                .start("image digest", move || verify(verifier, &buffers, &send, Buffer::filled))?;
            verified
        };
        let (tell, told) = channel();
        let tell = proof.read_back.then_some(tell);
        let reader = stages.start("read", move || Ok(read_back(target, &told, shared.stop)?))?;
        let writer = stages.start("write", move || {
            let (counters, only) = (&shared.counters, proof.only.as_deref());
            let writer = Writer::new(target, counters, shared.sink, only, tell);
            write_all(shared, writer, &buffers, &give)
        })?;
        drop(stages);
        report_until(shared, &all_ended);
        let (written, misread) = (writer.join(), reader.join());
        let failure = shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (failure, written, misread) {
            (Some(error), ..) => Err(error),
            (None, Ok(Some(uncommitted)), Ok(Some(misread))) => {
                readback::verdict(target, misread).map(|()| uncommitted)
            }
            (None, ..) => Err(Error::Vanished { stage: "write" }),
        }
    })
}

/// Tells progress until every stage has ended.
fn report_until(shared: &Shared<'_>, all_ended: &Receiver<()>) {
    let mut rate = Rate::new(Instant::now());
    while all_ended.recv_timeout(REPORT_EVERY) == Err(RecvTimeoutError::Timeout) {
        let mut figures = shared.counters.figures();
        figures.rate = rate.sample(Instant::now(), figures.bytes_out);
        shared.sink.progress(figures);
    }
}

fn pump(
    shared: &Shared<'_>,
    source: &mut dyn Source,
    send: &SyncSender<Piece<Bytes>>,
) -> Stage<()> {
    loop {
        shared.stop.check()?;
        let Some(chunk) = source.next()? else { break };
        shared.counters.received(chunk.len() as u64);
        send.send(Piece::Data(chunk)).map_err(|_| Halt::Neighbour)?;
    }
    send.send(Piece::End).map_err(|_| Halt::Neighbour)
}

/// Hashes what passes by, and lets the end pass only if the digest is right.
fn verify<T>(
    mut verifier: Verifier,
    receive: &Receiver<Piece<T>>,
    send: &impl Outlet<T>,
    bytes: impl Fn(&T) -> &[u8],
) -> Stage<()> {
    loop {
        match receive.recv().map_err(|_| Halt::Neighbour)? {
            Piece::Data(data) => {
                verifier.update(bytes(&data));
                send.put(Piece::Data(data))?;
            }
            Piece::End => {
                verifier.finish()?;
                return send.put(Piece::End);
            }
        }
    }
}

fn write_all(
    shared: &Shared<'_>,
    mut writer: Writer<'_>,
    receive: &Receiver<Piece<Buffer>>,
    give: &Return,
) -> Stage<Uncommitted> {
    loop {
        match receive.recv().map_err(|_| Halt::Neighbour)? {
            Piece::Data(mut buffer) => {
                shared.stop.check()?;
                if !buffer.filled().is_empty() {
                    writer.push(&mut buffer)?;
                }
                give.give(buffer);
            }
            Piece::End => return Ok(writer.finish()?),
        }
    }
}
