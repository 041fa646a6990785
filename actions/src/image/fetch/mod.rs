//! An image over HTTP: resumes where a transfer broke, and proves that it does.
//!
//! A broken, stalled or refused-for-now transfer is asked for again from the next byte
//! (`Range`, `If-Range`). The answer has to be 206 with that range of a whole of the same length
//! and with the same validator; a server that answers anything else would feed byte 0 at offset N.
//! What bounds this is progress, not attempts: it ends when no byte came for `stall_timeout`.
//!
//! - [`Fetch`]: what a transfer is made from; opens it as a [`Source`].
//! - [`origin`]: the mirrors, what is known of the image that they serve, one request to one.
//! - [`part`]: a range of the image, read to its end across broken transfers.
//! - [`segments`]: several parts at once, delivered in order.
//! - [`access`]: what servers are shown to let us in.

mod access;
mod origin;
mod part;
mod segments;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nibs_job::Location;
use reqwest::Client;
use tokio::runtime::Handle;
use url::Url;

use self::origin::Origin;
use self::part::Part;
use self::segments::{Opened, Segments};
use super::{Error, Result, Source};
use crate::{Sink, Stop};

pub use self::access::{Access, Credentials, Tokens};

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
                Opened::Whole(whole) => return Ok(Box::new(Stream { whole, runtime })),
                Opened::Unfit => {}
            }
        }
        let mut whole = Part::new(Arc::new(Origin::new(self)), 0, None);
        runtime.block_on(whole.connect())?;
        Ok(Box::new(Stream { whole, runtime }))
    }
}

/// The whole image in one part.
#[derive(Debug)]
struct Stream {
    whole: Part,
    runtime: Handle,
}

impl Source for Stream {
    fn next(&mut self) -> Result<Option<Bytes>> {
        self.runtime.block_on(self.whole.next())
    }

    fn total(&self) -> Option<u64> {
        self.whole.origin().total()
    }

    fn peek(&self, offset: u64, length: u64) -> Option<Bytes> {
        self.runtime.block_on(self.whole.origin().peek(offset, length))
    }
}
