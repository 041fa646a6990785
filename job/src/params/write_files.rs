//! `write-files`: files into a filesystem on a disk.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use serde::{Deserialize, Serialize};

use super::{DiskSelector, PartitionSelector};
use crate::{Secret, Span};

/// How long a DHCP server is asked for the lease that a file is made of.
const DEFAULT_LEASE_TIMEOUT: Span = Span(Duration::from_secs(2 * 60));

/// Writes files into the filesystem of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", remote = "Self", expecting = "a table")]
pub struct WriteFiles {
    /// The disk that holds the partition. Default: the disk that an earlier action of the same
    /// job wrote, else every disk is searched and one partition must fit. Not with the partition's
    /// path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskSelector>,
    /// The partition that holds the filesystem.
    pub partition: PartitionSelector,
    /// The filesystem's type, if it is to be something certain. Default: what is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<Filesystem>,
    /// The files, written in this order.
    pub files: Vec<NewFile>,
}

impl WriteFiles {
    fn checked(self) -> Result<Self, String> {
        if self.disk.is_some() && self.partition.path.is_some() {
            return Err("has both disk and partition.path; expected one of them".into());
        }
        Ok(self)
    }
}

checked_on_decode!(WriteFiles);

/// A filesystem that files can be written into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Filesystem {
    /// ext2, ext3 or ext4, all mounted by the kernel's ext4 driver.
    Ext4,
    /// FAT12, FAT16 or FAT32.
    Vfat,
    /// XFS.
    Xfs,
    /// Btrfs, its default subvolume.
    Btrfs,
}

impl Filesystem {
    /// The name by which the kernel mounts it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Vfat => "vfat",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

/// One file to write. An existing file of that name is replaced whole, or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    try_from = "FileDoc",
    into = "FileDoc",
    expecting = "a table with path and content"
)]
#[cfg_attr(feature = "schema", schemars(with = "FileDoc"))]
pub struct NewFile {
    /// Absolute path from the root of the filesystem, without `.` or `..`.
    pub path: PathBuf,
    /// The bytes of the file.
    pub content: Content,
    /// Permissions of the file.
    pub mode: Mode,
    /// Permissions of directories that have to be made for it.
    pub directory_mode: Mode,
    /// Numeric user that owns the file and directories made for it.
    pub uid: u32,
    /// Numeric group that owns the file and directories made for it.
    pub gid: u32,
}

/// The bytes of a file: as text or, for what is no text, in base64; or how they are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// UTF-8 text, written as it is.
    Text(Secret),
    /// Standard base64 with padding; white space does not count.
    Base64(Secret),
    /// A configuration for netplan, made of the machine's DHCP lease.
    Netplan(Netplan),
}

/// A static network for netplan, made of the machine's DHCP lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub struct Netplan {
    /// What the installed system calls the interface. Default: it is known by its MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// How long a DHCP server is asked, where the agent has no lease of its own.
    #[serde(default = "default_lease_timeout")]
    pub timeout: Span,
}

fn default_lease_timeout() -> Span {
    DEFAULT_LEASE_TIMEOUT
}

impl Content {
    /// The bytes that the file will hold; none of a file that is yet to be made.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Netplan(_) => Ok(Vec::new()),
            Self::Text(text) => Ok(text.expose().as_bytes().to_vec()),
            Self::Base64(text) => {
                let digits: String = text.expose().split_ascii_whitespace().collect();
                base64::engine::general_purpose::STANDARD
                    .decode(digits)
                    .map_err(|e| format!("content-base64 is not base64: {e}"))
            }
        }
    }
}

/// Permission bits, written in octal as text: `"0600"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub u32);

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ALL_BITS: u32 = 0o7777;
        match u32::from_str_radix(text, 8) {
            Ok(bits) if bits <= ALL_BITS && !text.starts_with('+') => Ok(Self(bits)),
            _ => Err(format!("{text:?} is no mode; expected octal digits as text, \"0644\"")),
        }
    }
}

impl TryFrom<String> for Mode {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        format!("{:04o}", mode.0)
    }
}

