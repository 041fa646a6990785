//! What a machine is made of, in the shapes that Tinkerbell knows: its `AgentAttributes`
//! (`pkg/proto`), in the JSON that its server keeps (`pkg/data/attributes.go`).
//!
//! Rules of a Tinkerbell server match this JSON, so names and values are what its own agent tells
//! with `jaypipes/ghw`: sizes are text (see [`binary_size`]), and what cannot be read is
//! [`UNKNOWN`] rather than absent. For numbers, and for what is absent, see [`crate::Facts`].

use serde::{Deserialize, Serialize};

/// What stands for a text that cannot be read.
pub const UNKNOWN: &str = "unknown";

/// Bytes of JSON that a Tinkerbell server keeps of a machine: it drops all of what is longer than
/// 64 KiB. Somewhat less, since Go writes characters such as `&` in six bytes.
const KEPT_AT_MOST: usize = 60 << 10;

/// What a machine is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Inventory {
    /// Its processors.
    pub cpu: Cpu,
    /// Its memory.
    pub memory: Memory,
    /// Block devices with hardware behind them, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub block_devices: Vec<BlockDevice>,
    /// Network interfaces save the loopback, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network_interfaces: Vec<NetworkInterface>,
    /// PCI devices, by address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pci_devices: Vec<PciDevice>,
    /// Those PCI devices that a graphics driver runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpu_devices: Vec<PciDevice>,
    /// The case.
    pub chassis: Chassis,
    /// The firmware.
    pub bios: Bios,
    /// The main board.
    pub baseboard: Baseboard,
    /// The machine as it was sold.
    pub product: Product,
}

impl Inventory {
    /// What a Tinkerbell server is to be told. A machine of many sockets has a thousand PCI devices
    /// that are parts of its processors: too long an inventory goes without what rules hardly ask
    /// for, as little of it as will do.
    #[must_use]
    pub fn fitted(mut self) -> Self {
        let cuts: [fn(&mut Self); 4] = [
            |all| all.pci_devices.retain(|device| device.driver.is_some()),
            |all| all.pci_devices.clear(),
            |all| all.cpu.processors.iter_mut().for_each(|cpu| cpu.capabilities.clear()),
            |all| all.network_interfaces.retain(|interface| !interface.mac.is_empty()),
        ];
        for cut in cuts {
            // A value of texts and numbers can always be written.
            if serde_json::to_vec(&self).is_ok_and(|json| json.len() <= KEPT_AT_MOST) {
                break;
            }
            cut(&mut self);
        }
        self
    }
}

/// All processors of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// Cores of all packages.
    pub total_cores: u32,
    /// Logical processors that are online.
    pub total_threads: u32,
    /// The packages, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub processors: Vec<Processor>,
}

/// What sits in one socket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Processor {
    /// Number of the package; 0 where the kernel tells none.
    pub id: u32,
    /// Cores.
    pub cores: u32,
    /// Logical processors that are online.
    pub threads: u32,
    /// `GenuineIntel`, `AuthenticAMD`, `ARM`; empty where the processor tells none.
    pub vendor: String,
    /// Model; empty where the processor tells none.
    pub model: String,
    /// What it can do, in the words of `/proc/cpuinfo`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

/// Memory, as [`binary_size`] writes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// What is built in; what is usable where that cannot be told.
    pub total: String,
    /// What the kernel has to give.
    pub usable: String,
}

/// A disk, or a drive for them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct BlockDevice {
    /// Name given by the kernel, such as `nvme0n1`. Never empty: a server that discovers machines
    /// takes it for the path of a disk.
    pub name: String,
    /// `SCSI`, `IDE`, `virtio`, `NVMe` or `MMC`.
    pub controller_type: String,
    /// `HDD`, `SSD` or `ODD` (optical).
    pub drive_type: String,
    /// As [`binary_size`] writes it; empty without a medium.
    pub size: String,
    /// As [`binary_size`] writes it.
    pub physical_block_size: String,
    /// Vendor, which only SCSI and virtio disks tell.
    pub vendor: String,
    /// Model, as udev writes it.
    pub model: String,
    /// World wide name, as udev writes it: `0x5000…`, `eui.…`, `nvme.…`, `uuid.…`.
    pub wwn: String,
    /// Serial number, as udev writes it.
    pub serial_number: String,
}

/// A network interface, hardware or not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkInterface {
    /// Name given by the kernel.
    pub name: String,
    /// The address that it was made with, lower case with colons; empty if somebody gave it one.
    pub mac: String,
    /// Megabits in a second; `-1` or empty without a link.
    pub speed: String,
    /// Offloads that are on, in ethtool's words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enabled_capabilities: Vec<String>,
}

