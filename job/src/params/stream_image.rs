//! `stream-image`: an operating system image onto a disk.

use serde::{Deserialize, Serialize};

use super::{DiskSelector, Image};

/// Streams an image onto a whole disk, or onto a partition that `disk.path` names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub struct StreamImage {
    /// The image.
    pub image: Image,
    /// The disk, or the partition by its path, that is overwritten.
    pub disk: DiskSelector,
    /// What is proven of the disk beyond that every write to it succeeded.
    #[serde(default, skip_serializing_if = "Verify::is_default")]
    pub verify: Verify,
}

/// What is proven of a disk that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Verify {
    /// Nothing.
    None,
    /// All that was written is read back past the caches and compared. What differs is written
    /// once more before the action fails.
    #[default]
    Written,
}

impl Verify {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
