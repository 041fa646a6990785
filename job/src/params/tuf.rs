//! An image out of a TUF repository, and what of that repository is trusted.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::{HexDigest, Location};

/// A disk image that is a target of a TUF repository (The Update Framework), as Bottlerocket
/// publishes its own: the one that `manifest.json` has for a variant, or the one that is named.
///
/// The root of trust is in the job: the file itself, or the digest of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    expecting = "a table with metadata-url, targets-url, root or root-sha512, and variant or target"
)]
pub struct Tuf {
    /// The directory with `timestamp.json`: `http://`, `https://` or `file://` URL, or an absolute
    /// path.
    pub metadata_url: Location,
    /// The directory with the targets, likewise.
    pub targets_url: Location,
    /// The trusted `root.json`: its text, or where it is. Default: `1.root.json` of
    /// `metadata-url`. It may be an old one; the repository's own newer ones follow from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<TufRoot>,
    /// SHA-512 of that file. Needed unless its text is in the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_sha512: Option<HexDigest<64>>,
    /// Variant, such as `metal-dev`. Either this or `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Architecture of the image. Default: that of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<TufArch>,
    /// Version, such as `1.20.0`. Default: `latest`, the newest that has a disk image.
    #[serde(default, skip_serializing_if = "TufVersion::is_latest")]
    pub version: TufVersion,
    /// Name of the target, if `manifest.json` is not to choose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What is done about metadata that has expired.
    #[serde(default, skip_serializing_if = "TufExpiration::is_enforced")]
    pub expiration: TufExpiration,
}

/// A trusted `root.json`, written as its text, which starts with `{`, or as where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TufRoot {
    /// Its text.
    Inline(String),
    /// Where it is.
    At(Location),
}

/// Architecture of an image, in the words of Bottlerocket and of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TufArch {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    #[serde(rename = "aarch64")]
    Aarch64,
}

/// Which version of an image, written as `latest` or `1.20.0`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TufVersion {
    /// The newest that has a disk image.
    #[default]
    Latest,
    /// This one.
    Exactly(Version),
}

/// What is done about metadata that has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TufExpiration {
    /// It is refused.
    #[default]
    Enforce,
    /// It is taken, with a warning: whoever keeps an old copy of the repository can then pass it
    /// off as the newest.
    Ignore,
}

impl Tuf {
    fn checked(self) -> Result<Self, String> {
        for (key, location) in
            [("metadata-url", &self.metadata_url), ("targets-url", &self.targets_url)]
        {
            match location {
                Location::Http(url) if url.query().is_some() => {
                    return Err(format!("{key}: has a query, which no file below it would get"));
                }
                Location::Oci(_) => {
                    return Err(format!("{key}: expected http://…, https://… or a directory"));
                }
                Location::Http(_) | Location::File(_) => {}
            }
        }
        match (&self.root, &self.root_sha512) {
            (None, None) => {
                return Err("key `root` or `root-sha512` is missing; it says whom to trust".into());
            }
            (Some(TufRoot::At(Location::Oci(_))), _) => {
                return Err("root: expected its text, http://…, https://… or a path".into());
            }
            (Some(TufRoot::At(place)), None) => {
                return Err(format!("key `root-sha512` is missing; it proves what {place} gives"));
            }
            _ => {}
        }
        match (&self.variant, &self.target) {
            (None, None) => return Err("key `variant` is missing (or `target`)".into()),
            (Some(_), Some(_)) => {
                return Err("has both variant and target; expected one of them".into());
            }
            (None, Some(_)) if self.arch.is_some() || !self.version.is_latest() => {
                return Err("arch and version belong to variant; target names a file".into());
            }
            _ => {}
        }
        Ok(self)
    }
}

checked_on_decode!(Tuf);

impl TryFrom<String> for TufRoot {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.trim_start().starts_with('{') {
            true => Ok(Self::Inline(text)),
            false => Location::try_from(text).map(Self::At),
        }
    }
}

impl From<TufRoot> for String {
    fn from(root: TufRoot) -> Self {
        match root {
            TufRoot::Inline(text) => text,
            TufRoot::At(location) => location.into(),
        }
    }
}

impl fmt::Display for TufArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        })
    }
}

impl TufVersion {
    fn is_latest(&self) -> bool {
        *self == Self::Latest
    }
}

impl FromStr for TufVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Self::Latest),
            _ => text.parse().map(Self::Exactly).map_err(|error| {
                format!("{text:?} is neither `latest` nor a version such as 1.20.0: {error}")
            }),
        }
    }
}

impl TryFrom<String> for TufVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TufVersion> for String {
    fn from(version: TufVersion) -> Self {
        match version {
            TufVersion::Latest => "latest".into(),
            TufVersion::Exactly(version) => version.to_string(),
        }
    }
}

impl TufExpiration {
    fn is_enforced(&self) -> bool {
        *self == Self::Enforce
    }
}
