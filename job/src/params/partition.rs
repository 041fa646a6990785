//! Which partition of a disk is meant.

use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

/// Which partition is meant: all criteria given must hold, and exactly one partition may be left.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    default,
    expecting = "a table with path, number, name, type-guid or label"
)]
pub struct PartitionSelector {
    /// Device node, such as `/dev/nvme0n1p3`, or any link to it; `/dev/disk/by-id/…-part3` works
    /// without udev. Whatever device that is, no other criterion goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Number in the partition table, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// GPT partition name, whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// GPT partition type GUID.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "guid")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub type_guid: Option<Uuid>,
    /// Label of the filesystem in it, whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

impl PartitionSelector {
    fn checked(self) -> Result<Self, String> {
        if self == Self::default() {
            return Err(
                "names no partition; expected path, number, name, type-guid or label".into()
            );
        }
        if let Some(path) = &self.path {
            if (Self { path: None, ..self.clone() }) != Self::default() {
                return Err(
                    "path names the partition; expected no other criterion beside it".into()
                );
            }
            if !path.starts_with("/dev/") {
                return Err("path must be a device node below /dev".into());
            }
        }
        if self.number == Some(0) {
            return Err("number must be at least 1, the first partition".into());
        }
        Ok(self)
    }
}

checked_on_decode!(PartitionSelector);

fn guid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Uuid::parse_str(&text).map(Some).map_err(|_| {
        de::Error::custom(format!(
            "{text:?} is not a GUID such as \"c12a7328-f81f-11d2-ba4b-00a0c93ec93b\""
        ))
    })
}

impl std::fmt::Display for PartitionSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut criteria = Vec::new();
        criteria.extend(self.path.as_ref().map(|path| format!("path {path:?}")));
        criteria.extend(self.number.map(|number| format!("number {number}")));
        criteria.extend(self.name.as_ref().map(|name| format!("name {name:?}")));
        criteria.extend(self.type_guid.map(|guid| format!("type-guid {guid}")));
        criteria.extend(self.label.as_ref().map(|label| format!("label {label:?}")));
        f.write_str(&criteria.join(", "))
    }
}
