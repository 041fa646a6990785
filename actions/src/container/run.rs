//! From an image's name to its program's end: the action's side of it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use nibs_job::params::RunContainer;
use nibs_job::{HexDigest, Progress, Size};
use sha2::{Digest, Sha256};

use super::end::GRACE;
use super::error::Error;
use super::image::{Image, Place as ImagePlace};
use super::inside::{self, Feed, Said, Task};
use super::output::Listener;
use super::pull::{self, PullError};
use super::root::{Place, Store};
use super::{layout, program};
use crate::image::{self, ChunkReader, Piece};
use crate::{Context, Interrupted};

/// How often an image is tried that a registry fails to give, as Tinkerbell's agent does.
const TRIES: u32 = 5;

/// Before the second try; doubles from one to the next.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How many chunks of a layer may wait to be unpacked. One has at most some 400 KiB.
const AHEAD: usize = 4;

const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// How soon a stop is noticed.
const POLL: Duration = Duration::from_millis(50);

/// Runs the program of a container image, and waits for its end.
pub(crate) fn run(params: &RunContainer, context: &Context) -> Result<(), crate::Error> {
    let name = match &params.name {
        Some(name) => name.clone(),
        None => params.image.reference.repository.replace('/', "_"),
    };
    let store = Store::of(params.scratch.as_deref(), &context.machine)?;
    let image = params.image.to_string();
    let mut pause = FIRST_PAUSE;
    for tries in 1.. {
        let cause = match attempt(params, context, &name, store.clone()) {
            Ok(()) => return Ok(()),
            Err(PullError::Other(error)) => return Err(error),
            Err(PullError::Fetch(image::Error::Interrupted(interrupted))) => {
                return Err(interrupted.into());
            }
            Err(PullError::Fetch(cause)) => cause,
        };
        let may_help = cause.class().is_retryable() || matches!(cause, image::Error::Digest { .. });
        if !may_help || tries == TRIES {
            return Err(Error::Pull { image, tries, cause: Box::new(cause) }.into());
        }
        context.sink.reset(format!("pulling {image}: {cause}; trying again"));
        let sleep = async { tokio::time::sleep(pause).await };
        context.runtime.block_on(context.stop.guard(sleep))?;
        pause *= 2;
    }
    Ok(())
}

/// One way from the image's name to the program's end, in a root of its own.
fn attempt(
    params: &RunContainer,
    context: &Context,
    name: &str,
    store: Store,
) -> Result<(), PullError> {
    let image = find(params, context)?;
    let machine = &context.machine;
    let place = Place::new(machine, name, store).map_err(other)?;
    let ((out, stdout), (err, stderr)) = pipes().map_err(other)?;
    let listener = |pipe| {
        Listener::start(pipe, Arc::clone(&context.sink)).map_err(|cause| other(thread_error(cause)))
    };
    let (out, err) = (listener(out)?, listener(err)?);
    let (send, feed) = sync_channel(0);
    let (say, said) = channel();
    let task = Task {
        params,
        config: &image.config,
        machine,
        stop: &context.stop,
        sink: &*context.sink,
        place: &place,
        stdout,
        stderr,
    };
    let (fed, ended, ran) = thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("container".into())
            .spawn_scoped(scope, move || inside::run(task, &feed, &say));
        let thread = thread.map_err(|cause| other(thread_error(cause)))?;
        let fed = feed_all(&image, params, context, &send, &said);
        // Whoever still waits for a layer learns that none comes.
        drop(send);
        let ended = if fed.is_ok() { watch(context, &said) } else { Ok(None) };
        let ran = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, PullError>((fed, ended, ran))
    })?;
    // Not before all of it is heard, however it ended: nothing is logged after an action's end.
    let said = [err.last(), out.last()];
    // What failed inside is the reason for what failed outside, but for an image that did not come.
    let whole = ran.map_err(other)?;
    fed?;
    let status = ended.map_err(|interrupted| PullError::Other(interrupted.into()))?;
    match (whole, status) {
        (Some(()), Some(status)) if status.success() => Ok(()),
        (Some(()), Some(status)) => {
            let words = program::words(&image.config, &params.command);
            Err(other(Error::Ended {
                image: params.image.to_string(),
                program: words.into_iter().next().unwrap_or_default(),
                status: in_words(status),
                last: said.into_iter().find(|lines| !lines.is_empty()).unwrap_or_default(),
            }))
        }
        _ => Err(image::Error::Vanished { stage: "container" }.into()),
    }
}

/// The image: of the layout that came along, else of its registry.
fn find(params: &RunContainer, context: &Context) -> Result<Image, PullError> {
    let layout = &context.machine.images;
    let (image, from) = match layout::find(layout, &params.image).map_err(other)? {
        Some(image) => (image, layout.display().to_string()),
        None => (pull::find(params, context)?, params.image.reference.registry.clone()),
    };
    let size = Size(image.size());
    let layers = match image.layers.len() {
        1 => "one layer".into(),
        several => format!("{several} layers"),
    };
    context.info(format!("{}: {size} in {layers}, from {from}", params.image));
    Ok(image)
}