/// A file as it stands in a job.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "NewFile"))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table with path and content"
)]
struct FileDoc {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_base64: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netplan: Option<Netplan>,
    #[serde(default = "default_mode")]
    mode: Mode,
    #[serde(default = "default_directory_mode")]
    directory_mode: Mode,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

fn default_mode() -> Mode {
    Mode(0o644)
}

fn default_directory_mode() -> Mode {
    Mode(0o755)
}

impl TryFrom<FileDoc> for NewFile {
    type Error = String;

    fn try_from(doc: FileDoc) -> Result<Self, String> {
        if !is_plain_absolute(&doc.path) || doc.path.contains('\0') {
            return Err(format!(
                "path {:?} must be absolute, name a file and hold no `.` or `..`",
                doc.path
            ));
        }
        let content = match (doc.content, doc.content_base64, doc.netplan) {
            (Some(text), None, None) => Content::Text(text),
            (None, Some(text), None) => Content::Base64(text),
            (None, None, Some(netplan)) => Content::Netplan(netplan),
            _ => {
                return Err(
                    "exactly one of content, content-base64 and netplan must be given".into()
                );
            }
        };
        content.bytes()?;
        Ok(Self {
            path: doc.path.into(),
            content,
            mode: doc.mode,
            directory_mode: doc.directory_mode,
            uid: doc.uid,
            gid: doc.gid,
        })
    }
}

impl From<NewFile> for FileDoc {
    fn from(file: NewFile) -> Self {
        let (content, content_base64, netplan) = match file.content {
            Content::Text(text) => (Some(text), None, None),
            Content::Base64(text) => (None, Some(text), None),
            Content::Netplan(netplan) => (None, None, Some(netplan)),
        };
        Self {
            path: file.path.to_string_lossy().into_owned(),
            content,
            content_base64,
            netplan,
            mode: file.mode,
            directory_mode: file.directory_mode,
            uid: file.uid,
            gid: file.gid,
        }
    }
}

/// Whether every part of an absolute path is a name: nothing in it can leave the filesystem.
fn is_plain_absolute(path: &str) -> bool {
    path.strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(value: serde_json::Value) -> Result<NewFile, String> {
        crate::decode::decode(value).map_err(|e| e.to_string())
    }

    #[test]
    fn a_path_that_could_leave_the_filesystem_is_refused() {
        for path in ["a", "/../etc/passwd", "/a/../b", "/a/./b", "/", "/a/", ""] {
            assert!(file(json!({"path": path, "content": ""})).is_err(), "{path:?}");
        }
        assert!(file(json!({"path": "/a/..b", "content": ""})).is_ok());
    }

    #[test]
    fn content_is_given_once_and_base64_is_checked() {
        assert!(file(json!({"path": "/a"})).unwrap_err().contains("exactly one"));
        assert!(file(json!({"path": "/a", "content-base64": "!"})).unwrap_err().contains("base64"));
        let bytes = file(json!({"path": "/a", "content-base64": "AAH/\n/w=="})).unwrap();
        assert_eq!(bytes.content.bytes().unwrap(), [0, 1, 255, 255]);
        let both = json!({"path": "/a", "content": "", "netplan": {}});
        assert!(file(both).unwrap_err().contains("exactly one"));
    }

    #[test]
    fn a_partition_by_path_goes_with_no_disk_and_no_other_criterion() {
        let write = |more: serde_json::Value| {
            let mut with = json!({"partition": {"path": "/dev/sda1"}, "files": []});
            with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            crate::decode::decode::<WriteFiles>(with).map_err(|e| e.to_string())
        };
        write(json!({})).unwrap();
        let error = write(json!({"disk": {"serial": "A"}})).unwrap_err();
        assert!(error.contains("has both disk and partition.path"), "{error}");
        let error = write(json!({"partition": {"path": "/dev/sda1", "number": 1}})).unwrap_err();
        assert!(error.contains("expected no other criterion"), "{error}");
        let error = write(json!({"partition": {"path": "sda1"}})).unwrap_err();
        assert!(error.contains("below /dev"), "{error}");
    }

    #[test]
    fn a_mode_is_octal_text() {
        assert_eq!("0600".parse::<Mode>().unwrap(), Mode(0o600));
        for bad in ["0x1", "9", "", "17777", "+644"] {
            assert!(bad.parse::<Mode>().is_err(), "{bad:?}");
        }
        assert!(file(json!({"path": "/a", "content": "", "mode": 600})).is_err());
    }
}
