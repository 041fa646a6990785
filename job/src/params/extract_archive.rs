//! `extract-archive`: a tar archive into a filesystem on a disk.

use std::path::{Component, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DiskSelector, Filesystem, Image, PartitionSelector};

/// Extracts a tar archive into the filesystem of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", remote = "Self", expecting = "a table")]
pub struct ExtractArchive {
    /// The archive, plain or compressed: where it is and how it is proven, as for an image, but for
    /// the block map.
    pub archive: Image,
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
    /// The directory that it goes into, absolute from the root of the filesystem; made if it is not
    /// there. Nothing of the archive gets out of it.
    #[serde(default = "root")]
    pub path: PathBuf,
}

fn root() -> PathBuf {
    "/".into()
}

impl ExtractArchive {
    fn checked(self) -> Result<Self, String> {
        if self.disk.is_some() && self.partition.path.is_some() {
            return Err("has both disk and partition.path; expected one of them".into());
        }
        if self.archive.bmap.is_some() {
            return Err("archive.bmap: an archive has no block map".into());
        }
        if self.archive.format.is_some() {
            return Err("archive.format: an archive is told by its first bytes".into());
        }
        let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        if !self.path.is_absolute() || !self.path.components().all(plain) {
            return Err(format!("path {:?} must be absolute and hold no `..`", self.path));
        }
        Ok(self)
    }
}

checked_on_decode!(ExtractArchive);
