//! The network interfaces of a machine, as `/sys/class/net` shows them.

use std::fs;
use std::path::Path;

use nibs_job::Mac;

/// The kind of link that DHCP is spoken on here (`ARPHRD_ETHER`).
const ETHERNET: &str = "1";

/// An Ethernet interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Name given by the kernel.
    pub(crate) name: String,
    /// Number given by the kernel.
    pub(crate) index: u32,
    pub(crate) mac: Mac,
    /// Whether a link is there. Always false on an interface that is switched off.
    pub(crate) carrier: bool,
    /// Whether there is hardware behind it, a virtual machine's included.
    pub(crate) physical: bool,
    /// Whether it is a VLAN's on another interface, with that one's address.
    pub(crate) vlan: bool,
}

/// The Ethernet interfaces, by name. `sys` is where sysfs is mounted. What cannot be read is left
/// out: an interface may go while it is looked at.
pub(crate) fn list(sys: &Path) -> Vec<Interface> {
    let Ok(entries) = fs::read_dir(sys.join("class/net")) else { return Vec::new() };
    let mut interfaces: Vec<_> = entries
        .flatten()
        .filter_map(|entry| read(&entry.path(), entry.file_name().to_str()?))
        .collect();
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    interfaces
}

/// The Ethernet interface with this name.
pub(super) fn find(sys: &Path, name: &str) -> Option<Interface> {
    read(&sys.join("class/net").join(name), name)
}

fn read(folder: &Path, name: &str) -> Option<Interface> {
    let value = |file: &str| {
        fs::read_to_string(folder.join(file)).ok().map(|text| text.trim_end().to_owned())
    };
    (value("type")? == ETHERNET).then_some(())?;
    Some(Interface {
        name: name.to_owned(),
        index: value("ifindex")?.parse().ok()?,
        mac: value("address")?.parse().ok()?,
        carrier: value("carrier").is_some_and(|carrier| carrier == "1"),
        physical: folder.join("device").exists(),
        vlan: value("uevent").is_some_and(|text| text.lines().any(|l| l == "DEVTYPE=vlan")),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Makes an interface in a tree that looks like sysfs.
    pub(crate) fn make(sys: &Path, name: &str, kind: &str, mac: &str, carrier: Option<&str>) {
        let folder = sys.join("class/net").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("type"), format!("{kind}\n")).unwrap();
        fs::write(folder.join("ifindex"), "7\n").unwrap();
        fs::write(folder.join("address"), format!("{mac}\n")).unwrap();
        if let Some(carrier) = carrier {
            fs::write(folder.join("carrier"), format!("{carrier}\n")).unwrap();
        }
    }

    #[test]
    fn ethernet_is_listed_with_what_is_behind_it() {
        let sys = tempfile::tempdir().unwrap();
        make(sys.path(), "lo", "772", "00:00:00:00:00:00", Some("1"));
        make(sys.path(), "ib0", "32", "80:00:00:00", Some("1"));
        make(sys.path(), "veth0", "1", "52:54:00:00:00:02", Some("1"));
        make(sys.path(), "eno1", "1", "52:54:00:00:00:01", None);
        fs::create_dir(sys.path().join("class/net/eno1/device")).unwrap();
        fs::write(sys.path().join("class/net/bonding_masters"), "").unwrap();
        make(sys.path(), "eno1.7", "1", "52:54:00:00:00:01", None);
        let uevent = "DEVTYPE=vlan\nINTERFACE=eno1.7\nIFINDEX=7\n";
        fs::write(sys.path().join("class/net/eno1.7/uevent"), uevent).unwrap();
        let found = list(sys.path());
        let brief: Vec<_> =
            found.iter().map(|i| (i.name.as_str(), i.carrier, i.physical, i.vlan)).collect();
        let expected = [
            ("eno1", false, true, false),
            ("eno1.7", false, false, true),
            ("veth0", true, false, false),
        ];
        assert_eq!(brief, expected);
        assert_eq!(find(sys.path(), "veth0").unwrap().index, 7);
        assert_eq!(find(sys.path(), "lo"), None, "no Ethernet");
    }

    #[test]
    fn without_sysfs_there_are_none() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(list(empty.path()), []);
    }
}
