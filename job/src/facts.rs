//! What a machine says of itself.

use serde::{Deserialize, Serialize};

use crate::Inventory;

/// A machine as its agent sees it. What cannot be read is absent, never made up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Facts {
    /// Processor architecture as the kernel names it: `x86_64`, `aarch64`.
    pub architecture: String,
    /// Logical processors that are online.
    pub processors: u32,
    /// Usable memory, bytes.
    pub memory: u64,
    /// How the machine was booted.
    pub firmware: Firmware,
    /// Whether UEFI Secure Boot is enforced, where the firmware tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// System UUID from DMI, lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// System vendor from DMI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// Product name from DMI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// System serial number from DMI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Disks that could be installed to.
    pub disks: Vec<DiskFacts>,
    /// Network interfaces with hardware behind them.
    pub interfaces: Vec<InterfaceFacts>,
    /// What the machine is made of, in Tinkerbell's shapes. Older agents tell none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
}

/// How a machine was booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// UEFI.
    Uefi,
    /// Legacy BIOS, or no UEFI that the kernel knows of.
    Bios,
    /// A kind that a newer peer knows and this build does not.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct DiskFacts {
    /// Device node, such as `/dev/nvme0n1`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Logical sector size, bytes.
    pub sector_size: u32,
    /// Model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// World wide name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Whether it spins.
    pub rotational: bool,
    /// Whether it can be pulled out.
    pub removable: bool,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct InterfaceFacts {
    /// Name given by the kernel.
    pub name: String,
    /// Hardware address, lower case with colons.
    pub mac: String,
    /// Whether a link is there.
    pub carrier: bool,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_without_an_inventory_are_what_they_always_were() {
        let facts: Facts = serde_json::from_str("{\"architecture\":\"x86_64\"}").unwrap();
        assert_eq!((facts.architecture.as_str(), &facts.inventory), ("x86_64", &None));
        let json = serde_json::to_value(&facts).unwrap();
        assert_eq!(json.get("inventory"), None, "{json}");
    }
}
