//! The threads of the engine, and its verdict.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nibs_job::LogLevel;

use super::buffer::{Buffer, Pool, Return};
use super::chunks::{ChunkReader, Piece};
use super::decode::{self, Decode, Limit};
use super::digest::{Expected, Verifier};
use super::progress::{Counters, Rate};
use super::write::{Uncommitted, Writer};
use super::{Error, Result, Source, Target};
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

/// Why a stage ended early.
enum Halt {
    /// By an error of its own.
    Failed(Error),
    /// Because one beside it did.
    Neighbour,
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

type Stage<T> = std::result::Result<T, Halt>;

/// What the stages share.
struct Shared<'a> {
    stop: &'a Stop,
    sink: &'a dyn Sink,
    counters: Counters,
    /// The first failure: those that follow from it say nothing.
    failure: Mutex<Option<Error>>,
}

/// Streams an image onto a target, and makes the target bootable only when the image is proven.
///
/// `served` are the digests of the bytes as served, `image` those of the image itself. `stop` is
/// cancelled if a stage fails, which wakes a source that waits for its server: give the same one
/// to both, and one that is used for nothing else ([`Stop::child`]).
pub fn stream(
    source: Box<dyn Source + '_>,
    target: &dyn Target,
    served: Expected,
    image: Expected,
    stop: &Stop,
    sink: &dyn Sink,
) -> Result<Summary> {
    let shared = Shared { stop, sink, counters: Counters::default(), failure: Mutex::new(None) };
    if let Some(total) = source.total() {
        shared.counters.set_total_in(total);
    }
    let uncommitted = run_stages(&shared, source, target, served, image)?;
    stop.check()?;
    let length = uncommitted.length;
    let backup_moved = uncommitted.commit(target, &shared.counters)?;
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
    served: Expected,
    image: Expected,
) -> Result<Uncommitted> {
    let total = source.total();
    let limit = Limit { disk: target.path().to_owned(), size: target.size() };
    let (pool, give) = Pool::new();
    let (alive, all_ended) = channel::<()>();
    thread::scope(|scope| {
        let stages = Stages { scope, shared, alive };
        let (send, chunks) = sync_channel(QUEUE);
        stages.start("source", move || pump(shared, &mut *source, &send))?;
        let chunks = if served.is_empty() {
            chunks
        } else {
            let (send, verified) = sync_channel(QUEUE);
            let verifier = Verifier::new(served, "bytes as served");
            stages.start("digest", move || verify(verifier, &chunks, &send, |chunk| chunk))?;
            verified
        };
        let (send, buffers) = channel();
        stages.start("decode", move || {
            decode_all(shared, ChunkReader::new(chunks), total, &limit, &pool, &send)
        })?;
        let buffers = if image.is_empty() {
            buffers
        } else {
            let (send, verified) = channel();
            let verifier = Verifier::new(image, "image");
            stages
                .start("image digest", move || verify(verifier, &buffers, &send, Buffer::filled))?;
            verified
        };
        let writer = stages.start("write", move || {
            write_all(shared, Writer::new(target, &shared.counters), &buffers, &give)
        })?;
        drop(stages);
        report_until(shared, &all_ended);
        let written = writer.join();
        let failure = shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (failure, written) {
            (Some(error), _) => Err(error),
            (None, Ok(Some(uncommitted))) => Ok(uncommitted),
            (None, _) => Err(Error::Vanished { stage: "write" }),
        }
    })
}

/// Starts stages, and knows when all have ended.
struct Stages<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    shared: &'env Shared<'env>,
    /// Cloned into every stage; all are gone when the last one ends.
    alive: Sender<()>,
}

impl<'scope, 'env> Stages<'scope, 'env> {
    fn start<T: Send + 'scope>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> Stage<T> + Send + 'scope,
    ) -> Result<thread::ScopedJoinHandle<'scope, Option<T>>> {
        let (shared, alive) = (self.shared, self.alive.clone());
        let guarded = move || {
            let _alive = alive;
            // A stage that panics must not look like one that had nothing to say.
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            match ended.unwrap_or(Err(Halt::Failed(Error::Vanished { stage: name }))) {
                Ok(value) => Some(value),
                Err(halt) => {
                    shared.halted(halt);
                    None
                }
            }
        };
        let started =
            thread::Builder::new().name(format!("image-{name}")).spawn_scoped(self.scope, guarded);
        started.map_err(|error| {
            self.shared.stop.cancel.cancel();
            Error::Thread(error)
        })
    }
}

impl Shared<'_> {
    fn halted(&self, halt: Halt) {
        // A stage whose neighbour failed must not cancel: the neighbour may not have said yet why,
        // and a third stage would take the cancellation for the reason.
        if let Halt::Failed(error) = halt {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error);
            drop(failure);
            self.stop.cancel.cancel();
        }
    }
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

/// Both kinds of channel: bounded by its own length, or by the pool that feeds it.
trait Outlet<T> {
    fn put(&self, piece: Piece<T>) -> Stage<()>;
}

impl<T> Outlet<T> for SyncSender<Piece<T>> {
    fn put(&self, piece: Piece<T>) -> Stage<()> {
        self.send(piece).map_err(|_| Halt::Neighbour)
    }
}

impl<T> Outlet<T> for Sender<Piece<T>> {
    fn put(&self, piece: Piece<T>) -> Stage<()> {
        self.send(piece).map_err(|_| Halt::Neighbour)
    }
}

fn decode_all(
    shared: &Shared<'_>,
    mut input: ChunkReader,
    total: Option<u64>,
    limit: &Limit,
    pool: &Pool,
    send: &Sender<Piece<Buffer>>,
) -> Stage<()> {
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
    let decoded = Decode::new(&mut input, format)
        .map_err(Failure::Io)
        .and_then(|mut decode| fill_buffers(shared, &mut decode, pool, send));
    if input.is_broken() {
        return Err(Halt::Neighbour);
    }
    match decoded {
        Ok(()) => {}
        Err(Failure::Io(error)) => {
            return Err(decode::broken(format, input.consumed(), &error).into());
        }
        Err(Failure::Halt(halt)) => return Err(halt),
    }
    decode::expect_end(&mut input, format)?;
    send.send(Piece::End).map_err(|_| Halt::Neighbour)
}

/// Why decoding ended early: an error still to be told where it was, or one that is told.
enum Failure {
    Io(io::Error),
    Halt(Halt),
}

fn fill_buffers(
    shared: &Shared<'_>,
    decode: &mut Decode<'_>,
    pool: &Pool,
    send: &Sender<Piece<Buffer>>,
) -> std::result::Result<(), Failure> {
    loop {
        shared.stop.check().map_err(|error| Failure::Halt(error.into()))?;
        let mut buffer = pool.take().ok_or(Failure::Halt(Halt::Neighbour))?;
        decode.fill(&mut buffer).map_err(Failure::Io)?;
        decode.inspect(&buffer).map_err(|error| Failure::Halt(error.into()))?;
        if buffer.filled().is_empty() {
            return Ok(());
        }
        send.send(Piece::Data(buffer)).map_err(|_| Failure::Halt(Halt::Neighbour))?;
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
                writer.push(&mut buffer)?;
                give.give(buffer);
            }
            Piece::End => return Ok(writer.finish()?),
        }
    }
}
