//! `bottlerocket`: an image of that system and the three files that make it a node.

use std::time::Duration;

use indexmap::IndexMap;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Content, DiskSelector, Image, TufVersion, Verify};
use crate::{HexDigest, Location, Secret, Span};

/// How long a URL of a file is tried.
const DEFAULT_TIMEOUT: Span = Span(Duration::from_secs(10));

/// Installs Bottlerocket, or changes the files of one that is installed. All files are checked
/// before anything is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", remote = "Self", expecting = "a table")]
pub struct Bottlerocket {
    /// The image. Default: none; what is installed gets other files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// The disk. Needed with an image. Default without: the disk that an earlier action of the same
    /// job wrote, else the one that Bottlerocket is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskSelector>,
    /// What is proven of the image beyond that every write of it succeeded.
    #[serde(default, skip_serializing_if = "is_default")]
    pub verify: Verify,
    /// What is done about other disks with partitions of a Bottlerocket: the system mounts some of
    /// its own by label, and may find theirs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub duplicates: Duplicates,
    /// `user-data.toml`. Default: none is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<UserData>,
    /// `net.toml`. Default: none is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<Net>,
    /// `bootconfig.data`. Default: as the image has it, or as `settings.boot` of the user data that
    /// comes with an image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootconfig: Option<Bootconfig>,
    /// Whether a file that is taken, but with something in it that cannot work, is refused too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strict: bool,
    /// The image's variant, such as `metal-k8s-1.28`, for checks of user data. Default: that of
    /// `image.tuf`, else any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The image's version, such as `1.28.0`, for checks of the files. Default: that of
    /// `image.tuf`, else any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub version: Option<Version>,
    /// Whether a private partition whose filesystem is damaged or missing is made anew.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recreate: bool,
    /// Enrols the image's certificate in the firmware. Default: the firmware is left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<SecureBoot>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What is done about other disks with partitions of a Bottlerocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Duplicates {
    /// The action fails and names them.
    #[default]
    Refuse,
    /// Their partition tables are cleared.
    Wipe,
    /// They are named in a warning.
    Warn,
}

/// `user-data.toml`, plain or gzip: exactly one of `content`, `content-base64`, `url` and
/// `metadata`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    expecting = "a table with content, content-base64, url or metadata"
)]
pub struct UserData {
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Secret>,
    /// Its bytes, in standard base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_base64: Option<Secret>,
    /// Where it is: `http://`, `https://` or `file://` URL, or an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Location>,
    /// Metadata services of the kind of EC2's, without the path: each is asked for
    /// `/2009-04-04/user-data`, and the first answer counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<Location>,
    /// How long each URL is tried.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

/// `net.toml`: exactly one of `content`, `url`, `from` and `interfaces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    expecting = "a table with content, url, from or interfaces"
)]
pub struct Net {
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Where it is: `http://`, `https://` or `file://` URL, or an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Location>,
    /// It is made from what this machine has learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<NetFrom>,
    /// It is made from this description of the interfaces; see `docs/bottlerocket.md`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Vec<Map<String, Value>>>,
    /// Its format, 1 to 3, where it is made. Default: the oldest that can say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u8>,
    /// How long the URL is tried.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

/// What of this machine a `net.toml` is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NetFrom {
    /// The agent's own DHCP lease, as a static configuration; its name servers go into the user
    /// data.
    Lease,
}

