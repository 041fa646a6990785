//! `boot-order`: what the firmware starts next time.

use serde::{Deserialize, Serialize};

use super::DiskSelector;

/// Makes the firmware know the installed system and sets its place in the boot order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table")]
pub struct BootOrder {
    /// Where the installed system goes in the boot order.
    #[serde(default)]
    pub policy: BootPolicy,
    /// The disk with the EFI System Partition. Default: the disk that an earlier action of the
    /// same job wrote; without one, exactly one disk may have an ESP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskSelector>,
    /// Path of the loader on the ESP, such as `\EFI\debian\shimx64.efi`.
    /// Default: what the image's own `BOOT.CSV` says, else the removable path of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader: Option<String>,
    /// Description of the boot entry, shown in firmware menus. Default: from `BOOT.CSV`, else
    /// `Nibs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// Where the installed system goes in the firmware's boot order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BootPolicy {
    /// First: the machine boots from its disk from now on.
    #[default]
    InstalledFirst,
    /// Right behind the network entries: the control plane decides at each boot.
    NetworkFirst,
    /// Next boot only (`BootNext`), with the order as it was.
    Once,
    /// An entry exists, but neither order nor next boot change.
    Untouched,
}
