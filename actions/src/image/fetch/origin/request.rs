//! One request to one mirror, and whether its answer is what was asked for.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use rustls::AlertDescription;

use super::super::super::range::{ContentRange, Validator};
use super::super::access::TokenError;
use super::super::{Access, Error, Result};
use super::{Identity, Origin, Trouble};
use crate::http;

/// How long a connection may be quiet before another one is tried: at least this, and a quarter
/// of the stall timeout if that is more, for servers that think long before they answer.
const MIN_QUIET: Duration = Duration::from_secs(30);

impl Origin {
    pub(in crate::image::fetch) fn quiet_timeout(&self) -> Duration {
        let stall = self.fetch.stall_timeout;
        MIN_QUIET.max(stall / 4).min(stall)
    }

    /// Asks a mirror once for what is from `offset` on, until before `end` if that is given.
    /// Outer: stopped.
    pub(in crate::image::fetch) async fn ask(
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
    pub(in crate::image::fetch) async fn peek(&self, offset: u64, length: u64) -> Option<Bytes> {
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
        let is_final = error.is_builder() || error.is_redirect();
        let refused = tls_refusal(&error);
        let cause = http::describe(error);
        match refused {
            Some(Refused::Server) => Trouble::Refused(Error::Certificate { url, cause }),
            Some(Refused::Client) => Trouble::Refused(Error::ClientCertificate { url, cause }),
            None if is_final => Trouble::Refused(Error::Request { url, cause }),
            None => Trouble::ForNow(cause),
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

/// Whose certificate was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// The server's, by us.
    Server,
    /// Ours, or the lack of one, by the server.
    Client,
}

/// Whether TLS ended over a certificate, which no retry changes.
fn tls_refusal(error: &reqwest::Error) -> Option<Refused> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref() {
            Some(rustls::Error::InvalidCertificate(_)) => return Some(Refused::Server),
            Some(rustls::Error::AlertReceived(alert)) if is_about_us(*alert) => {
                return Some(Refused::Client);
            }
            _ => {}
        }
        // `io::Error::source` skips the error that it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// Whether a server says by this alert that it does not let us in (RFC 8446, section 6.2). In TLS
/// 1.2, where there is no alert for a certificate that is missing, it breaks the handshake off.
fn is_about_us(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure
    )
}
