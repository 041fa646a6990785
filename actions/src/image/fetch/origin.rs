//! The mirrors of an image, what is known of the image that they serve, and one request to one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nibs_job::{Class, Location};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use url::Url;

use super::super::range::{ContentRange, Validator};
use super::access::TokenError;
use super::{Access, Error, Fetch, Result};
use crate::http;

/// How long a connection may be quiet before another one is tried: at least this, and a quarter
/// of the stall timeout if that is more, for servers that think long before they answer.
const MIN_QUIET: Duration = Duration::from_secs(30);

/// What all parts of one image share.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) fetch: Fetch,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    mirrors: Vec<Mirror>,
    /// The mirror that served last.
    good: usize,
    /// The image as the first answer had it.
    image: Option<Identity>,
}

#[derive(Debug)]
struct Mirror {
    /// As it tells versions apart; none before its first answer.
    validator: Option<Option<Validator>>,
    /// What went wrong with it last.
    said: Option<String>,
    out: Option<Out>,
}

/// What an image is recognised by.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) total: Option<u64>,
    pub(super) validator: Option<Validator>,
}

/// Why a mirror is asked no more.
#[derive(Debug)]
enum Out {
    /// It does not give the image.
    Refused(Error),
    /// It cannot continue what was read.
    Discontinued(String),
}

/// Why one request brought no answer that can be read.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Trying again may help.
    ForNow(String),
    /// It does not give the image.
    Refused(Error),
    /// It cannot continue what was read.
    Discontinued(String),
}

