//! Which disk of a machine is meant.

use serde::{Deserialize, Serialize};

use crate::Size;

/// Which disk is meant: all criteria given must hold, and exactly one disk may be left.
///
/// Two disks that fit are an error that lists them, never a guess, unless `pick` says which.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    default,
    expecting = "a table with path, by-id, serial, wwn, model, min-size, max-size, pick or release"
)]
pub struct DiskSelector {
    /// Device node, such as `/dev/nvme0n1`, or any link to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Name of a link in `/dev/disk/by-id`, found without udev too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_id: Option<String>,
    /// Serial number, whole, as the device reports it (spaces around it do not count).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// World wide name: `eui.…`, `naa.…`, `nvme.…` or `0x…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Model, whole, as the device reports it (spaces around it do not count).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Smallest size that fits, inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<Size>,
    /// Largest size that fits, inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<Size>,
    /// Which one of several that fit. Two of the same size are still ambiguous.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pick: Option<Pick>,
    /// Whether what uses the disk is stopped first, from the outermost in: filesystems are
    /// unmounted, swap is switched off, device mapper and md devices are stopped.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub release: bool,
}

/// Which one of several disks that fit a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Pick {
    /// The one with the fewest bytes.
    Smallest,
    /// The one with the most bytes.
    Largest,
}

impl DiskSelector {
    fn checked(self) -> Result<Self, String> {
        if self == (Self { release: self.release, ..Self::default() }) {
            return Err("names no disk; expected at least one of path, by-id, serial, wwn, \
                        model, min-size, max-size, pick"
                .into());
        }
        if self.path.as_ref().is_some_and(|path| !path.starts_with("/dev/")) {
            return Err("path must be a device node below /dev".into());
        }
        if let (Some(min), Some(max)) = (self.min_size, self.max_size)
            && min > max
        {
            return Err(format!("min-size {min} is larger than max-size {max}"));
        }
        Ok(self)
    }
}

checked_on_decode!(DiskSelector);

impl std::fmt::Display for DiskSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts = [
            ("path", &self.path),
            ("by-id", &self.by_id),
            ("serial", &self.serial),
            ("wwn", &self.wwn),
            ("model", &self.model),
        ];
        let mut criteria: Vec<String> = texts
            .iter()
            .filter_map(|(key, value)| value.as_ref().map(|value| format!("{key} {value:?}")))
            .collect();
        criteria.extend(self.min_size.map(|size| format!("min-size {size}")));
        criteria.extend(self.max_size.map(|size| format!("max-size {size}")));
        criteria.extend(self.pick.map(|pick| match pick {
            Pick::Smallest => "pick smallest".to_owned(),
            Pick::Largest => "pick largest".to_owned(),
        }));
        criteria.extend(self.release.then(|| "release true".to_owned()));
        f.write_str(&criteria.join(", "))
    }
}
