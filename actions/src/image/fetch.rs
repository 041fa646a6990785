//! An image over HTTP: resumes where a transfer broke, and proves that it does.
//!
//! A broken, stalled or refused-for-now transfer is asked for again from the next byte
//! (`Range`, `If-Range`). The answer has to be 206 with that range of a whole of the same length
//! and with the same validator; a server that answers anything else would feed byte 0 at offset N.
//! What bounds this is progress, not attempts: it ends when no byte came for `stall_timeout`.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nibs_job::Location;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, IF_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use tokio::runtime::Handle;
use url::Url;

use super::range::{ContentRange, Validator};
use super::{Error, Result, Source};
use crate::{Sink, Stop, http};

/// How long a connection may be quiet before another one is tried: at least this, and a quarter
/// of the stall timeout if that is more, for servers that think long before they answer.
const MIN_QUIET: Duration = Duration::from_secs(30);

/// Waits between attempts double from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a transfer is made from.
#[derive(Clone)]
pub struct Fetch {
    /// Where the image is.
    pub url: Url,
    /// Asks for it.
    pub client: Client,
    /// Drives the client.
    pub runtime: Handle,
    /// Ends it early.
    pub stop: Stop,
    /// Hears of broken transfers.
    pub sink: Arc<dyn Sink>,
    /// How long no byte may come.
    pub stall_timeout: Duration,
    /// Whether a digest proves the bytes in the end, so that a transfer from a server without
    /// validators may be resumed.
    pub proven_by_digest: bool,
}

impl std::fmt::Debug for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetch")
            .field("url", &Location::Http(self.url.clone()))
            .field("stall_timeout", &self.stall_timeout)
            .finish_non_exhaustive()
    }
}

impl Fetch {
    /// Asks for the image and waits until its first answer, so that a wrong URL shows before
    /// anything else is done.
    pub fn open(self) -> Result<impl Source> {
        let mut transfer = Transfer {
            response: None,
            offset: 0,
            total: None,
            validator: None,
            attempt: 0,
            last_trouble: "not asked yet".into(),
            fetch: self,
        };
        transfer.connect(Instant::now())?;
        Ok(transfer)
    }
}

#[derive(Debug)]
struct Transfer {
    fetch: Fetch,
    /// The answer that is being read; none after it broke.
    response: Option<Response>,
    /// Bytes delivered so far.
    offset: u64,
    total: Option<u64>,
    validator: Option<Validator>,
    /// Fruitless attempts since the last byte.
    attempt: u32,
    last_trouble: String,
}

/// Why one request brought no answer that can be read.
enum Trouble {
    /// Trying again may help.
    ForNow(String),
    /// It will not.
    ForGood(Error),
}

impl Source for Transfer {
    fn next(&mut self) -> Result<Option<Bytes>> {
        // Time that the stages behind took does not count against the server.
        let waiting_since = Instant::now();
        loop {
            if self.total == Some(self.offset) {
                return Ok(None);
            }
            if self.response.is_none() {
                self.connect(waiting_since)?;
            }
            match self.read()? {
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(Some(chunk)) => {
                    self.offset += chunk.len() as u64;
                    self.attempt = 0;
                    return Ok(Some(chunk));
                }
                Ok(None) if self.total.is_none() => return Ok(None),
                Ok(None) => self.broke("the connection ended early".into())?,
                Err(trouble) => self.broke(trouble)?,
            }
        }
    }

    fn total(&self) -> Option<u64> {
        self.total
    }
}

impl Transfer {
    fn shown(&self) -> String {
        Location::Http(self.fetch.url.clone()).to_string()
    }

    fn quiet_timeout(&self) -> Duration {
        let stall = self.fetch.stall_timeout;
        MIN_QUIET.max(stall / 4).min(stall)
    }

    /// The next chunk of the answer. Outer: stopped. Inner: why the answer broke.
    fn read(&mut self) -> Result<std::result::Result<Option<Bytes>, String>> {
        let quiet = self.quiet_timeout();
        let Some(response) = &mut self.response else { return Ok(Err("no answer".into())) };
        let chunk = async { tokio::time::timeout(quiet, response.chunk()).await };
        let chunk = self.fetch.runtime.block_on(self.fetch.stop.guard(chunk))?;
        Ok(match chunk {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(http::describe(error)),
            Err(_) => Err(format!("no byte for {} s", quiet.as_secs_f64())),
        })
    }

    /// Notes that an answer broke, and whether it can be resumed at all.
    fn broke(&mut self, trouble: String) -> Result<()> {
        self.response = None;
        let unproven = self.validator.is_none() && !self.fetch.proven_by_digest;
        if self.offset > 0 && unproven {
            let why = "the server gives neither a strong ETag nor Last-Modified, and the job has \
                       no digest";
            return Err(self.not_resumable(trouble, why.into()));
        }
        let (url, offset) = (self.shown(), self.offset);
        self.fetch.sink.warning(format!(
            "fetching {url}: the transfer broke at offset {offset} ({trouble}); resuming there"
        ));
        self.last_trouble = trouble;
        Ok(())
    }

    fn not_resumable(&self, broke: String, why: String) -> Error {
        Error::NotResumable {
            url: self.shown(),
            offset: self.offset,
            total: self.total,
            broke,
            why,
        }
    }

