//! `wipe-disk`, `partition-disk` and `make-filesystem`: a disk laid out from nothing.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DiskSelector, Volume};
use crate::Size;

/// The most characters that a name in a GPT has (UEFI 2.10, 5.3.3: 36 units of UTF-16).
const MAX_NAME: usize = 36;

/// The most partitions of an MBR: extended ones are not made.
const MAX_MBR_PARTITIONS: usize = 4;

/// The most partitions that a GPT of the usual size has.
const MAX_GPT_PARTITIONS: usize = 128;

/// Clears both ends of a disk, and every mark of a partition table, filesystem, RAID or volume
/// manager on it, so that nobody takes it for what it was. What lies in between is not overwritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table with disk")]
pub struct WipeDisk {
    /// The disk.
    pub disk: DiskSelector,
}

/// Puts a new partition table on a disk, in place of any that is there. Old marks in the partitions
/// are cleared, so that no former filesystem shows up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    expecting = "a table with disk and partitions"
)]
pub struct PartitionDisk {
    /// The disk.
    pub disk: DiskSelector,
    /// Which kind of table.
    #[serde(default, skip_serializing_if = "TableKind::is_gpt")]
    pub table: TableKind,
    /// The partitions, in their order on the disk, numbered from 1.
    pub partitions: Vec<NewPartition>,
}

/// Which kind of partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TableKind {
    /// GUID partition table.
    #[default]
    Gpt,
    /// Master boot record, of at most four partitions.
    Mbr,
}

/// One partition to make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct NewPartition {
    /// GPT name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its size, rounded up to whole MiB. Default: what is left; only the last may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// What it is for.
    #[serde(skip_serializing_if = "PartitionUse::is_default")]
    pub purpose: PartitionUse,
    /// Its GPT type, if none of the purposes is it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub type_guid: Option<Uuid>,
    /// Whether the MBR marks it as the one to start from.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub active: bool,
}

/// What a partition is for, by which its type in the table is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PartitionUse {
    /// A filesystem of Linux.
    #[default]
    Linux,
    /// Swap space.
    Swap,
    /// The EFI system partition.
    Efi,
    /// Room for GRUB on a machine with BIOS and GPT.
    BiosBoot,
    /// FAT, for others than the firmware.
    Fat,
}

/// Makes an empty filesystem, or swap space, in place of what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    expecting = "a table with on and format"
)]
pub struct MakeFilesystem {
    /// Where.
    pub on: Volume,
    /// Which filesystem.
    pub format: Format,
    /// Its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Further arguments of the program that makes it, such as `["-O", "^metadata_csum"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A filesystem that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// ext2, by `mke2fs`.
    Ext2,
    /// ext3, by `mke2fs`.
    Ext3,
    /// ext4, by `mke2fs`.
    Ext4,
    /// FAT, by `mkfs.fat`.
    Vfat,
    /// XFS, by `mkfs.xfs`.
    Xfs,
    /// Btrfs, by `mkfs.btrfs`.
    Btrfs,
    /// Swap space, made by Nibs itself.
    Swap,
}

impl TableKind {
    pub(super) fn is_gpt(&self) -> bool {
        *self == Self::Gpt
    }
}

impl PartitionUse {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Format {
    /// All that can be made, by name.
    pub const ALL: &[(&str, Self)] = &[
        ("ext2", Self::Ext2),
        ("ext3", Self::Ext3),
        ("ext4", Self::Ext4),
        ("vfat", Self::Vfat),
        ("xfs", Self::Xfs),
        ("btrfs", Self::Btrfs),
        ("swap", Self::Swap),
    ];

    /// Its name, as libblkid has it too.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }
}

impl PartitionDisk {
    fn checked(self) -> Result<Self, String> {
        let most = match self.table {
            TableKind::Gpt => MAX_GPT_PARTITIONS,
            TableKind::Mbr => MAX_MBR_PARTITIONS,
        };
        let count = self.partitions.len();
        if count == 0 || count > most {
            return Err(format!("partitions: has {count}; expected 1 to {most}"));
        }
        for (index, partition) in self.partitions.iter().enumerate() {
            let wrong = |what: &str| Err(format!("partitions[{index}]: {what}"));
            match partition.size {
                None if index + 1 < count => {
                    return wrong("has no size; only the last may take what is left");
                }
                Some(Size(0)) => return wrong("has size 0; expected more, or none for the rest"),
                _ => {}
            }
            if partition.name.encode_utf16().count() > MAX_NAME {
                return wrong(&format!("its name is longer than {MAX_NAME} characters"));
            }
            if partition.type_guid.is_some() && !partition.purpose.is_default() {
                return wrong("has both type-guid and purpose; expected one of them");
            }
            match self.table {
                TableKind::Gpt if partition.active => {
                    return wrong("active is for table = \"mbr\"; a GPT has no such mark");
                }
                TableKind::Mbr if partition.type_guid.is_some() => {
                    return wrong("type-guid is for table = \"gpt\"; use purpose");
                }
                TableKind::Mbr if partition.purpose == PartitionUse::BiosBoot => {
                    return wrong("bios-boot is for table = \"gpt\"; an MBR leaves room for GRUB");
                }
                _ => {}
            }
        }
        Ok(self)
    }
}

checked_on_decode!(PartitionDisk);

impl MakeFilesystem {
    fn checked(self) -> Result<Self, String> {
        if self.on.filesystem.is_some() {
            return Err("on.filesystem is what is there; what is made is format".into());
        }
        if self.format == Format::Swap && !self.options.is_empty() {
            return Err("options: swap has none".into());
        }
        Ok(self)
    }
}

checked_on_decode!(MakeFilesystem);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refused(table: &str, partitions: &Value) -> String {
        let with = json!({"disk": {"path": "/dev/sda"}, "table": table, "partitions": partitions});
        crate::decode::decode::<PartitionDisk>(with).unwrap_err().to_string()
    }

    #[test]
    fn a_table_that_cannot_be_made_is_refused() {
        for (table, partitions, wrong) in [
            ("gpt", json!([]), "has 0; expected 1 to 128"),
            ("mbr", json!([{}, {}, {}, {}, {}]), "has 5; expected 1 to 4"),
            ("gpt", json!([{}, {"size": "1MiB"}]), "partitions[0]: has no size"),
            ("gpt", json!([{"size": 0}]), "partitions[0]: has size 0"),
            ("gpt", json!([{"name": "x".repeat(37)}]), "longer than 36"),
            ("gpt", json!([{"active": true}]), "active is for table"),
            ("mbr", json!([{"purpose": "bios-boot"}]), "an MBR leaves room"),
            ("mbr", json!([{"type-guid": Uuid::nil()}]), "use purpose"),
            ("gpt", json!([{"type-guid": Uuid::nil(), "purpose": "swap"}]), "one of them"),
        ] {
            let error = refused(table, &partitions);
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn every_format_has_its_name() {
        for (name, format) in Format::ALL {
            assert_eq!(serde_json::to_value(format).unwrap(), json!(name));
            assert_eq!(format.as_str(), *name);
        }
    }
}