/// A PCI device: names where the machine has a `pci.ids`, else numbers, such as `0x8086`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PciDevice {
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub product: String,
    /// What it is for: the base class.
    pub class: String,
    /// The driver that runs it, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

/// The case.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Chassis {
    /// Serial number.
    pub serial: String,
    /// Who made it.
    pub vendor: String,
}

/// The firmware.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Bios {
    /// Who made it.
    pub vendor: String,
    /// Version.
    pub version: String,
    /// As the firmware writes it, commonly `MM/DD/YYYY`.
    pub release_date: String,
}

/// The main board.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Baseboard {
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub product: String,
    /// Version.
    pub version: String,
    /// Serial number.
    pub serial_number: String,
}

/// The machine as it was sold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Product {
    /// What it is.
    pub name: String,
    /// Who made it.
    pub vendor: String,
    /// Serial number.
    pub serial_number: String,
}

/// Bytes as Tinkerbell writes them: whole numbers of the greatest unit that fits, rounded up, in
/// steps of 1024, as in `239GB`; nothing for 0.
pub fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];
    let Some(binary_digits) = bytes.checked_ilog2() else { return String::new() };
    let step = binary_digits / 10;
    let amount = bytes.div_ceil(1 << (10 * step));
    format!("{amount}{}", UNITS[step as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_rounded_up_in_the_greatest_unit_that_fits() {
        for (bytes, text) in [
            (0, ""),
            (1, "1B"),
            (1023, "1023B"),
            (1024, "1KB"),
            (1025, "2KB"),
            ((1 << 20) - 1, "1024KB"),
            (1 << 20, "1MB"),
            (256_060_514_304, "239GB"),
            (1_920_383_410_176, "2TB"),
            ((1 << 50) + 1, "2PB"),
            (u64::MAX, "16EB"),
        ] {
            assert_eq!(binary_size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn what_is_too_long_for_a_server_goes_without_what_matters_least() {
        let device = |driver: Option<&str>| PciDevice {
            vendor: "0x8086".into(),
            product: "0x09a2".into(),
            class: "0x08".into(),
            driver: driver.map(str::to_owned),
        };
        let card = NetworkInterface { mac: "52:54:00:00:00:01".into(), ..Default::default() };
        let mut machine = Inventory {
            pci_devices: vec![device(Some("bnxt_en")), device(None)],
            network_interfaces: vec![card.clone(), NetworkInterface::default()],
            ..Inventory::default()
        };
        assert_eq!(machine.clone().fitted(), machine);
        machine.pci_devices.extend(vec![device(None); 2000]);
        let fitted = machine.clone().fitted();
        assert_eq!(fitted.pci_devices, [device(Some("bnxt_en"))]);
        assert_eq!(fitted.network_interfaces, machine.network_interfaces);
        machine.pci_devices.extend(vec![device(Some("pcieport")); 2000]);
        let fitted = machine.clone().fitted();
        assert_eq!((fitted.pci_devices.len(), fitted.network_interfaces.len()), (0, 2));
        machine.network_interfaces.extend(vec![NetworkInterface::default(); 2000]);
        let fitted = machine.fitted();
        assert_eq!(fitted.network_interfaces, [card]);
        assert!(serde_json::to_vec(&fitted).unwrap().len() <= KEPT_AT_MOST);
    }

    #[test]
    fn the_json_has_tinkerbells_names_and_leaves_empty_lists_out() {
        let inventory = Inventory {
            network_interfaces: vec![NetworkInterface::default()],
            gpu_devices: vec![PciDevice::default()],
            ..Inventory::default()
        };
        let json = serde_json::json!({
            "cpu": { "totalCores": 0, "totalThreads": 0 },
            "memory": { "total": "", "usable": "" },
            "networkInterfaces": [{ "name": "", "mac": "", "speed": "" }],
            "gpuDevices": [{ "vendor": "", "product": "", "class": "" }],
            "chassis": { "serial": "", "vendor": "" },
            "bios": { "vendor": "", "version": "", "releaseDate": "" },
            "baseboard": { "vendor": "", "product": "", "version": "", "serialNumber": "" },
            "product": { "name": "", "vendor": "", "serialNumber": "" },
        });
        assert_eq!(serde_json::to_value(&inventory).unwrap(), json);
        assert_eq!(serde_json::from_value::<Inventory>(json).unwrap(), inventory);
    }
}
