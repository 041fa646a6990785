//! `stream-image`: an operating system image onto a disk.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::DiskSelector;
use crate::{HexDigest, Location, Span};

/// How long a transfer may bring no byte before it has failed.
pub const DEFAULT_STALL_TIMEOUT: Span = Span(Duration::from_secs(5 * 60));

/// Streams an image onto a whole disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub struct StreamImage {
    /// The image.
    pub image: Image,
    /// The disk that is overwritten.
    pub disk: DiskSelector,
}

/// An image: where it is and how its bytes are proven.
///
/// Its compression (none, lz4, gzip, xz, zstd, bzip2) is told by its first bytes, never by a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table with at least url")]
pub struct Image {
    /// `http://`, `https://` or `file://` URL, or an absolute path.
    pub url: Location,
    /// SHA-256 of the bytes as they are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<HexDigest<32>>,
    /// SHA-512 of the bytes as they are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<HexDigest<64>>,
    /// SHA-256 of the image after decompression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncompressed_sha256: Option<HexDigest<32>>,
    /// SHA-512 of the image after decompression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncompressed_sha512: Option<HexDigest<64>>,
    /// How long the transfer may bring no byte before it has failed.
    #[serde(default = "default_stall_timeout")]
    pub stall_timeout: Span,
}

impl Image {
    /// Whether any digest proves the bytes.
    pub fn has_digest(&self) -> bool {
        self.sha256.is_some()
            || self.sha512.is_some()
            || self.uncompressed_sha256.is_some()
            || self.uncompressed_sha512.is_some()
    }
}

fn default_stall_timeout() -> Span {
    DEFAULT_STALL_TIMEOUT
}