impl Origin {
    pub(super) fn new(fetch: Fetch) -> Self {
        let mirror = |_: &Url| Mirror { validator: None, said: None, out: None };
        let mirrors = fetch.urls.iter().map(mirror).collect();
        let state = Mutex::new(State { mirrors, good: 0, image: None });
        Self { fetch, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the image is, where that is known.
    pub(super) fn total(&self) -> Option<u64> {
        self.image().and_then(|image| image.total)
    }

    pub(super) fn image(&self) -> Option<Identity> {
        self.lock().image.clone()
    }

    /// A mirror's URL without what may be secret in it.
    pub(super) fn shown(&self, mirror: usize) -> String {
        Location::Http(self.fetch.urls[mirror].clone()).to_string()
    }

    /// The mirror that served last, or that is asked first.
    pub(super) fn good(&self) -> usize {
        self.lock().good
    }

    /// The mirrors that may be asked, the last good one first.
    pub(super) fn order(&self) -> Vec<usize> {
        let state = self.lock();
        let mut order: Vec<usize> =
            (0..state.mirrors.len()).filter(|index| state.mirrors[*index].out.is_none()).collect();
        order.sort_by_key(|index| *index != state.good);
        order
    }

    pub(super) fn quiet_timeout(&self) -> Duration {
        let stall = self.fetch.stall_timeout;
        MIN_QUIET.max(stall / 4).min(stall)
    }

    /// Keeps what went wrong with a mirror, and says so unless it is about to end the transfer.
    pub(super) fn note(&self, mirror: usize, trouble: Trouble) {
        let url = self.shown(mirror);
        let mut state = self.lock();
        let (said, then, out) = match trouble {
            Trouble::ForNow(said) => (said, "trying again", None),
            Trouble::Refused(error) => {
                (error.to_string(), "asking it no more", Some(Out::Refused(error)))
            }
            Trouble::Discontinued(why) => {
                (why.clone(), "asking it no more", Some(Out::Discontinued(why)))
            }
        };
        let is_out = out.is_some();
        state.mirrors[mirror].said = Some(said.clone());
        state.mirrors[mirror].out = out;
        let others = state.mirrors.iter().any(|mirror| mirror.out.is_none());
        drop(state);
        if !is_out || others {
            let warning = match said.strip_prefix(&format!("fetching {url}: ")) {
                Some(_) => format!("{said}; {then}"),
                None => format!("fetching {url}: {said}; {then}"),
            };
            self.fetch.sink.warning(warning);
        }
    }

    /// Why there is no mirror left to ask.
    pub(super) fn exhausted(&self, offset: u64, broke: &str) -> Error {
        let mut state = self.lock();
        let good = state.good;
        let mut refused = Vec::new();
        let mut why = Vec::new();
        for (index, mirror) in state.mirrors.iter_mut().enumerate() {
            let text = match &mirror.out {
                Some(Out::Refused(error)) => error.to_string(),
                Some(Out::Discontinued(reason)) => reason.clone(),
                None => continue,
            };
            // It stays out for other parts, which may come here too.
            if let Some(Out::Refused(error)) = mirror.out.replace(Out::Discontinued(text.clone())) {
                refused.push(error);
            }
            why.push((index, text));
        }
        let total = state.image.as_ref().and_then(|image| image.total);
        let (mirrors, discontinued) = (state.mirrors.len(), refused.len() < why.len());
        drop(state);
        if discontinued {
            let url = self.shown(good);
            let (broke, why) = (broke.to_owned(), self.list(&why));
            return Error::NotResumable { url, offset, total, broke, why };
        }
        let class = refused.iter().map(Error::class).find(|class| class.is_retryable());
        match refused.pop() {
            Some(error) if mirrors == 1 => error,
            last => {
                let class = class.or(last.map(|error| error.class()));
                Error::Mirrors {
                    class: class.unwrap_or(Class::Internal),
                    said: why.into_iter().map(|(_, said)| said).collect::<Vec<_>>().join("; "),
                }
            }
        }
    }

    /// What each mirror said last.
    pub(super) fn said(&self) -> String {
        let state = self.lock();
        let said = state.mirrors.iter().enumerate();
        let said: Vec<_> = said.filter_map(|(i, m)| Some((i, m.said.clone()?))).collect();
        drop(state);
        self.list(&said)
    }

    /// Words by mirrors, which are named if there are several.
    fn list(&self, said: &[(usize, String)]) -> String {
        let several = self.fetch.urls.len() > 1;
        let one = |(index, said): &(usize, String)| match several {
            true => format!("{}: {said}", self.shown(*index)),
            false => said.clone(),
        };
        said.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// Whether what a mirror gave can be continued by it at all.
    pub(super) fn can_resume(&self, mirror: usize) -> bool {
        let has_validator = matches!(self.lock().mirrors[mirror].validator, Some(Some(_)));
        has_validator || self.fetch.proven_by_digest
    }

    /// Asks a mirror once for what is from `offset` on, until before `end` if that is given.
    /// Outer: stopped.
    pub(super) async fn ask(
        &self,
        mirror: usize,
        offset: u64,
        end: Option<u64>,
    ) -> Result<std::result::Result<Response, Trouble>> {
        let quiet = self.quiet_timeout();
        let answer = async { tokio::time::timeout(quiet, self.send(mirror, offset, end)).await };
        Ok(match self.fetch.stop.guard(answer).await? {
            Ok(Ok(response)) => self.judge(mirror, offset, end, response),
            Ok(Err(trouble)) => Err(trouble),
            Err(_) => Err(Trouble::ForNow(format!("no answer for {} s", quiet.as_secs_f64()))),
        })
    }

    /// Bytes from anywhere in the image, asked for once.
    pub(super) async fn peek(&self, offset: u64, length: u64) -> Option<Bytes> {
        let answer = self.ask(self.good(), offset, Some(offset + length)).await.ok()?.ok()?;
        if answer.content_length() != Some(length) {
            return None;
        }
        let bytes = async { tokio::time::timeout(self.quiet_timeout(), answer.bytes()).await };
        self.fetch.stop.guard(bytes).await.ok()?.ok()?.ok()
    }

    async fn send(
        &self,
        mirror: usize,
        offset: u64,
        end: Option<u64>,
    ) -> std::result::Result<Response, Trouble> {
        let response = self.send_once(mirror, offset, end).await?;
        // A registry says by 401 what token it wants; tokens of a long transfer run out.
        let Access::Registry(tokens) = &self.fetch.access else { return Ok(response) };
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        tokens.renew(&self.fetch.client, response.headers()).await.map_err(
            |error| match error {
                TokenError::ForNow(cause) => Trouble::ForNow(cause),
                TokenError::Refused(cause) => {
                    Trouble::Refused(Error::Request { url: self.shown(mirror), cause })
                }
            },
        )?;
        self.send_once(mirror, offset, end).await
    }

    async fn send_once(
        &self,
        mirror: usize,
        offset: u64,
        end: Option<u64>,
    ) -> std::result::Result<Response, Trouble> {
        let url = self.fetch.urls[mirror].clone();
        let mut request = self.fetch.client.get(url).header(ACCEPT_ENCODING, "identity");
        if let Some(accept) = self.fetch.accept {
            request = request.header(ACCEPT, accept);
        }
        if offset > 0 || end.is_some() {
            let last = end.map_or_else(String::new, |end| (end - 1).to_string());
            request = request.header(RANGE, format!("bytes={offset}-{last}"));
            if let Some(Some(validator)) = &self.lock().mirrors[mirror].validator {
                request = request.header(IF_RANGE, validator.value());
            }
        }
        let request = self.fetch.access.show(request);
        request.send().await.map_err(|error| self.judge_failure(mirror, error))
    }

    fn judge_failure(&self, mirror: usize, error: reqwest::Error) -> Trouble {
        let url = self.shown(mirror);
        let (certificate, final_) =
            (is_about_a_certificate(&error), error.is_builder() || error.is_redirect());
        let cause = http::describe(error);
        if certificate {
            Trouble::Refused(Error::Certificate { url, cause })
        } else if final_ {
            Trouble::Refused(Error::Request { url, cause })
        } else {
            Trouble::ForNow(cause)
        }
    }

    fn judge(
        &self,
        mirror: usize,
        offset: u64,
        end: Option<u64>,
        response: Response,
    ) -> std::result::Result<Response, Trouble> {
        let status = response.status();
        let first_answer = self.image().is_none();
        // Byte 0 of a whole, or of a part before it is known whether there are parts.
        let takes_whole = offset == 0 && (end.is_none() || first_answer);
        match status {
            StatusCode::OK if takes_whole => self.judge_whole(mirror, response),
            StatusCode::PARTIAL_CONTENT if offset > 0 || end.is_some() => {
                self.judge_part(mirror, offset, end, response)
            }
            StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE if !takes_whole => {
                let why = format!(
                    "the server answered {status}: it ignores Range, or has changed the image"
                );
                Err(Trouble::Discontinued(why))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(Trouble::ForNow(format!("the server answered {status}")))
            }
            _ if status.is_server_error() => {
                Err(Trouble::ForNow(format!("the server answered {status}")))
            }
            _ => Err(Trouble::Refused(Error::Refused {
                url: self.shown(mirror),
                status: status.to_string(),
            })),
        }
    }

    /// Whether a whole answer may be the image: with no byte read yet only its length is fixed,
    /// which others were told.
    fn judge_whole(
        &self,
        mirror: usize,
        response: Response,
    ) -> std::result::Result<Response, Trouble> {
        let found = response.content_length();
        let mut state = self.lock();
        if let Some(Identity { total, .. }) = &state.image
            && *total != found
        {
            let shown = |length: Option<u64>| length.map_or("?".into(), |bytes| bytes.to_string());
            let (had, has) = (shown(*total), shown(found));
            return Err(Trouble::Discontinued(format!("the image had {had} bytes, now has {has}")));
        }
        let validator = Validator::of(response.headers());
        state.mirrors[mirror].validator = Some(validator.clone());
        state.image = Some(Identity { total: found, validator });
        state.good = mirror;
        Ok(response)
    }

    /// Whether a partial answer continues what has been read.
    fn judge_part(
        &self,
        mirror: usize,
        offset: u64,
        end: Option<u64>,
        response: Response,
    ) -> std::result::Result<Response, Trouble> {
        let range = sound_range(&response, offset, end).map_err(Trouble::Discontinued)?;
        let headers = response.headers();
        let mut state = self.lock();
        let known = state.mirrors[mirror].validator.clone();
        let checked = match (&state.image, known) {
            (None, _) => Ok(Identity { total: range.complete, validator: Validator::of(headers) }),
            (Some(image), Some(validator)) => continues(image, &range, validator, headers),
            (Some(image), None) => self.takes_over(image, &range, headers).map(|()| image.clone()),
        };
        let image = checked.map_err(Trouble::Discontinued)?;
        state.mirrors[mirror].validator.get_or_insert_with(|| Validator::of(headers));
        state.image = Some(image);
        state.good = mirror;
        Ok(response)
    }

    /// Whether a mirror that was not asked before has the same image.
    fn takes_over(
        &self,
        image: &Identity,
        range: &ContentRange,
        headers: &HeaderMap,
    ) -> std::result::Result<(), String> {
        if image.total.is_none() || image.total != range.complete {
            return Err(format!(
                "the image had {:?} bytes, this mirror's has {:?}",
                image.total, range.complete
            ));
        }
        let found = Validator::of(headers);
        let same_tag = matches!(found, Some(Validator::Tag(_))) && found == image.validator;
        if same_tag || self.fetch.proven_by_digest {
            return Ok(());
        }
        Err("this mirror's image has no ETag, or another one, and the job has no digest that \
             would prove the whole"
            .into())
    }
}

/// Whether the answer of a server that was asked before goes on with the same bytes.
fn continues(
    image: &Identity,
    range: &ContentRange,
    validator: Option<Validator>,
    headers: &HeaderMap,
) -> std::result::Result<Identity, String> {
    if let (Some(known), Some(said)) = (image.total, range.complete)
        && known != said
    {
        return Err(format!(
            "the image had {known} bytes, the Content-Range of its answer says {said}"
        ));
    }
    if let Some(validator) = validator {
        validator.holds_in(headers)?;
    }
    Ok(Identity { total: image.total.or(range.complete), validator: image.validator.clone() })
}

/// The range of an answer, if it is the one that was asked for.
fn sound_range(
    response: &Response,
    offset: u64,
    end: Option<u64>,
) -> std::result::Result<ContentRange, String> {
    let text = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let text = text.unwrap_or("");
    let range = ContentRange::parse(text)
        .ok_or_else(|| format!("its answer has an unusable Content-Range {text:?}"))?;
    if range.first != offset || end.is_some_and(|end| range.last >= end) {
        return Err(format!("asked for byte {offset}, got Content-Range {text:?}"));
    }
    let length = response.content_length();
    if length.is_some_and(|length| length != range.last - range.first + 1) {
        return Err(format!("its answer has Content-Range {text:?} and a length of {length:?}"));
    }
    Ok(range)
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
