//! What this machine is, from sysfs, procfs and DMI, and by which id it goes.
//!
//! What cannot be read is absent. Strings that firmware vendors leave unfilled are absent too: a
//! serial number that a thousand machines share names none of them.
//!
//! - [`collect`]: what jobs and machines are matched by.
//! - [`inventory()`]: all that the machine is made of, as Tinkerbell's agent tells it.

mod identity;
mod inventory;

use std::fs;
use std::path::Path;

use nibs_actions::Machine;
use nibs_job::{DiskFacts, Facts, Firmware, InterfaceFacts};
use tracing::warn;

pub use identity::machine_id;
pub use inventory::inventory;

use crate::net;

/// What the firmware says in place of a value.
const UNFILLED: [&str; 8] = [
    "to be filled by o.e.m.",
    "default string",
    "system serial number",
    "system product name",
    "not specified",
    "none",
    "0123456789",
    "0",
];

/// UUIDs that firmware vendors leave in place of a machine's own.
const SHARED_UUIDS: [&str; 3] = [
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "03000200-0400-0500-0006-000700080009",
];

/// The UEFI variable that says whether Secure Boot is enforced (UEFI 2.10 section 3.3).
const SECURE_BOOT: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Looks at the machine. The inventory, which takes longer, is left out.
pub fn collect(machine: &Machine) -> Facts {
    let sys = &machine.sysfs;
    let dmi = |file: &str| dmi(&sys.join("class/dmi/id").join(file));
    Facts {
        architecture: std::env::consts::ARCH.to_owned(),
        processors: processors(sys),
        memory: memory(&machine.proc),
        firmware: match sys.join("firmware/efi").exists() {
            true => Firmware::Uefi,
            false => Firmware::Bios,
        },
        secure_boot: secure_boot(&machine.efivars),
        uuid: dmi("product_uuid")
            .map(|uuid| uuid.to_ascii_lowercase())
            .filter(|uuid| !SHARED_UUIDS.contains(&uuid.as_str())),
        vendor: dmi("sys_vendor"),
        product: dmi("product_name"),
        serial: dmi("product_serial"),
        disks: disks(machine),
        interfaces: interfaces(sys),
        inventory: None,
    }
}

fn disks(machine: &Machine) -> Vec<DiskFacts> {
    match nibs_actions::disk::list(machine) {
        Ok(disks) => disks.iter().map(DiskFacts::from).collect(),
        Err(e) => {
            warn!("taking the inventory: {e}");
            Vec::new()
        }
    }
}

/// Interfaces with hardware, and the addresses that they have.
fn interfaces(sys: &Path) -> Vec<InterfaceFacts> {
    let addresses: Vec<_> = nix::ifaddrs::getifaddrs().map(Iterator::collect).unwrap_or_default();
    net::list(sys)
        .into_iter()
        .filter(|interface| interface.physical)
        .map(|interface| InterfaceFacts {
            addresses: addresses
                .iter()
                .filter(|address| address.interface_name == interface.name)
                .filter_map(with_prefix)
                .collect(),
            mac: interface.mac.to_string(),
            carrier: interface.carrier,
            name: interface.name,
        })
        .collect()
}

/// `10.0.0.9/24`, `fe80::1/64`.
fn with_prefix(address: &nix::ifaddrs::InterfaceAddress) -> Option<String> {
    let (own, mask) = (address.address?, address.netmask?);
    let v4 = || {
        let prefix = u32::from(mask.as_sockaddr_in()?.ip()).count_ones();
        Some(format!("{}/{prefix}", own.as_sockaddr_in()?.ip()))
    };
    let v6 = || {
        let prefix = u128::from(mask.as_sockaddr_in6()?.ip()).count_ones();
        Some(format!("{}/{prefix}", own.as_sockaddr_in6()?.ip()))
    };
    v4().or_else(v6)
}

fn dmi(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let text = text.trim();
    let unfilled = UNFILLED.iter().any(|word| text.eq_ignore_ascii_case(word));
    (!text.is_empty() && !unfilled).then(|| text.to_owned())
}

fn processors(sys: &Path) -> u32 {
    let ranges = fs::read_to_string(sys.join("devices/system/cpu/online")).unwrap_or_default();
    ranges.trim().split(',').filter_map(range_length).sum()
}