/// `bootconfig.data`: exactly one of `content`, `url`, and `kernel` or `init` or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    expecting = "a table with content, url, kernel or init"
)]
pub struct Bootconfig {
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Where its text, or the packed file, is: `http://`, `https://` or `file://` URL, or an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Location>,
    /// Parameters of the kernel, each with its values; none for one without. They also go into the
    /// user data that the job has, as `settings.boot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<IndexMap<String, Vec<String>>>,
    /// Parameters of init, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<IndexMap<String, Vec<String>>>,
    /// How long the URL is tried.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

/// What is enrolled in a firmware that is in Setup Mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table with db-sha256")]
pub struct SecureBoot {
    /// SHA-256 of the certificate `EFI/BOOT/db.cer` (DER) on the image's EFI system partition: what
    /// the image says of itself is believed only if the job says the same.
    pub db_sha256: HexDigest<32>,
    /// More certificates (PEM) that may start something, such as those of option ROMs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db: Option<String>,
    /// The certificate (PEM) by whose key db may be changed later. Default: the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kek: Option<String>,
    /// The certificate (PEM) that owns the platform, where the firmware takes one that has not
    /// signed itself. Default: a key made on the machine, whose private half is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pk: Option<String>,
}

impl Bottlerocket {
    fn checked(self) -> Result<Self, String> {
        if self.image.is_some() && self.disk.is_none() {
            return Err("key `disk` is missing: an image needs a disk to go to".into());
        }
        let changes = [
            self.image.is_some(),
            self.user_data.is_some(),
            self.net.is_some(),
            self.bootconfig.is_some(),
            self.secure_boot.is_some(),
        ];
        if !changes.contains(&true) {
            return Err("has nothing to do; expected image, user-data, net, bootconfig or \
                        secure-boot"
                .into());
        }
        if self.image.is_none() && self.verify != Verify::default() {
            return Err("verify: it is the image that is verified, and there is none".into());
        }
        Ok(self)
    }

    /// Whether there are files to write.
    pub fn writes_files(&self) -> bool {
        self.user_data.is_some() || self.net.is_some() || self.bootconfig.is_some()
    }

    /// The version of the image, if the job says it.
    pub fn os_version(&self) -> Option<&Version> {
        let of_image = || match &self.image.as_ref()?.tuf.as_ref()?.version {
            TufVersion::Exactly(version) => Some(version),
            TufVersion::Latest => None,
        };
        self.version.as_ref().or_else(of_image)
    }

    /// The variant of the image, if the job says it.
    pub fn variant(&self) -> Option<&str> {
        let of_image = || self.image.as_ref()?.tuf.as_ref()?.variant.as_deref();
        self.variant.as_deref().or_else(of_image)
    }
}

impl UserData {
    fn checked(self) -> Result<Self, String> {
        only_one(&[
            ("content", self.content.is_some()),
            ("content-base64", self.content_base64.is_some()),
            ("url", self.url.is_some()),
            ("metadata", !self.metadata.is_empty()),
        ])?;
        if let Some(base64) = &self.content_base64 {
            Content::Base64(base64.clone()).bytes()?;
        }
        no_registry("url", self.url.as_ref())?;
        match self.metadata.iter().find(|url| !matches!(url, Location::Http(_))) {
            Some(other) => Err(format!("metadata: expected http://… or https://…, found {other}")),
            None => Ok(self),
        }
    }
}

impl Net {
    fn checked(self) -> Result<Self, String> {
        only_one(&[
            ("content", self.content.is_some()),
            ("url", self.url.is_some()),
            ("from", self.from.is_some()),
            ("interfaces", self.interfaces.is_some()),
        ])?;
        no_registry("url", self.url.as_ref())?;
        match self.format {
            Some(_) if self.content.is_some() || self.url.is_some() => {
                Err("format: the file says its own".into())
            }
            Some(format) if !(1..=3).contains(&format) => {
                Err(format!("format: expected 1 to 3, found {format}"))
            }
            _ => Ok(self),
        }
    }
}

impl Bootconfig {
    fn checked(self) -> Result<Self, String> {
        only_one(&[
            ("content", self.content.is_some()),
            ("url", self.url.is_some()),
            ("kernel or init", self.kernel.is_some() || self.init.is_some()),
        ])?;
        no_registry("url", self.url.as_ref())?;
        Ok(self)
    }
}

checked_on_decode!(Bottlerocket);
checked_on_decode!(UserData);
checked_on_decode!(Net);
checked_on_decode!(Bootconfig);

fn only_one(keys: &[(&str, bool)]) -> Result<(), String> {
    let given: Vec<_> = keys.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    let all: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
    match given[..] {
        [_] => Ok(()),
        [] => Err(format!("is empty; expected one of {}", all.join(", "))),
        _ => Err(format!("has both {}; expected one of them", given.join(" and "))),
    }
}

fn no_registry(key: &str, location: Option<&Location>) -> Result<(), String> {
    match location {
        Some(other @ Location::Oci(_)) => {
            Err(format!("{key}: expected http://…, https://… or a path, found {other}"))
        }
        _ => Ok(()),
    }
}

fn default_timeout() -> Span {
    DEFAULT_TIMEOUT
}
