//! Several parts of an image at once, delivered in order.
//!
//! ```text
//!  image   |--0--|--1--|--2--|--3--|--4--|--5--| …
//!  window        ^ read behind, in order
//!                |<------ `connections` ----->|  each fetched by a task of its own
//! ```
//!
//! A server has to have proven by its first answer that it can: 206, the length of the whole, and
//! a strong ETag, which every further part has to repeat. Otherwise its answer is read as one
//! stream.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::StatusCode;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::super::range::Validator;
use super::origin::{Identity, Origin};
use super::part::Part;
use super::{Error, Fetch, Result, Source};

/// Length of one part, bytes. With the most connections a job may ask for, all parts in memory
/// are at most 32 MiB.
const SEGMENT: u64 = 4 << 20;

/// An image that is fetched in several parts at once.
#[derive(Debug)]
pub(super) struct Segments {
    origin: Arc<Origin>,
    runtime: Handle,
    total: u64,
    /// The parts that are being fetched or read, in order.
    window: VecDeque<Segment>,
    /// Bytes delivered.
    offset: u64,
    /// First byte behind the window.
    next: u64,
}

#[derive(Debug)]
struct Segment {
    /// First byte behind it.
    end: u64,
    chunks: UnboundedReceiver<Result<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a server's first answer makes of an image.
pub(super) enum Opened {
    /// It is fetched in parts.
    Segments(Segments),
    /// The server does not know ranges, and has begun to send the whole.
    Whole(Part),
    /// There are ranges, but nothing proves that two of them belong together; or there is nothing
    /// to have a range of.
    Unfit,
}

impl Segments {
    /// Asks for the first part.
    pub(super) async fn open(fetch: Fetch) -> Result<Opened> {
        let runtime = fetch.runtime.clone();
        let origin = Arc::new(Origin::new(fetch));
        let mut first = Part::new(Arc::clone(&origin), 0, Some(SEGMENT));
        match first.connect().await {
            Ok(()) => {}
            // An empty image has no range. Whatever else it is, asking plainly will tell.
            Err(Error::Refused { .. } | Error::Mirrors { .. }) => return Ok(Opened::Unfit),
            Err(error) => return Err(error),
        }
        if first.answer().is_some_and(|answer| answer.status() == StatusCode::OK) {
            first.end_at(None);
            return Ok(Opened::Whole(first));
        }
        let Some(Identity { total: Some(total), validator: Some(Validator::Tag(_)) }) =
            origin.image()
        else {
            return Ok(Opened::Unfit);
        };
        let end = SEGMENT.min(total);
        first.end_at(Some(end));
        let window = VecDeque::from([Segment::start(&runtime, first, end)]);
        let mut segments = Self { origin, runtime, total, window, offset: 0, next: end };
        segments.fill_window();
        Ok(Opened::Segments(segments))
    }

    fn fill_window(&mut self) {
        let width = usize::from(self.origin.fetch.connections);
        while self.window.len() < width && self.next < self.total {
            let end = (self.next + SEGMENT).min(self.total);
            let part = Part::new(Arc::clone(&self.origin), self.next, Some(end));
            self.window.push_back(Segment::start(&self.runtime, part, end));
            self.next = end;
        }
    }
}

impl Segment {
    /// Fetches a part in the background. Its channel is bounded by its length.
    fn start(runtime: &Handle, mut part: Part, end: u64) -> Self {
        let (send, chunks) = unbounded_channel();
        let task = runtime.spawn(async move {
            while let Some(chunk) = part.next().await.transpose() {
                let failed = chunk.is_err();
                if send.send(chunk).is_err() || failed {
                    return;
                }
            }
        });
        Self { end, chunks, task }
    }
}

impl Source for Segments {
    fn next(&mut self) -> Result<Option<Bytes>> {
        let stop = self.origin.fetch.stop.clone();
        while let Some(head) = self.window.front_mut() {
            match self.runtime.block_on(stop.guard(head.chunks.recv()))? {
                Some(chunk) => {
                    let chunk = chunk?;
                    self.offset += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                None if self.offset == head.end => {
                    self.window.pop_front();
                    self.fill_window();
                }
                None => return Err(Error::Vanished { stage: "source" }),
            }
        }
        Ok(None)
    }

    fn total(&self) -> Option<u64> {
        Some(self.total)
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
