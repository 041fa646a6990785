//! Durations, sizes and digests as people write them in a job.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time, written as `90s`, `20m` or `1h 30m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "SpanText", into = "String")]
pub struct Span(pub Duration);

/// A number of bytes, written as `512`, `8GiB` or `500GB`, or as a plain number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "u64")]
pub struct Size(pub u64);

/// A digest of `N` bytes, written as `2 * N` hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexDigest<const N: usize>(pub [u8; N]);

/// Untagged for its message: a bare number is the usual slip.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a duration with its unit as text, such as \"90s\" or \"20m\""
)]
enum SpanText {
    Text(String),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number of bytes, or text such as \"8GiB\"")]
enum NumberOrText {
    Number(u64),
    Text(String),
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|e| format!("{text:?} is not a duration such as \"90s\" or \"20m\": {e}"))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|e| format!("{text:?} is not a size such as \"8GiB\" or \"500GB\": {e}"))
    }
}

impl<const N: usize> FromStr for HexDigest<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; N];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| format!("{text:?} is not a digest of {} hexadecimal digits", 2 * N))?;
        Ok(Self(bytes))
    }
}

impl TryFrom<SpanText> for Span {
    type Error = String;
    fn try_from(value: SpanText) -> Result<Self, String> {
        match value {
            SpanText::Text(text) => text.parse(),
        }
    }
}

impl TryFrom<NumberOrText> for Size {
    type Error = String;
    fn try_from(value: NumberOrText) -> Result<Self, String> {
        match value {
            NumberOrText::Number(bytes) => Ok(Self(bytes)),
            NumberOrText::Text(text) => text.parse(),
        }
    }
}

impl<const N: usize> TryFrom<String> for HexDigest<N> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl From<Size> for u64 {
    fn from(size: Size) -> Self {
        size.0
    }
}

impl<const N: usize> From<HexDigest<N>> for String {
    fn from(digest: HexDigest<N>) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// In binary units, rounded: `3.0 GiB`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bytesize::ByteSize(self.0).display().iec().fmt(f)
    }
}

impl<const N: usize> fmt::Display for HexDigest<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> fmt::Debug for HexDigest<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_people_write_them() {
        assert_eq!("20m".parse::<Span>().unwrap().0, Duration::from_secs(1200));
        assert_eq!("8GiB".parse::<Size>().unwrap().0, 8 << 30);
        assert_eq!("500 GB".parse::<Size>().unwrap().0, 500_000_000_000);
        assert_eq!("4096".parse::<Size>().unwrap().0, 4096);
        assert!("20 parsecs".parse::<Span>().unwrap_err().contains("such as"));
        assert!("lots".parse::<Size>().unwrap_err().contains("such as"));
    }

    #[test]
    fn a_digest_of_the_wrong_length_is_refused_with_the_right_one() {
        let error = "abcd".parse::<HexDigest<32>>().unwrap_err();
        assert!(error.contains("64 hexadecimal digits"), "{error}");
        let text = "0f".repeat(32);
        assert_eq!(text.parse::<HexDigest<32>>().unwrap().to_string(), text);
    }
}
