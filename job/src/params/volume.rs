//! Which filesystem of a machine is meant, wherever it is: in a partition, on a logical volume, on
//! a whole disk.

use serde::{Deserialize, Serialize};

use super::{DiskSelector, Filesystem, PartitionSelector};

/// Which block device is meant: by its node, or as a partition of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    default,
    expecting = "a table with device, or with partition and maybe disk"
)]
pub struct Volume {
    /// Block device node, such as `/dev/sda3` or `/dev/mapper/vg-root`. Either this or `partition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The disk that holds the partition. Default: the disk that an earlier action of the same
    /// job wrote, else every disk is searched and one partition must fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskSelector>,
    /// The partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionSelector>,
    /// The type of the filesystem on it, if it is to be something certain. Default: what is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<Filesystem>,
}

impl Volume {
    /// The one with this node.
    pub fn device(path: impl Into<String>) -> Self {
        Self { device: Some(path.into()), ..Self::default() }
    }

    fn checked(self) -> Result<Self, String> {
        match (&self.device, &self.partition) {
            (None, None) => return Err("names no device; expected device or partition".into()),
            (Some(_), Some(_)) => {
                return Err("has both device and partition; expected one of them".into());
            }
            (Some(_), None) if self.disk.is_some() => {
                return Err("disk belongs to partition; device is a node by itself".into());
            }
            (Some(device), None) if !device.starts_with("/dev/") => {
                return Err(format!("device {device:?} must be a node below /dev"));
            }
            _ => {}
        }
        Ok(self)
    }
}

checked_on_decode!(Volume);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volume(value: serde_json::Value) -> Result<Volume, String> {
        crate::decode::decode(value).map_err(|e| e.to_string())
    }

    #[test]
    fn a_volume_is_named_in_exactly_one_way() {
        for (value, wrong) in [
            (json!({}), "names no device"),
            (json!({"filesystem": "ext4"}), "names no device"),
            (json!({"device": "/dev/sda1", "partition": {"number": 1}}), "both device and"),
            (json!({"device": "/dev/sda1", "disk": {"path": "/dev/sda"}}), "belongs to partition"),
            (json!({"device": "sda1"}), "below /dev"),
        ] {
            let error = volume(value.clone()).unwrap_err();
            assert!(error.contains(wrong), "{value}: {error}");
        }
        let device = volume(json!({"device": "/dev/sda1", "filesystem": "xfs"})).unwrap();
        assert_eq!(device.filesystem, Some(Filesystem::Xfs));
        assert!(volume(json!({"partition": {"label": "root"}})).unwrap().device.is_none());
    }
}
