//! The engine: its stages in a row, and its verdict.

use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nibs_job::LogLevel;

use super::bmap::MapCheck;
use super::buffer::Buffer;
use super::chunks::{ChunkReader, Piece};
use super::commit::Uncommitted;
use super::decode::Limit;
use super::digest::{Check, Expected, Verifier};
use super::lanes::{self, LANES};
use super::progress::{Counters, Rate};
use super::readback::{Misread, READERS, read_back};
use super::stages::{Halt, Outlet, Shared, Stage, Stages};
use super::unpack::decode_all;
use super::write::Writer;
use super::{BlockMap, Error, Result, Source, Target};
use crate::{Sink, Stop};

/// How often progress is told.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// How many chunks as served may wait between two stages. One has at most some 400 KiB.
pub(super) const QUEUE: usize = 4;

/// Buffers on their way from the decoders to the disk, beside those that the decoders leave over
/// most of the time. One for each lane would take four MiB more, for nothing that can be measured.
const BUFFERS_BEHIND: usize = 1;

/// What became of a finished stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bytes as served.
    pub served: u64,
    /// Bytes of the image.
    pub image: u64,
    /// Of those, zeros that the disk was told of instead of being sent them.
    pub zeroed: u64,
    /// Of those, zeros by whose place nobody cares, as the block map says: the disk has there what
    /// it had before.
    pub skipped: u64,
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
    /// What of the image holds something; all of it, if that is not known.
    pub map: Option<Arc<BlockMap>>,
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
    let skipped = shared.counters.total_skipped();
    Ok(Summary { served, image: length, zeroed, skipped, backup_moved })
}

fn run_stages(
    shared: &Shared<'_>,
    mut source: Box<dyn Source + '_>,
    target: &dyn Target,
    proof: &Proof,
) -> Result<Uncommitted> {
    let total = source.total();
    let limit = Limit { disk: target.path().to_owned(), size: target.size() };
    let (alive, all_ended) = channel::<()>();
    thread::scope(|scope| {
        let stages = Stages { scope, shared, alive };
        let (send, chunks) = sync_channel(QUEUE);
        let verifier = Verifier::new(proof.served, "bytes as served");
        stages.start("source", move || pump(shared, &mut *source, verifier, &send))?;
        let (send, buffers) = channel();
        let beside = stages.clone();
        stages.start("decode", move || {
            decode_all(&beside, ChunkReader::new(chunks), total, &limit, BUFFERS_BEHIND, send)
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
        let buffers = match &proof.map {
            None => buffers,
            Some(map) => {
                let (send, checked) = channel();
                let check = MapCheck::new(Arc::clone(map));
                stages
                    .start("block map", move || verify(check, &buffers, &send, Buffer::filled))?;
                checked
            }
        };
        let (tell, told) = channel();
        let (tell, told) = (proof.read_back.then_some(tell), Arc::new(Mutex::new(told)));
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let told = Arc::clone(&told);
            readers.push(stages.start("read", move || Ok(read_back(target, &told, shared.stop)?))?);
        }
        let (desk, lane) = lanes::open();
        let (working, all_done) = channel();
        for _ in 0..LANES {
            let (lane, tell, working) = (lane.clone(), tell.clone(), working.clone());
            stages.start("disk", move || {
                let _working = working;
                Ok(lane.work(target, &shared.counters, tell.as_ref())?)
            })?;
        }
        drop((lane, working));
        let writer = stages.start("write", move || {
            let lanes = (desk, all_done);
            let writer = Writer::new(target, &shared.counters, shared.sink, proof, lanes, tell);
            write_all(shared, writer, &buffers)
        })?;
        drop(stages);
        report_until(shared, &all_ended);
        let written = writer.join().ok().flatten();
        let misread: Option<Vec<_>> =
            readers.into_iter().map(|reader| reader.join().ok().flatten()).collect();
        let failure = shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (failure, written, misread) {
            (Some(error), ..) => Err(error),
            (None, Some(uncommitted), Some(misread)) => {
                Misread::all(misread).verdict(target).map(|()| uncommitted)
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

/// Fetches and checks, and lets the end pass only if all was right.
pub(super) fn pump(
    shared: &Shared<'_>,
    source: &mut dyn Source,
    mut check: impl Check,
    send: &SyncSender<Piece<Bytes>>,
) -> Stage<()> {
    loop {
        shared.stop.check()?;
        let Some(chunk) = source.next()? else { break };
        shared.counters.received(chunk.len() as u64);
        check.update(&chunk)?;
        send.send(Piece::Data(chunk)).map_err(|_| Halt::Neighbour)?;
    }
    check.finish()?;
    send.send(Piece::End).map_err(|_| Halt::Neighbour)
}

/// Checks what passes by, and lets the end pass only if all was right.
fn verify<T>(
    mut check: impl Check,
    receive: &Receiver<Piece<T>>,
    send: &impl Outlet<T>,
    bytes: impl Fn(&T) -> &[u8],
) -> Stage<()> {
    loop {
        match receive.recv().map_err(|_| Halt::Neighbour)? {
            Piece::Data(data) => {
                check.update(bytes(&data))?;
                send.put(Piece::Data(data))?;
            }
            Piece::End => {
                check.finish()?;
                return send.put(Piece::End);
            }
        }
    }
}

fn write_all(
    shared: &Shared<'_>,
    mut writer: Writer<'_>,
    receive: &Receiver<Piece<Buffer>>,
) -> Stage<Uncommitted> {
    loop {
        match receive.recv().map_err(|_| Halt::Neighbour)? {
            Piece::Data(buffer) => {
                shared.stop.check()?;
                if !buffer.filled().is_empty() {
                    writer.push(buffer)?;
                }
            }
            Piece::End => return writer.finish(),
        }
    }
}
