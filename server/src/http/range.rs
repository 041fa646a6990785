//! Which bytes of a file a request asks for (RFC 9110, sections 13 and 14).

use std::ops::Range;
use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderName, header};

/// What identifies the contents of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Validators {
    /// Strong, in its quotes.
    pub(super) etag: String,
    /// To the second, as HTTP has it.
    pub(super) modified: Option<SystemTime>,
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// 200: all of it.
    All,
    /// 206: this part, never empty.
    Part(Range<u64>),
    /// 304: nothing, since it is there already.
    Nothing,
    /// 416: the range begins after the end.
    Unsatisfiable,
}

/// What a request wants of a file of `size` bytes.
pub(super) fn wanted(headers: &HeaderMap, validators: &Validators, size: u64) -> Wanted {
    if is_unchanged(headers, validators) {
        return Wanted::Nothing;
    }
    match text(headers, header::RANGE) {
        Some(range) if still_holds(headers, validators) => part(range, size),
        _ => Wanted::All,
    }
}

fn is_unchanged(headers: &HeaderMap, validators: &Validators) -> bool {
    if let Some(tags) = text(headers, header::IF_NONE_MATCH) {
        let known = |tag: &str| tag.trim().trim_start_matches("W/") == validators.etag;
        return tags.trim() == "*" || tags.split(',').any(known);
    }
    let since = text(headers, header::IF_MODIFIED_SINCE).and_then(date);
    since.zip(validators.modified).is_some_and(|(since, modified)| modified <= since)
}

/// Whether the part asked for is of the same contents as the client's other parts. Without this
/// a file replaced in the middle of a download would be joined from two halves.
fn still_holds(headers: &HeaderMap, validators: &Validators) -> bool {
    match text(headers, header::IF_RANGE) {
        None => !headers.contains_key(header::IF_RANGE),
        Some(tag) if tag.contains('"') => tag == validators.etag,
        Some(text) => date(text).is_some_and(|date| Some(date) == validators.modified),
    }
}

/// One range of bytes. What is no such thing is ignored, and so are several ranges at once, which
/// a server may answer with the whole.
fn part(range: &str, size: u64) -> Wanted {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|r| r.trim().split_once('-'))
    else {
        return Wanted::All;
    };
    let range = match (number(first), number(last)) {
        (Some(Some(first)), Some(last)) => {
            if last.is_some_and(|last| last < first) {
                return Wanted::All;
            }
            first..last.map_or(size, |last| last.saturating_add(1).min(size))
        }
        (Some(None), Some(Some(length))) => size.saturating_sub(length)..size,
        _ => return Wanted::All,
    };
    if range.is_empty() { Wanted::Unsatisfiable } else { Wanted::Part(range) }
}

/// None if it is no number, `Some(None)` if nothing is there.
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    // `parse` would take a sign.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SIZE: u64 = 100;
    const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

    fn asked(headers: &[(HeaderName, &str)]) -> Wanted {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        let modified = date(DATE);
        wanted(&headers.collect(), &Validators { etag: "\"a\"".into(), modified }, SIZE)
    }

    #[test]
    fn ranges_are_cut_at_the_end_of_the_file() {
        for (range, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=10-19", Wanted::Part(10..20)),
            ("bytes=90-", Wanted::Part(90..100)),
            ("bytes=90-1000", Wanted::Part(90..100)),
            ("bytes=90-99999999999999999999999", Wanted::Part(90..100)),
            ("bytes=-5", Wanted::Part(95..100)),
            ("bytes=-500", Wanted::Part(0..100)),
            ("bytes=100-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=5-2", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("lines=1-2", Wanted::All),
        ] {
            assert_eq!(asked(&[(header::RANGE, range)]), expected, "{range}");
        }
        assert_eq!(asked(&[]), Wanted::All);
    }

    #[test]
    fn a_part_is_given_only_of_the_contents_the_client_has() {
        let range = (header::RANGE, "bytes=1-2");
        for (condition, expected) in [
            ("\"a\"", Wanted::Part(1..3)),
            ("\"b\"", Wanted::All),
            ("W/\"a\"", Wanted::All),
            (DATE, Wanted::Part(1..3)),
            ("Thu, 01 Jan 2026 00:00:01 GMT", Wanted::All),
            ("yesterday", Wanted::All),
        ] {
            assert_eq!(asked(&[range.clone(), (header::IF_RANGE, condition)]), expected);
        }
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        for (name, value, expected) in [
            (header::IF_NONE_MATCH, "\"b\", W/\"a\"", Wanted::Nothing),
            (header::IF_NONE_MATCH, "*", Wanted::Nothing),
            (header::IF_NONE_MATCH, "\"b\"", Wanted::All),
            (header::IF_MODIFIED_SINCE, DATE, Wanted::Nothing),
            (header::IF_MODIFIED_SINCE, "Wed, 31 Dec 2025 23:59:59 GMT", Wanted::All),
        ] {
            assert_eq!(asked(&[(name, value)]), expected, "{value}");
        }
        assert_eq!(date(DATE), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)));
    }
}
