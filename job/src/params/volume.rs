//! Which filesystem of a machine is meant, wherever it is: in a partition, on a logical volume, on
//! a whole disk.

use serde::{Deserialize, Serialize};

use super::{DiskSelector, Filesystem, PartitionSelector};

/// Which block device with a filesystem is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    expecting = "a table with partition, and maybe disk and filesystem"
)]
pub struct Volume {
    /// The disk that holds the partition. Default: the disk that an earlier action of the same
    /// job wrote, else every disk is searched and one partition must fit. Not with the partition's
    /// path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskSelector>,
    /// The partition; by its path, any block device, such as `/dev/mapper/vg-root`.
    pub partition: PartitionSelector,
    /// The type of the filesystem on it, if it is to be something certain. Default: what is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<Filesystem>,
}

impl Volume {
    /// The one with this node.
    pub fn at(path: impl Into<String>) -> Self {
        let partition =
            PartitionSelector { path: Some(path.into()), ..PartitionSelector::default() };
        Self { disk: None, partition, filesystem: None }
    }

    fn checked(self) -> Result<Self, String> {
        if self.disk.is_some() && self.partition.path.is_some() {
            return Err("has both disk and partition.path; expected one of them".into());
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
            (json!({}), "`partition` is missing"),
            (json!({"partition": {}}), "names no partition"),
            (
                json!({"partition": {"path": "/dev/sda1"}, "disk": {"path": "/dev/sda"}}),
                "both disk and partition.path",
            ),
        ] {
            let error = volume(value.clone()).unwrap_err();
            assert!(error.contains(wrong), "{value}: {error}");
        }
        let by_path = json!({"partition": {"path": "/dev/sda1"}, "filesystem": "xfs"});
        assert_eq!(volume(by_path).unwrap().filesystem, Some(Filesystem::Xfs));
        assert!(volume(json!({"partition": {"label": "root"}})).is_ok());
    }
}