/// `0-3` has four, `7` has one.
fn range_length(range: &str) -> Option<u32> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    last.checked_sub(first)?.checked_add(1)
}

fn memory(proc: &Path) -> u64 {
    let text = fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
    let kibibytes: Option<u64> = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|value| value.trim().trim_end_matches("kB").trim().parse().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

fn secure_boot(efivars: &Path) -> Option<bool> {
    // Four bytes of attributes, then one of value.
    match fs::read(efivars.join(SECURE_BOOT)).ok()?.as_slice() {
        [_, _, _, _, value] => Some(*value == 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine in a folder.
    fn machine(root: &Path, files: &[(&str, &[u8])]) -> Machine {
        for (name, bytes) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Machine {
            sysfs: root.join("sys"),
            dev: root.join("dev"),
            proc: root.join("proc"),
            efivars: root.join("sys/firmware/efi/efivars"),
            ..Machine::default()
        }
    }

    #[test]
    fn a_machine_tells_what_it_is() {
        let root = tempfile::tempdir().unwrap();
        let secure_boot = format!("sys/firmware/efi/efivars/{SECURE_BOOT}");
        let machine = machine(
            root.path(),
            &[
                ("sys/devices/system/cpu/online", b"0-3,8\n"),
                ("proc/meminfo", b"MemTotal:         262144 kB\nMemFree: 1 kB\n"),
                (&secure_boot, &[6, 0, 0, 0, 1]),
                ("sys/class/dmi/id/product_uuid", b"4C4C4544-0043-3010-8053-B4C04F4D3432\n"),
                ("sys/class/dmi/id/sys_vendor", b"Dell Inc. \n"),
                ("sys/class/dmi/id/product_serial", b"To Be Filled By O.E.M.\n"),
                ("sys/class/net/nibs-none0/type", b"1\n"),
                ("sys/class/net/nibs-none0/ifindex", b"7\n"),
                ("sys/class/net/nibs-none0/address", b"52:54:00:00:00:01\n"),
                ("sys/class/net/nibs-none0/carrier", b"1\n"),
                ("sys/class/net/nibs-none0/device/vendor", b"0x1af4\n"),
                ("sys/class/net/docker0/type", b"1\n"),
                ("sys/class/net/docker0/ifindex", b"8\n"),
                ("sys/class/net/docker0/address", b"52:54:00:00:00:02\n"),
            ],
        );
        let facts = collect(&machine);
        assert_eq!((facts.processors, facts.memory), (5, 256 << 20));
        assert_eq!((facts.firmware, facts.secure_boot), (Firmware::Uefi, Some(true)));
        assert_eq!(facts.uuid.as_deref(), Some("4c4c4544-0043-3010-8053-b4c04f4d3432"));
        assert_eq!(facts.vendor.as_deref(), Some("Dell Inc."));
        assert_eq!((facts.product, facts.serial), (None, None));
        let [interface] = &facts.interfaces[..] else { panic!("{:?}", facts.interfaces) };
        assert_eq!((interface.name.as_str(), interface.carrier), ("nibs-none0", true));
        assert_eq!(interface.mac, "52:54:00:00:00:01");
    }

    #[test]
    fn a_machine_that_tells_nothing_is_no_error() {
        let root = tempfile::tempdir().unwrap();
        let facts = collect(&machine(root.path(), &[]));
        let nothing = Facts {
            architecture: std::env::consts::ARCH.into(),
            firmware: Firmware::Bios,
            ..Facts::default()
        };
        assert_eq!(facts, nothing);
    }

    #[test]
    fn a_uuid_that_many_machines_share_is_none() {
        for uuid in SHARED_UUIDS {
            let root = tempfile::tempdir().unwrap();
            let file = ("sys/class/dmi/id/product_uuid", uuid.to_uppercase());
            let machine = machine(root.path(), &[(file.0, file.1.as_bytes())]);
            assert_eq!(collect(&machine).uuid, None, "{uuid}");
        }
    }

    #[test]
    fn nonsense_in_the_lists_of_the_kernel_counts_for_nothing() {
        assert_eq!(range_length("3-1"), None);
        assert_eq!(range_length("x"), None);
        assert_eq!(range_length("0-4294967295"), None);
        assert_eq!(range_length("7"), Some(1));
    }
}
