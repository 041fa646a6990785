//! `storage`: disks laid out as the storage document of a Tinkerbell metadata service says.

use serde::{Deserialize, Serialize};

use super::TableKind;
use crate::Location;

/// Lays disks out as a Tinkerbell storage document says: `metadata.instance.storage` of the JSON at
/// `/metadata` of its metadata service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    expecting = "a table with document and step"
)]
pub struct Storage {
    /// Where the document is: `http://`, `https://` or `file://` URL, or an absolute path.
    pub document: Location,
    /// What of it is to be done.
    pub step: StorageStep,
    /// Which kind of partition table is made.
    #[serde(default, skip_serializing_if = "TableKind::is_gpt")]
    pub table: TableKind,
    /// Whether what uses a disk is stopped first, as `release` of a disk selector has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub release: bool,
}

/// One step on the way to disks with filesystems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum StorageStep {
    /// The document is read, and told; nothing is done.
    Check,
    /// Every disk of the document is wiped.
    Wipe,
    /// Every disk gets its partitions; it is wiped first where the document says so.
    Partition,
    /// Every filesystem is made.
    Format,
    /// Every filesystem is mounted once, as a proof that a later action can. Nothing stays mounted.
    Mount,
}

impl Storage {
    fn checked(self) -> Result<Self, String> {
        match self.document {
            Location::Oci(_) => Err("document: expected http://…, https://… or a path".into()),
            Location::Http(_) | Location::File(_) => Ok(self),
        }
    }
}

checked_on_decode!(Storage);
