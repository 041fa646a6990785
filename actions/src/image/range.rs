//! What proves that a partial answer continues the same bytes: validators and `Content-Range`
//! (RFC 9110, sections 8.8, 13.1.5 and 14.4).

use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED};

/// What tells one version of a resource from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Validator {
    /// A strong entity tag: the same bytes.
    Tag(HeaderValue),
    /// When it was changed last, for servers without strong tags.
    Date(HeaderValue),
}

impl Validator {
    /// The best validator of an answer. Weak tags prove nothing about bytes.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let tag = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
        let date = || headers.get(LAST_MODIFIED).cloned().map(Self::Date);
        tag.cloned().map(Self::Tag).or_else(date)
    }

    /// What goes into `If-Range`.
    pub(super) fn value(&self) -> &HeaderValue {
        match self {
            Self::Tag(value) | Self::Date(value) => value,
        }
    }

    /// Checks a partial answer to `If-Range`. A server has to repeat its tag; it may leave out the
    /// date, but not give another one.
    pub(super) fn holds_in(&self, headers: &HeaderMap) -> Result<(), String> {
        let (name, value, may_be_absent): (HeaderName, _, _) = match self {
            Self::Tag(value) => (ETAG, value, false),
            Self::Date(value) => (LAST_MODIFIED, value, true),
        };
        match headers.get(&name) {
            Some(found) if found == value => Ok(()),
            None if may_be_absent => Ok(()),
            found => Err(format!("expected {name} {value:?} in its answer, found {found:?}")),
        }
    }
}

/// A parsed `Content-Range: bytes FIRST-LAST/COMPLETE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// First byte of the part.
    pub(super) first: u64,
    /// Last byte of the part, inclusive.
    pub(super) last: u64,
    /// Bytes of the whole, where the server knows.
    pub(super) complete: Option<u64>,
}

impl ContentRange {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.trim().split_once(' ')?;
        let (range, complete) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let complete = match complete {
            "*" => None,
            number => Some(digits(number)?),
        };
        let parsed = Self { first: digits(first)?, last: digits(last)?, complete };
        let sound = unit.eq_ignore_ascii_case("bytes")
            && parsed.first <= parsed.last
            && complete.is_none_or(|complete| parsed.last < complete);
        sound.then_some(parsed)
    }
}

/// `u64::from_str` takes a sign, the grammar does not.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, v)| (name.clone(), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn a_strong_tag_is_preferred_and_a_weak_one_is_none() {
        let both = headers(&[(ETAG, "\"v1\""), (LAST_MODIFIED, "Sat, 21 Nov 2026 06:00:00 GMT")]);
        assert!(matches!(Validator::of(&both), Some(Validator::Tag(_))));
        let weak = headers(&[(ETAG, "W/\"v1\""), (LAST_MODIFIED, "Sat")]);
        assert!(matches!(Validator::of(&weak), Some(Validator::Date(_))));
        assert_eq!(Validator::of(&headers(&[(ETAG, "W/\"v1\"")])), None);
    }

    #[test]
    fn a_tag_has_to_be_repeated_and_a_date_must_not_differ() {
        let tag = Validator::Tag(HeaderValue::from_static("\"v1\""));
        assert!(tag.holds_in(&headers(&[(ETAG, "\"v1\"")])).is_ok());
        assert!(tag.holds_in(&headers(&[(ETAG, "\"v2\"")])).unwrap_err().contains("v2"));
        assert!(tag.holds_in(&headers(&[])).is_err());
        let date = Validator::Date(HeaderValue::from_static("Sat"));
        assert!(date.holds_in(&headers(&[])).is_ok());
        assert!(date.holds_in(&headers(&[(LAST_MODIFIED, "Sun")])).is_err());
    }

    #[test]
    fn content_ranges_are_read_strictly() {
        let range = |first, last, complete| Some(ContentRange { first, last, complete });
        assert_eq!(ContentRange::parse("bytes 5-9/10"), range(5, 9, Some(10)));
        assert_eq!(ContentRange::parse("Bytes 0-0/*"), range(0, 0, None));
        for bad in [
            "",
            "bytes",
            "bytes 5-9",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes +5-9/10",
            "items 5-9/10",
            "bytes */10",
            "bytes 5-/10",
            "bytes 99999999999999999999-9/10",
        ] {
            assert_eq!(ContentRange::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = ContentRange::parse(&text);
        }

        #[test]
        fn what_a_server_means_is_what_is_read(first in 0..u64::MAX / 2, length in 1..u64::MAX / 4, more in 1..u64::MAX / 4, knows in any::<bool>()) {
            let last = first + length - 1;
            let complete = knows.then_some(last + more);
            let shown = complete.map_or("*".to_owned(), |complete| complete.to_string());
            let text = format!("bytes {first}-{last}/{shown}");
            prop_assert_eq!(ContentRange::parse(&text), Some(ContentRange { first, last, complete }));
        }

        #[test]
        fn whatever_is_read_makes_sense(text in "bytes [0-9]{0,3}-[0-9]{0,3}/([0-9]{0,3}|\\*)") {
            if let Some(ContentRange { first, last, complete }) = ContentRange::parse(&text) {
                prop_assert!(first <= last && complete.is_none_or(|complete| last < complete));
            }
        }
    }
}
