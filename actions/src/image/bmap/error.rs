//! Why a block map cannot be used.

use std::ops::Range;

use super::super::Error;

/// Why a block map cannot be used. Offsets and lengths are bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// It is something else.
    #[error("expected XML with a root named bmap, found {found}")]
    Foreign {
        /// What it is.
        found: String,
    },
    /// It is a map, but no sound XML.
    #[error("reading its XML at byte {at}: {cause}")]
    Xml {
        /// Where in the map.
        at: u64,
        /// What is wrong there.
        cause: String,
    },
    /// Its format is too new, or too old.
    #[error("expected version 1.2, 1.3, 1.4 or 2.0 of its format, found {found:?}")]
    Version {
        /// Which one it is.
        found: String,
    },
    /// Its checksums are of a type that is not known here.
    #[error("expected checksums of type sha1, sha256 or sha512, found {found:?}")]
    ChecksumType {
        /// Which type they are.
        found: String,
    },
    /// It is not as it was when it was made.
    #[error("expected {algorithm} {expected} of the map itself, found {found}; it was changed")]
    Changed {
        /// `sha1`, `sha256` or `sha512`.
        algorithm: &'static str,
        /// What it says, hexadecimal.
        expected: String,
        /// What its bytes have, hexadecimal.
        found: String,
    },
    /// What it says makes no sense.
    #[error("{element}: {cause}")]
    Element {
        /// Where it says so.
        element: &'static str,
        /// What was expected, and what was found.
        cause: String,
    },

    /// The image is not as long as the map says.
    #[error("expected an image of {expected} bytes, found {}{found}", if *at_least { "at least " } else { "" })]
    Length {
        /// What the map says.
        expected: u64,
        /// What the image has.
        found: u64,
        /// Whether there may be more.
        at_least: bool,
    },
    /// A range of the image is not what the map says.
    #[error(
        "expected {algorithm} {expected} of blocks {} to {} of the image (bytes {} to {}), found \
         {found}; the image is damaged, or the map is of another one",
        blocks.start, blocks.end - 1, bytes.start, bytes.end - 1
    )]
    Digest {
        /// `sha1`, `sha256` or `sha512`.
        algorithm: &'static str,
        /// Which blocks.
        blocks: Range<u64>,
        /// Which bytes.
        bytes: Range<u64>,
        /// What the map says, hexadecimal.
        expected: String,
        /// What the bytes have, hexadecimal.
        found: String,
    },
    /// The image holds something of which the map does not know.
    #[error(
        "expected zero outside of its ranges, found something at byte {offset} of the image; the \
         map is of another one"
    )]
    Unlisted {
        /// Where the first of it is.
        offset: u64,
    },
}

impl MapError {
    /// Says which map it is.
    pub(in crate::image) fn at(self, place: &str) -> Error {
        Error::Map { place: place.to_owned(), cause: self }
    }
}
