//! An image over HTTP: resumes where a transfer broke, and proves that it does.
//!
//! A broken, stalled or refused-for-now transfer is asked for again from the next byte
//! (`Range`, `If-Range`). The answer has to be 206 with that range of a whole of the same length
//! and with the same validator; a server that answers anything else would feed byte 0 at offset N.
//! What bounds this is progress, not attempts: it ends when no byte came for `stall_timeout`.
//!
//! - [`Fetch`]: what a transfer is made from; opens it as a [`Source`].
//! - [`origin`]: the mirrors, what is known of the image that they serve; one request to one.
//! - [`part`]: a range of the image, read to its end across broken transfers.
//! - [`segments`]: several parts at once, delivered in order.
//! - [`random`]: an image in whatever order.
//! - [`glance`]: something small that may well not be there.
//! - [`access`]: what servers are shown to let us in.

mod access;
mod glance;
mod origin;
mod part;
mod random;
mod segments;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nibs_job::Location;
use reqwest::Client;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;
use url::Url;

use self::origin::Origin;
use self::part::Part;
use self::segments::{Opened, Segments};
use super::{Error, Result, Source};
use crate::{Sink, Stop};

pub use self::access::{Access, Credentials, Tokens};
pub(in crate::image) use self::random::RandomAccess;

/// How many chunks may wait to be taken. One has at most some 400 KiB.
const AHEAD: usize = 4;

/// What a transfer is made from.
#[derive(Clone)]
pub struct Fetch {
    /// Where the image is: at least one URL, and its mirrors in the order in which they are tried.
    pub urls: Vec<Url>,
    /// Asks for it.
    pub client: Client,
    /// What the servers are shown to let us in.
    pub access: Access,
    /// Media types to ask for, where the server has a choice.
    pub accept: Option<&'static str>,
    /// Drives the client.
    pub runtime: Handle,
    /// Ends it early.
    pub stop: Stop,
    /// Hears of broken transfers.
    pub sink: Arc<dyn Sink>,
    /// How long no byte may come.
    pub stall_timeout: Duration,
    /// Whether a digest proves the bytes in the end, so that a transfer from a server without
    /// validators may be resumed, and be continued by another server.
    pub proven_by_digest: bool,
    /// How many parts are fetched at once where the server can do that; 1 is one stream.
    pub connections: u8,
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let urls: Vec<_> = self.urls.iter().cloned().map(Location::Http).collect();
        f.debug_struct("Fetch")
            .field("urls", &urls)
            .field("access", &self.access)
            .field("stall_timeout", &self.stall_timeout)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

impl Fetch {
    /// Asks for the image and waits until its first answer, so that a wrong URL shows before
    /// anything else is done.
    pub fn open(self) -> Result<Box<dyn Source>> {
        let runtime = self.runtime.clone();
        if self.connections > 1 {
            match runtime.block_on(Segments::open(self.clone()))? {
                Opened::Segments(segments) => return Ok(Box::new(segments)),
                Opened::Whole(whole) => return Ok(Box::new(Stream::start(whole, runtime))),
                Opened::Unfit => {}
            }
        }
        let mut whole = Part::new(Arc::new(Origin::new(self)), 0, None);
        runtime.block_on(whole.connect())?;
        Ok(Box::new(Stream::start(whole, runtime)))
    }
}

/// The whole image in one part, fetched by a task of its own: it stays on the thread that reads the
/// socket, so that a chunk costs one wake-up, and of a thread that is behind it costs none.
#[derive(Debug)]
struct Stream {
    origin: Arc<Origin>,
    runtime: Handle,
    /// Ends with an error, or with none for the end: what just ceases is not at its end.
    chunks: Receiver<Result<Option<Bytes>>>,
    task: JoinHandle<()>,
}

impl Stream {
    fn start(mut whole: Part, runtime: Handle) -> Self {
        let origin = Arc::clone(whole.origin());
        let (send, chunks) = channel(AHEAD);
        let task = runtime.spawn(async move {
            loop {
                let chunk = whole.next().await;
                let is_last = !matches!(chunk, Ok(Some(_)));
                if send.send(chunk).await.is_err() || is_last {
                    return;
                }
            }
        });
        Self { origin, runtime, chunks, task }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source for Stream {
    fn next(&mut self) -> Result<Option<Bytes>> {
        // The task hears of a stop, and says so.
        self.chunks.blocking_recv().unwrap_or(Err(Error::Vanished { stage: "source" }))
    }

    fn total(&self) -> Option<u64> {
        self.origin.total()
    }

    fn peek(&self, offset: u64, length: u64) -> Option<Bytes> {
        self.runtime.block_on(self.origin.peek(offset, length))
    }

    fn place(&self) -> Option<String> {
        Some(self.origin.place())
    }

    fn mirror(&self) -> usize {
        self.origin.good()
    }
}
