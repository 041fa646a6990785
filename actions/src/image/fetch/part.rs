//! A range of the image, read to its end across broken transfers.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Response;

use super::origin::{Origin, Trouble};
use super::{Error, Result};
use crate::http;

/// Waits between rounds of attempts double from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A range of the image.
#[derive(Debug)]
pub(super) struct Part {
    origin: Arc<Origin>,
    /// The answer that is being read, and whose it is; none after it broke.
    answer: Option<(usize, Response)>,
    /// The next byte.
    offset: u64,
    /// Where it ends, if not with the image.
    end: Option<u64>,
    /// Fruitless rounds since the last byte.
    attempt: u32,
    /// Why the last answer broke.
    broke: String,
}

impl Part {
    /// The bytes from `offset` until before `end`, or until the image's own end.
    pub(super) fn new(origin: Arc<Origin>, offset: u64, end: Option<u64>) -> Self {
        let broke = "not asked yet".into();
        Self { origin, answer: None, offset, end, attempt: 0, broke }
    }

    pub(super) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// The answer that is being read.
    pub(super) fn answer(&self) -> Option<&Response> {
        self.answer.as_ref().map(|(_, response)| response)
    }

    /// Sets where the part ends.
    pub(super) fn end_at(&mut self, end: Option<u64>) {
        self.end = end;
    }

    /// Asks until there is an answer that can be read.
    pub(super) async fn connect(&mut self) -> Result<()> {
        self.connect_since(Instant::now()).await
    }

    /// The next bytes, never empty; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        // Time that the stages behind took does not count against the server.
        let waiting_since = Instant::now();
        loop {
            let end = self.end.or(self.origin.total());
            if end == Some(self.offset) {
                return Ok(None);
            }
            if self.answer.is_none() {
                self.connect_since(waiting_since).await?;
            }
            match self.read().await? {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(Some(chunk))
                    if end.is_some_and(|end| chunk.len() as u64 > end - self.offset) =>
                {
                    self.broke("more bytes came than it had announced".into())?;
                }
                Ok(Some(chunk)) => {
                    self.offset += chunk.len() as u64;
                    self.attempt = 0;
                    return Ok(Some(chunk));
                }
                Ok(None) if end.is_none() => return Ok(None),
                Ok(None) => self.broke("the connection ended early".into())?,
                Err(trouble) => self.broke(trouble)?,
            }
        }
    }

    /// The next chunk of the answer. Outer: stopped. Inner: why the answer broke.
    async fn read(&mut self) -> Result<std::result::Result<Option<Bytes>, String>> {
        let quiet = self.origin.quiet_timeout();
        let Some((_, response)) = &mut self.answer else { return Ok(Err("no answer".into())) };
        let chunk = async { tokio::time::timeout(quiet, response.chunk()).await };
        Ok(match self.origin.fetch.stop.guard(chunk).await? {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(http::describe(error)),
            Err(_) => Err(format!("no byte for {} s", quiet.as_secs_f64())),
        })
    }

    /// Notes that an answer broke, and whether its server can continue at all.
    fn broke(&mut self, trouble: String) -> Result<()> {
        let mirror = self.answer.take().map_or_else(|| self.origin.good(), |(mirror, _)| mirror);
        let (url, offset) = (self.origin.shown(mirror), self.offset);
        self.broke = trouble;
        if offset > 0 && !self.origin.can_resume(mirror) {
            let why = "the server gives neither a strong ETag nor Last-Modified, and the job has \
                       no digest";
            self.origin.note(mirror, Trouble::Discontinued(why.into()));
            if self.origin.order().is_empty() {
                return Err(self.origin.exhausted(offset, &self.broke));
            }
            return Ok(());
        }
        self.origin.fetch.sink.warning(format!(
            "fetching {url}: the transfer broke at offset {offset} ({}); resuming there",
            self.broke
        ));
        Ok(())
    }

    async fn connect_since(&mut self, waiting_since: Instant) -> Result<()> {
        loop {
            if self.attempt > 0 {
                self.pause(waiting_since).await?;
            }
            self.attempt += 1;
            for mirror in self.origin.order() {
                match self.origin.ask(mirror, self.offset, self.end).await? {
                    Ok(response) => {
                        self.answer = Some((mirror, response));
                        return Ok(());
                    }
                    Err(trouble) => self.origin.note(mirror, trouble),
                }
            }
            if self.origin.order().is_empty() {
                return Err(self.origin.exhausted(self.offset, &self.broke));
            }
        }
    }

    /// Waits before another round, ever longer, and gives up once no byte came for too long.
    async fn pause(&self, waiting_since: Instant) -> Result<()> {
        let waited = waiting_since.elapsed();
        let left = self.origin.fetch.stall_timeout.saturating_sub(waited);
        if left.is_zero() {
            let said = self.origin.said();
            return Err(Error::Stalled {
                url: self.origin.shown(self.origin.good()),
                offset: self.offset,
                total: self.origin.total(),
                waited,
                last: if said.is_empty() { self.broke.clone() } else { said },
            });
        }
        let doubled = FIRST_PAUSE * 2_u32.saturating_pow((self.attempt - 1).min(8));
        let pause = jittered(doubled.min(LONGEST_PAUSE)).min(left);
        let sleep = async { tokio::time::sleep(pause).await };
        Ok(self.origin.fetch.stop.guard(sleep).await?)
    }
}

/// Between half and the whole of a pause, so that a rack that lost its server does not come back
/// as one.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1024;
    pause.mul_f64(0.5 + random as f64 / 2048.0)
}
