//! An image over HTTP, read in whatever order: every answer has to be of the same version of it.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use reqwest::StatusCode;
use tokio::runtime::Handle;

use super::origin::{Identity, Origin};
use super::part::Part;
use super::{Error, Fetch, Result};

/// What is asked for first, to learn whether the server honours ranges; bytes.
const PROBE: u64 = 4096;

/// How much is read past rather than asked for anew: a request costs about as long as this takes.
/// Bytes.
const SKIP: u64 = 1 << 20;

/// An image whose bytes can be had in any order.
#[derive(Debug)]
pub(in crate::image) struct RandomAccess {
    origin: Arc<Origin>,
    runtime: Handle,
    total: u64,
    /// What is read ahead of, most often in order.
    ahead: Option<Ahead>,
}

#[derive(Debug)]
struct Ahead {
    part: Part,
    /// Where the next byte is.
    at: u64,
    rest: Bytes,
}

impl Fetch {
    /// Asks whether the image can be read in any order.
    pub(in crate::image) fn open_random(self) -> Result<RandomAccess> {
        let runtime = self.runtime.clone();
        let proven_by_digest = self.proven_by_digest;
        let origin = Arc::new(Origin::new(self));
        let mut first = Part::new(Arc::clone(&origin), 0, Some(PROBE));
        runtime.block_on(first.connect())?;
        let url = origin.place();
        if first.answer().is_none_or(|answer| answer.status() != StatusCode::PARTIAL_CONTENT) {
            return Err(Error::NoRanges { url, cause: "the server does not honour ranges" });
        }
        match origin.image() {
            Some(Identity { validator: None, .. }) if !proven_by_digest => {
                let cause = "the server gives neither a strong ETag nor Last-Modified, by which two \
                             ranges belong together, and there is no digest of the image";
                Err(Error::NoRanges { url, cause })
            }
            Some(Identity { total: Some(total), .. }) => {
                Ok(RandomAccess { origin, runtime, total, ahead: None })
            }
            _ => Err(Error::NoRanges { url, cause: "the server does not tell its length" }),
        }
    }
}

impl RandomAccess {
    pub(in crate::image) fn total(&self) -> u64 {
        self.total
    }

    pub(in crate::image) fn place(&self) -> String {
        self.origin.place()
    }

    /// Fills a slice from `offset` on, which has to be within the image, by a request of its own.
    pub(in crate::image) fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<()> {
        let end = offset + into.len() as u64;
        let part = Part::new(Arc::clone(&self.origin), offset, Some(end));
        let mut once = Ahead { part, at: offset, rest: Bytes::new() };
        self.runtime.block_on(once.fill(into))
    }

    /// The same, for what is most likely followed by what comes behind it.
    pub(in crate::image) fn read_ahead(&mut self, offset: u64, into: &mut [u8]) -> Result<()> {
        let near = |ahead: &Ahead| offset.checked_sub(ahead.at).is_some_and(|gap| gap <= SKIP);
        let mut ahead = match self.ahead.take().filter(near) {
            Some(ahead) => ahead,
            None => {
                let part = Part::new(Arc::clone(&self.origin), offset, Some(self.total));
                Ahead { part, at: offset, rest: Bytes::new() }
            }
        };
        self.runtime.block_on(async {
            ahead.skip(offset - ahead.at).await?;
            ahead.fill(into).await
        })?;
        self.ahead = Some(ahead);
        Ok(())
    }
}

impl Ahead {
    async fn skip(&mut self, mut length: u64) -> Result<()> {
        while length > 0 {
            let step = self.here().await?.min(usize::try_from(length).unwrap_or(usize::MAX));
            self.take(step);
            length -= step as u64;
        }
        Ok(())
    }

    async fn fill(&mut self, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            let step = self.here().await?.min(into.len());
            let (now, later) = into.split_at_mut(step);
            now.copy_from_slice(&self.rest[..step]);
            self.take(step);
            into = later;
        }
        Ok(())
    }

    /// How many bytes are here, at least one.
    async fn here(&mut self) -> Result<usize> {
        if self.rest.is_empty() {
            // The part ends where it was told to, which is not before what is asked for.
            self.rest = self.part.next().await?.ok_or(Error::Vanished { stage: "source" })?;
        }
        Ok(self.rest.len())
    }

    fn take(&mut self, length: usize) {
        self.rest.advance(length);
        self.at += length as u64;
    }
}