/// Hands the layers in, each of them proven by its digest.
fn feed_all(
    image: &Image,
    params: &RunContainer,
    context: &Context,
    send: &SyncSender<Feed>,
    said: &Receiver<Said>,
) -> Result<(), PullError> {
    let name = params.image.to_string();
    // Where nobody answers, or listens any more, the reason is told by the thread's end.
    let Ok(Said::Room(room)) = said.recv() else { return Ok(()) };
    room.check(image, &name).map_err(other)?;
    let mut pace = Pace::new(image, context);
    for layer in &image.layers {
        let wrong = |cause| other(Error::Image { image: name.clone(), cause });
        let expected = layer.sha256().map_err(wrong)?;
        let mut source = image.place.open(layer)?;
        let (chunks, receive) = sync_channel(AHEAD);
        let digest = layer.digest.clone();
        if send.send(Feed::Layer { digest, chunks: ChunkReader::new(receive) }).is_err() {
            return Ok(());
        }
        let mut hash = Sha256::new();
        while let Some(chunk) = source.next()? {
            context.check().map_err(|interrupted| other(interrupted.into()))?;
            hash.update(&chunk);
            pace.came(chunk.len());
            if chunks.send(Piece::Data(chunk)).is_err() {
                return Ok(());
            }
        }
        let found = HexDigest::<32>(hash.finalize().into());
        if found != expected {
            return Err(match &image.place {
                ImagePlace::Registry { .. } => PullError::Fetch(image::Error::Digest {
                    algorithm: "sha256",
                    of: "layer",
                    expected: expected.to_string(),
                    found: found.to_string(),
                }),
                ImagePlace::Layout(layout) => other(Error::Layout {
                    image: name,
                    layout: layout.clone(),
                    cause: format!("expected a layer with sha256 {expected}, found {found}"),
                }),
            });
        }
        if chunks.send(Piece::End).is_err() {
            return Ok(());
        }
    }
    let _ = send.send(Feed::Whole);
    Ok(())
}

/// Waits for the program's end, and brings it about where the action has to end before.
fn watch(context: &Context, said: &Receiver<Said>) -> Result<Option<ExitStatus>, Interrupted> {
    let mut processes = None;
    let mut asked: Option<(Interrupted, Instant)> = None;
    let status = loop {
        match said.recv_timeout(POLL) {
            Ok(Said::Room(_)) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Said::Running(running)) => processes = Some(running),
            Ok(Said::Ended(status)) => break Some(status),
            Err(RecvTimeoutError::Disconnected) => break None,
        }
        let (Some(processes), Err(interrupted)) = (&processes, context.check()) else { continue };
        match asked {
            None => {
                context.info(format!("{interrupted}: ending the container"));
                processes.ask();
                asked = Some((interrupted, Instant::now()));
            }
            Some((_, since)) if since.elapsed() >= GRACE => processes.kill(),
            Some(_) => {}
        }
    };
    if processes.is_some_and(|processes| processes.kill_rest(&context.machine.proc)) {
        let left = "what the container has started among the machine's processes cannot be killed, \
                    and goes on";
        context.sink.warning(left.into());
    }
    match asked {
        Some((interrupted, _)) => Err(interrupted),
        None => Ok(status),
    }
}

/// How far the pull is.
struct Pace<'a> {
    context: &'a Context,
    total: u64,
    came: u64,
    begun: Instant,
    told: Instant,
}

impl<'a> Pace<'a> {
    fn new(image: &Image, context: &'a Context) -> Self {
        Self { context, total: image.size(), came: 0, begun: Instant::now(), told: Instant::now() }
    }

    fn came(&mut self, bytes: usize) {
        self.came += bytes as u64;
        if self.told.elapsed() < PROGRESS_INTERVAL {
            return;
        }
        self.told = Instant::now();
        let rate = self.came as f64 / self.begun.elapsed().as_secs_f64();
        self.context.sink.progress(Progress {
            bytes_in: self.came,
            bytes_out: 0,
            bytes_zeroed: 0,
            total_in: Some(self.total),
            total_out: None,
            rate: rate as u64,
        });
    }
}

type Pipe = (io::PipeReader, io::PipeWriter);

fn pipes() -> Result<(Pipe, Pipe), Error> {
    let pipe =
        || io::pipe().map_err(|cause| Error::Prepare { step: "making a pipe".into(), cause });
    Ok((pipe()?, pipe()?))
}

fn thread_error(cause: io::Error) -> Error {
    Error::Prepare { step: "starting a thread".into(), cause }
}

fn other(error: Error) -> PullError {
    PullError::Other(error.into())
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => {
            let name = nix::sys::signal::Signal::try_from(signal);
            name.map_or(format!("signal {signal} ended it"), |name| format!("{name} ended it"))
        }
        (None, None) => "it ended nobody knows how".into(),
    }
}
