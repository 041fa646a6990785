//! What a disk says it is, in the words of udev's database, whether udevd runs here or not.
//!
//! What udev wrote below `/run/udev/data` goes first. Where it wrote nothing, sysfs is read and the
//! values are written as udev's rules (60-persistent-storage.rules) would, so that a rule made for
//! a machine with udevd fits the same machine without.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::identity;
use super::identity::dashed;
use super::list::attribute;
use crate::Machine;

/// A disk's identity. What it does not tell is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UdevIdentity {
    /// Vendor as SCSI and virtio disks tell it: a name, or a number such as `0x1af4`.
    pub vendor: Option<String>,
    /// Model, underscores for spaces.
    pub model: Option<String>,
    /// World wide name: `0x…`, `eui.…`, `nvme.…` or `uuid.…`.
    pub wwn: Option<String>,
    /// Serial number, underscores for spaces.
    pub serial: Option<String>,
}

/// Keys that hold the world wide name, best first.
const WWN: [&str; 3] = ["ID_WWN_WITH_EXTENSION", "ID_WWN", "DM_WWN"];

/// Keys that hold the serial number, best first: what is printed on the disk goes before what is
/// made of vendor, model and serial number.
const SERIAL: [&str; 4] = ["SCSI_IDENT_SERIAL", "ID_SCSI_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"];

/// The identity of the disk that the kernel calls `name`.
pub fn udev_identity(machine: &Machine, name: &str) -> UdevIdentity {
    let directory = machine.sysfs.join("block").join(name);
    let properties = properties(machine, &directory);
    let first = |keys: &[&str]| keys.iter().find_map(|key| properties.get(*key)).cloned();
    let own = identity::of(&directory, name);
    let own_model = own.full_model.or(own.model).map(|model| dashed(&model));
    let own_serial = own.serial.map(|serial| dashed(&serial));
    let own_wwn = own.wwn.map(|wwn| match wwn.strip_prefix("naa.") {
        Some(hexadecimal) => format!("0x{hexadecimal}"),
        None => wwn,
    });
    UdevIdentity {
        vendor: attribute(&directory.join("device"), "vendor"),
        model: first(&["ID_MODEL"]).or(own_model),
        wwn: first(&WWN).or(own_wwn),
        serial: first(&SERIAL).or(own_serial),
    }
}

/// What the database has of a disk: lines of `E:KEY=value` in a file named by its number.
fn properties(machine: &Machine, directory: &Path) -> HashMap<String, String> {
    let read = || {
        let number = attribute(directory, "dev")?;
        fs::read(machine.run.join("udev/data").join(format!("b{number}"))).ok()
    };
    String::from_utf8_lossy(&read().unwrap_or_default())
        .lines()
        .filter_map(|line| line.strip_prefix("E:")?.split_once('='))
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::FakeMachine;
    use super::*;

    fn identity(fake: &FakeMachine, name: &str) -> [Option<String>; 4] {
        let found = udev_identity(&fake.machine, name);
        [found.vendor, found.model, found.wwn, found.serial]
    }

    fn texts<const N: usize>(texts: [&str; N]) -> [Option<String>; N] {
        texts.map(|text| (!text.is_empty()).then(|| text.to_owned()))
    }

    #[test]
    fn without_udev_sysfs_tells_the_same_in_the_same_words() {
        let fake = FakeMachine::new();
        let sas = [
            ("device/vendor", "SEAGATE "),
            ("device/model", "ST1200MM0099    "),
            ("device/wwid", "naa.5000c500a1b2c3d7"),
        ];
        fake.disk("sda", 1 << 30, &sas);
        let nvme = [
            ("device/model", "Dell Ent NVMe v2 AGN MU U.2 1.6TB       "),
            ("device/serial", "S61BNE0R700123      "),
            ("wwid", "eui.36314230527001230025384500000001"),
        ];
        fake.disk("nvme0n1", 1 << 30, &nvme);
        fake.disk("vda", 1 << 30, &[("serial", "disk zero"), ("device/vendor", "0x1af4")]);
        let expected = texts(["SEAGATE", "ST1200MM0099", "0x5000c500a1b2c3d7", ""]);
        assert_eq!(identity(&fake, "sda"), expected);
        let model = "Dell_Ent_NVMe_v2_AGN_MU_U.2_1.6TB";
        let wwn = "eui.36314230527001230025384500000001";
        assert_eq!(identity(&fake, "nvme0n1"), texts(["", model, wwn, "S61BNE0R700123"]));
        assert_eq!(identity(&fake, "vda"), texts(["0x1af4", "", "", "disk_zero"]));
    }

    #[test]
    fn what_udev_wrote_goes_first_and_the_best_of_it_before_the_rest() {
        let mut fake = FakeMachine::new();
        fake.machine.run = fake.machine.sysfs.with_file_name("run");
        let attributes = [
            ("dev", "8:16"),
            ("device/vendor", "ATA     "),
            ("device/model", "Model of sysfs"),
            ("device/wwid", "naa.5000000000000001"),
        ];
        fake.disk("sdb", 1 << 30, &attributes);
        let database = fake.machine.run.join("udev/data/b8:16");
        let all = [
            ("ID_SERIAL", "Model_SHORT"),
            ("ID_SERIAL_SHORT", "SHORT"),
            ("ID_SCSI_SERIAL", "SCSI"),
            ("SCSI_IDENT_SERIAL", "IDENT"),
        ];
        for count in 1..=all.len() {
            let lines: String =
                all[..count].iter().map(|(key, value)| format!("E:{key}={value}\n")).collect();
            fake.write(&database, &format!("S:disk/by-id/x\nE:ID_WWN=0x5\nE:ID_MODEL=\n{lines}"));
            let expected = texts(["ATA", "Model_of_sysfs", "0x5", all[count - 1].1]);
            assert_eq!(identity(&fake, "sdb"), expected);
        }
        fake.write(&database, "E:ID_MODEL=M\nE:ID_WWN=0x5\nE:ID_WWN_WITH_EXTENSION=0x56");
        assert_eq!(identity(&fake, "sdb"), texts(["ATA", "M", "0x56", ""]));
    }
}
