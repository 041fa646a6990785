//! An image: where it is, how its bytes are proven, and how its server is spoken to.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Tuf;
use crate::{HexDigest, Location, Secret, Span};

/// How long a transfer may bring no byte before it has failed.
pub const DEFAULT_STALL_TIMEOUT: Span = Span(Duration::from_secs(5 * 60));

/// The most connections that one image may take.
pub const MAX_CONNECTIONS: u8 = 8;

/// One stream. Over loopback, 1 GB from `nibs-server` in page cache, it was the fastest: 2.0 to
/// 2.4 GB/s, against 1.2 to 2.0 GB/s with two, four or eight. More are for lines that one stream
/// does not fill.
const DEFAULT_CONNECTIONS: u8 = 1;

/// How a job says that no block map is to be used.
const NO_MAP: &str = "none";

/// An image: where it is and how its bytes are proven.
///
/// Its compression (none, lz4, gzip, xz, zstd, bzip2), and whether it is qcow2, are told by its first
/// bytes, never by a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    expecting = "a table with at least url or tuf"
)]
pub struct Image {
    /// `http://`, `https://`, `oci://` or `file://` URL, or an absolute path. Either this or
    /// `urls` or `tuf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Location>,
    /// `http://` and `https://` URLs of mirrors of the same image, tried in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<Location>,
    /// Out of a TUF repository, instead of `url` and `urls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuf: Option<Tuf>,
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
    /// The image's block map (bmap): an `http://`, `https://` or `file://` URL, an absolute path, or
    /// `none`. Default: the one that is found beside the image, if any is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bmap: Option<Bmap>,
    /// `raw`: an image that is qcow2 by its first bytes is refused. Default: the disk in it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ImageFormat>,
    /// How long the transfer may bring no byte before it has failed.
    #[serde(default = "default_stall_timeout")]
    pub stall_timeout: Span,
    /// How many parts of the image are fetched at once, 1 to 8, from a server that honours ranges.
    #[serde(default = "default_connections", skip_serializing_if = "is_default_connections")]
    pub connections: u8,
    /// CA certificates, PEM, that are trusted for this image beside those of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// A PEM file on the machine with more of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Whether any certificate of the server is taken for good. Who serves the image is not known then:
    /// only a digest proves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// Certificate, PEM, by which the machine proves itself to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<String>,
    /// Private key of that certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<Secret>,
    /// Sent as `Authorization: Bearer`, to the hosts of the URLs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// User name for basic authentication, or of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password of that user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Proxy for `http://` URLs. Default: as the agent's environment says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_proxy: Option<Location>,
    /// Proxy for `https://` URLs. Default: as the agent's environment says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https_proxy: Option<Location>,
    /// Hosts, domains and networks that no proxy is asked for, with commas between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
}

/// What an image has to be, whatever its first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ImageFormat {
    /// A disk's own bytes, plain or compressed.
    Raw,
}

/// Which block map is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Bmap {
    /// None, and none is looked for.
    None,
    /// The one that is there: [`Location::Http`] or [`Location::File`].
    At(Location),
}

impl TryFrom<String> for Bmap {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const EXPECTED: &str = "expected http://…, https://…, file:///…, an absolute path or none";
        if text == NO_MAP {
            return Ok(Self::None);
        }
        match Location::try_from(text) {
            Ok(Location::Oci(_)) | Err(_) => Err(EXPECTED.into()),
            Ok(location) => Ok(Self::At(location)),
        }
    }
}

impl From<Bmap> for String {
    fn from(choice: Bmap) -> Self {
        match choice {
            Bmap::None => NO_MAP.into(),
            Bmap::At(location) => location.into(),
        }
    }
}

impl Image {
    /// Where the image is: one place, or its mirrors in order; empty if it is out of a TUF
    /// repository.
    pub fn locations(&self) -> &[Location] {
        match &self.url {
            Some(url) => std::slice::from_ref(url),
            None => &self.urls,
        }
    }

    /// Whether any digest proves the bytes.
    pub fn has_digest(&self) -> bool {
        self.sha256.is_some()
            || self.sha512.is_some()
            || self.uncompressed_sha256.is_some()
            || self.uncompressed_sha512.is_some()
    }

    fn checked(self) -> Result<Self, String> {
        let places = [
            ("url", self.url.is_some()),
            ("urls", !self.urls.is_empty()),
            ("tuf", self.tuf.is_some()),
        ];
        let given: Vec<_> =
            places.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        match given[..] {
            [_] => {}
            [] => return Err("key `url` is missing (or `urls`, for mirrors, or `tuf`)".into()),
            _ => {
                let keys = given.join(" and ");
                return Err(format!("has both {keys}; expected one of them"));
            }
        }
        let is_http = |location: &Location| matches!(location, Location::Http(_));
        if let Some(other) = self.urls.iter().find(|location| !is_http(location)) {
            return Err(format!("urls: expected http:// or https:// mirrors, found {other}"));
        }
        for (key, proxy) in [("http-proxy", &self.http_proxy), ("https-proxy", &self.https_proxy)] {
            if proxy.as_ref().is_some_and(|proxy| !is_http(proxy)) {
                return Err(format!("{key}: expected the http:// or https:// URL of a proxy"));
            }
        }
        if !(1..=MAX_CONNECTIONS).contains(&self.connections) {
            let found = self.connections;
            return Err(format!("connections: expected 1 to {MAX_CONNECTIONS}, found {found}"));
        }
        if self.client_cert.is_some() != self.client_key.is_some() {
            return Err("client-cert and client-key belong together; one is missing".into());
        }
        if self.username.is_some() != self.password.is_some() {
            return Err("username and password belong together; one is missing".into());
        }
        if self.bearer_token.is_some() && self.username.is_some() {
            return Err("has both bearer-token and username; expected one of them".into());
        }
        if self.bearer_token.is_some() && matches!(self.url, Some(Location::Oci(_))) {
            return Err(
                "bearer-token: a registry gives its own; expected username and password".into()
            );
        }
        if self.ca_file.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err("ca-file: expected an absolute path".into());
        }
        Ok(self)
    }
}

checked_on_decode!(Image);

fn default_stall_timeout() -> Span {
    DEFAULT_STALL_TIMEOUT
}

fn default_connections() -> u8 {
    DEFAULT_CONNECTIONS
}

fn is_default_connections(connections: &u8) -> bool {
    *connections == DEFAULT_CONNECTIONS
}