    /// Asks until there is an answer that continues at `offset`.
    fn connect(&mut self, waiting_since: Instant) -> Result<()> {
        loop {
            if self.attempt > 0 {
                self.pause(waiting_since)?;
            }
            self.attempt += 1;
            match self.ask()? {
                Ok(response) => {
                    self.response = Some(response);
                    return Ok(());
                }
                Err(Trouble::ForGood(error)) => return Err(error),
                Err(Trouble::ForNow(trouble)) => {
                    let url = self.shown();
                    self.fetch.sink.warning(format!("fetching {url}: {trouble}; trying again"));
                    self.last_trouble = trouble;
                }
            }
        }
    }

    /// Waits before another attempt, ever longer, and gives up once no byte came for too long.
    fn pause(&self, waiting_since: Instant) -> Result<()> {
        let waited = waiting_since.elapsed();
        let left = self.fetch.stall_timeout.saturating_sub(waited);
        if left.is_zero() {
            return Err(Error::Stalled {
                url: self.shown(),
                offset: self.offset,
                total: self.total,
                waited,
                last: self.last_trouble.clone(),
            });
        }
        let doubled = FIRST_PAUSE * 2_u32.saturating_pow((self.attempt - 1).min(8));
        let pause = jittered(doubled.min(LONGEST_PAUSE)).min(left);
        let sleep = async { tokio::time::sleep(pause).await };
        Ok(self.fetch.runtime.block_on(self.fetch.stop.guard(sleep))?)
    }

    /// Asks once. Outer: stopped.
    fn ask(&mut self) -> Result<std::result::Result<Response, Trouble>> {
        let mut request =
            self.fetch.client.get(self.fetch.url.clone()).header(ACCEPT_ENCODING, "identity");
        if self.offset > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.offset));
            if let Some(validator) = &self.validator {
                request = request.header(IF_RANGE, validator.value());
            }
        }
        let quiet = self.quiet_timeout();
        let answer = async { tokio::time::timeout(quiet, request.send()).await };
        let answer = self.fetch.runtime.block_on(self.fetch.stop.guard(answer))?;
        Ok(match answer {
            Ok(Ok(response)) => self.judge(response),
            Ok(Err(error)) => Err(self.judge_failure(error)),
            Err(_) => Err(Trouble::ForNow(format!("no answer for {} s", quiet.as_secs_f64()))),
        })
    }

    fn judge_failure(&self, error: reqwest::Error) -> Trouble {
        let url = self.shown();
        let (certificate, final_) =
            (is_about_a_certificate(&error), error.is_builder() || error.is_redirect());
        let cause = http::describe(error);
        if certificate {
            Trouble::ForGood(Error::Certificate { url, cause })
        } else if final_ {
            Trouble::ForGood(Error::Request { url, cause })
        } else {
            Trouble::ForNow(cause)
        }
    }

    fn judge(&mut self, response: Response) -> std::result::Result<Response, Trouble> {
        let status = response.status();
        match status {
            StatusCode::OK if self.offset == 0 => {
                self.total = response.content_length();
                self.validator = Validator::of(response.headers());
                Ok(response)
            }
            StatusCode::PARTIAL_CONTENT if self.offset > 0 => self.judge_part(response),
            StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE if self.offset > 0 => {
                let why = format!(
                    "the server answered {status}: it ignores Range, or has changed the image"
                );
                let broke = self.last_trouble.clone();
                Err(Trouble::ForGood(self.not_resumable(broke, why)))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(Trouble::ForNow(format!("the server answered {status}")))
            }
            _ if status.is_server_error() => {
                Err(Trouble::ForNow(format!("the server answered {status}")))
            }
            _ => Err(Trouble::ForGood(Error::Refused {
                url: self.shown(),
                status: status.to_string(),
            })),
        }
    }

    /// Whether a partial answer continues what has been read.
    fn judge_part(&mut self, response: Response) -> std::result::Result<Response, Trouble> {
        match self.flaw_of_part(&response) {
            Ok(total) => {
                self.total = total;
                Ok(response)
            }
            Err(why) => {
                let broke = self.last_trouble.clone();
                Err(Trouble::ForGood(self.not_resumable(broke, why)))
            }
        }
    }

    fn flaw_of_part(&self, response: &Response) -> std::result::Result<Option<u64>, String> {
        let headers = response.headers();
        let text = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let range = ContentRange::parse(text)
            .ok_or_else(|| format!("its answer has an unusable Content-Range {text:?}"))?;
        if range.first != self.offset {
            return Err(format!("asked for byte {}, got Content-Range {text:?}", self.offset));
        }
        let same_whole = match (self.total, range.complete) {
            (Some(known), Some(said)) => known == said,
            _ => true,
        };
        let length_fits =
            response.content_length().is_none_or(|length| length == range.last - range.first + 1);
        if !same_whole || !length_fits {
            return Err(format!(
                "the image had {:?} bytes, its answer has Content-Range {text:?} and a length of {:?}",
                self.total,
                response.content_length()
            ));
        }
        if let Some(validator) = &self.validator {
            validator.holds_in(headers)?;
        }
        Ok(self.total.or(range.complete))
    }
}

/// Between half and the whole of a pause, so that a rack that lost its server does not come back
/// as one.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1024;
    pause.mul_f64(0.5 + random as f64 / 2048.0)
}

/// Whether rustls refused the server's certificate, which no retry changes.
fn is_about_a_certificate(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // `io::Error::source` skips the error that it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}
