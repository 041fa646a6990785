//! `upload-image`: what is on a disk, to a server.

use serde::{Deserialize, Serialize};

use super::DiskSelector;
use super::image::DEFAULT_STALL_TIMEOUT;
use crate::{Location, Span};

/// Sends what is on a disk, or on a partition that `disk.path` names, to a server: by POST, as the file
/// of a form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", remote = "Self", expecting = "a table")]
pub struct UploadImage {
    /// The disk, or the partition by its path, that is read.
    pub disk: DiskSelector,
    /// `http://` or `https://` URL that it is sent to.
    pub url: Location,
    /// Name of the file in the form.
    pub file_name: String,
    /// Name of the form's field.
    #[serde(default = "default_field")]
    pub field: String,
    /// How the file is compressed.
    #[serde(default, skip_serializing_if = "UploadCompression::is_none")]
    pub compression: UploadCompression,
    /// How long the server may take no byte, or be silent when it has all.
    #[serde(default = "default_stall_timeout")]
    pub stall_timeout: Span,
    /// CA certificates, PEM, that are trusted beside those of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
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

/// How an image is compressed on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum UploadCompression {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
}

impl UploadCompression {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// As Tinkerbell's `slurp` names it.
fn default_field() -> String {
    "BootyImage".into()
}

fn default_stall_timeout() -> Span {
    DEFAULT_STALL_TIMEOUT
}

impl UploadImage {
    fn checked(self) -> Result<Self, String> {
        let is_http = |location: &Location| matches!(location, Location::Http(_));
        if !is_http(&self.url) {
            return Err(format!("url: expected http:// or https://, found {}", self.url));
        }
        for (key, proxy) in [("http-proxy", &self.http_proxy), ("https-proxy", &self.https_proxy)] {
            if proxy.as_ref().is_some_and(|proxy| !is_http(proxy)) {
                return Err(format!("{key}: expected the http:// or https:// URL of a proxy"));
            }
        }
        for (key, name) in [("file-name", &self.file_name), ("field", &self.field)] {
            if name.is_empty() || name.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
                return Err(format!(
                    "{key}: expected a name without quotes, backslashes and line breaks, found {name:?}"
                ));
            }
        }
        Ok(self)
    }
}

checked_on_decode!(UploadImage);
