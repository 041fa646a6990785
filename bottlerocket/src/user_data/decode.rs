//! From the bytes of the file to its text.
//!
//! The OS takes UTF-8, plain or in gzip, and nothing else: no base64, no MIME, no other
//! compression (bottlerocket-core-kit, `early-boot-config-provider`).

use std::fmt;
use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::bufread::GzDecoder;
use thiserror::Error;

/// Largest user data, in bytes, compressed or not. The OS has no limit of its own; this one is far
/// above what a few certificate bundles need, and stops a gzip bomb.
pub const MAX_BYTES: usize = 4 << 20;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const UTF8_BOM: &str = "\u{feff}";

/// Beginnings by which other wrappings are known.
const MAGICS: [(&[u8], Foreign); 7] = [
    (&[0x28, 0xb5, 0x2f, 0xfd], Foreign::Zstandard),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], Foreign::Xz),
    (b"BZh", Foreign::Bzip2),
    (&[0x04, 0x22, 0x4d, 0x18], Foreign::Lz4),
    (b"PK\x03\x04", Foreign::Zip),
    (&[0xff, 0xfe], Foreign::Utf16),
    (&[0xfe, 0xff], Foreign::Utf16),
];

/// How the text was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// In one gzip member.
    Gzip,
}

/// User data as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    /// The text, without a byte order mark.
    pub text: String,
    /// How it was stored.
    pub encoding: Encoding,
}

/// Shows how long the text is, not what it says: user data holds secrets.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text")
            .field("length", &self.text.len())
            .field("encoding", &self.encoding)
            .finish()
    }
}

/// A wrapping that other systems read, but Bottlerocket does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// The whole file is base64.
    Base64,
    /// A MIME message of several parts, as for cloud-init.
    Mime,
    /// Zstandard.
    Zstandard,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
    /// LZ4.
    Lz4,
    /// A ZIP archive.
    Zip,
    /// UTF-16.
    Utf16,
}

impl Foreign {
    fn advice(self) -> &'static str {
        match self {
            Self::Base64 => "decode it first (base64 -d)",
            Self::Mime => "give the TOML of its one part alone",
            Self::Utf16 => "save it as UTF-8",
            Self::Zstandard | Self::Xz | Self::Bzip2 | Self::Lz4 | Self::Zip => {
                "unpack it, or compress it with gzip"
            }
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base64 => "base64",
            Self::Mime => "a MIME message",
            Self::Zstandard => "compressed with Zstandard",
            Self::Xz => "compressed with xz",
            Self::Bzip2 => "compressed with bzip2",
            Self::Lz4 => "compressed with LZ4",
            Self::Zip => "a ZIP archive",
            Self::Utf16 => "UTF-16",
        })
    }
}

/// Why bytes are not user data.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The file itself is too large.
    #[error("reading user data: {length} bytes, at most {MAX_BYTES} are taken")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
    },
    /// The file unpacks to too much.
    #[error("reading user data: its gzip unpacks to more than {MAX_BYTES} bytes")]
    Bomb,
    /// The gzip member ends too early.
    #[error("reading user data: its gzip is cut short after {length} bytes; copy it again")]
    Truncated {
        /// Length of the file in bytes.
        length: usize,
    },
    /// The gzip member is not what was packed.
    #[error("reading user data: its gzip is damaged (header, data or checksum); copy it again")]
    Damaged,
    /// The OS reads the first gzip member only.
    #[error(
        "reading user data: {length} bytes follow its gzip member, and the OS would not read them; \
         pack the whole text into one member"
    )]
    TrailingData {
        /// How many bytes follow.
        length: usize,
    },
    /// The wrapping is one that the OS does not read.
    #[error(
        "reading user data: it is {kind}, but Bottlerocket reads plain or gzip TOML only; {advice}",
        advice = kind.advice()
    )]
    Foreign {
        /// The wrapping.
        kind: Foreign,
    },
    /// It is not UTF-8.
    #[error("reading user data: byte {offset} is not UTF-8 text; save the file as UTF-8")]
    NotText {
        /// Offset of the first bad byte, in the unpacked text.
        offset: usize,
    },
}

/// Unpacks user data and makes sure that it is text. Empty input is an empty text.
pub fn decode(bytes: &[u8]) -> Result<Text, DecodeError> {
    if bytes.len() > MAX_BYTES {
        return Err(DecodeError::TooLarge { length: bytes.len() });
    }
    let (encoding, unpacked) = if bytes.starts_with(GZIP_MAGIC) {
        (Encoding::Gzip, gunzip(bytes)?)
    } else {
        (Encoding::Plain, bytes.to_vec())
    };
    if let Some(kind) = foreign(&unpacked) {
        return Err(DecodeError::Foreign { kind });
    }
    let text = String::from_utf8(unpacked)
        .map_err(|error| DecodeError::NotText { offset: error.utf8_error().valid_up_to() })?;
    let text = text.strip_prefix(UTF8_BOM).map(str::to_owned).unwrap_or(text);
    Ok(Text { text, encoding })
}

fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = GzDecoder::new(bytes);
    let mut unpacked = Vec::new();
    let read = decoder.by_ref().take(MAX_BYTES as u64 + 1).read_to_end(&mut unpacked);
    if unpacked.len() > MAX_BYTES {
        return Err(DecodeError::Bomb);
    }
    read.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => DecodeError::Truncated { length: bytes.len() },
        _ => DecodeError::Damaged,
    })?;
    match decoder.into_inner().len() {
        0 => Ok(unpacked),
        length => Err(DecodeError::TrailingData { length }),
    }
}

fn foreign(bytes: &[u8]) -> Option<Foreign> {
    if let Some((_, kind)) = MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(*kind);
    }
    if bytes.starts_with(GZIP_MAGIC) {
        return None;
    }
    let begins = |header: &str| {
        bytes.get(..header.len()).is_some_and(|start| start.eq_ignore_ascii_case(header.as_bytes()))
    };
    if begins("MIME-Version:") || begins("Content-Type: multipart/") {
        return Some(Foreign::Mime);
    }
    is_base64(bytes).then_some(Foreign::Base64)
}

/// Whether all of it is base64. No TOML with a key is: the equals sign of a key has something
/// behind it, and padding has not.
fn is_base64(bytes: &[u8]) -> bool {
    let packed: Vec<u8> =
        bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    !packed.is_empty() && STANDARD.decode(packed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    const TEXT: &str = "[settings]\nmotd = \"hello\"\n";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn text(text: &str, encoding: Encoding) -> Result<Text, DecodeError> {
        Ok(Text { text: text.to_owned(), encoding })
    }

    #[test]
    fn plain_and_gzip_give_the_same_text() {
        assert_eq!(decode(TEXT.as_bytes()), text(TEXT, Encoding::Plain));
        assert_eq!(decode(&gzip(TEXT.as_bytes())), text(TEXT, Encoding::Gzip));
        assert_eq!(decode(b""), text("", Encoding::Plain));
        assert_eq!(decode(&gzip(b"")), text("", Encoding::Gzip));
    }

    #[test]
    fn a_byte_order_mark_is_dropped_and_line_ends_are_kept() {
        let crlf = TEXT.replace('\n', "\r\n");
        assert_eq!(decode(format!("\u{feff}{crlf}").as_bytes()), text(&crlf, Encoding::Plain));
    }

    #[test]
    fn a_bomb_is_stopped_at_the_cap() {
        let most = vec![b'#'; MAX_BYTES];
        assert_eq!(decode(&gzip(&most)).unwrap().text.len(), MAX_BYTES);
        let bomb = gzip(&vec![b'#'; 2 * MAX_BYTES]);
        assert!(bomb.len() < MAX_BYTES);
        assert_eq!(decode(&bomb), Err(DecodeError::Bomb));
    }

    #[test]
    fn a_large_file_is_refused() {
        let length = MAX_BYTES + 1;
        assert_eq!(decode(&vec![b'#'; length]), Err(DecodeError::TooLarge { length }));
    }

    #[test]
    fn every_cut_of_a_gzip_is_truncated() {
        let whole = gzip(TEXT.as_bytes());
        for length in GZIP_MAGIC.len()..whole.len() {
            let cut = &whole[..length];
            assert_eq!(decode(cut), Err(DecodeError::Truncated { length }), "{length}");
        }
    }

    #[test]
    fn a_damaged_gzip_is_told_from_a_cut_one() {
        let mut damaged = gzip(TEXT.as_bytes());
        let checksum = damaged.len() - 8;
        damaged[checksum] ^= 1;
        assert_eq!(decode(&damaged), Err(DecodeError::Damaged));
    }

    #[test]
    fn bytes_behind_the_first_member_are_refused() {
        let mut two = gzip(TEXT.as_bytes());
        let second = gzip(TEXT.as_bytes());
        two.extend(&second);
        assert_eq!(decode(&two), Err(DecodeError::TrailingData { length: second.len() }));
    }

    #[test]
    fn foreign_wrappings_are_named_with_what_to_do() {
        let mime = b"Content-Type: multipart/mixed; boundary=x\nMIME-Version: 1.0\n".to_vec();
        let wrapped = STANDARD.encode(TEXT);
        let (first, second) = wrapped.split_at(20);
        for (bytes, kind, advice) in [
            (wrapped.clone().into_bytes(), Foreign::Base64, "base64 -d"),
            (format!("{first}\n{second}\n").into_bytes(), Foreign::Base64, "base64 -d"),
            (mime, Foreign::Mime, "one part"),
            (vec![0x28, 0xb5, 0x2f, 0xfd, 0, 1], Foreign::Zstandard, "gzip"),
            (gzip(wrapped.as_bytes()), Foreign::Base64, "base64 -d"),
            (vec![0xff, 0xfe, b'[', 0], Foreign::Utf16, "UTF-8"),
        ] {
            let error = decode(&bytes).unwrap_err();
            assert_eq!(error, DecodeError::Foreign { kind });
            assert!(error.to_string().contains(advice), "{error}");
        }
    }

    #[test]
    fn what_is_not_utf8_is_refused_with_its_place() {
        assert_eq!(decode(b"[settings]\n\x80"), Err(DecodeError::NotText { offset: 11 }));
    }

    #[test]
    fn debug_output_does_not_show_the_text() {
        let shown = format!("{:?}", decode(TEXT.as_bytes()).unwrap());
        assert!(!shown.contains("hello"), "{shown}");
    }
}
