use std::os::unix::fs::symlink;

use super::*;

/// A sysfs with cards in it.
struct Sysfs(tempfile::TempDir);

impl Sysfs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A PCI device, by its path below `devices`.
    fn pci(&self, path: &str, attributes: &[(&str, &str)]) {
        self.device(path, "pci");
        for (file, content) in attributes {
            self.write(&format!("devices/{path}/{file}"), &format!("{content}\n"));
        }
    }

    fn device(&self, path: &str, subsystem: &str) {
        let directory = self.0.path().join("devices").join(path);
        fs::create_dir_all(&directory).unwrap();
        symlink(format!("/sys/bus/{subsystem}"), directory.join("subsystem")).unwrap();
    }

    /// The card `eth0` on a device.
    fn card(&self, path: &str, attributes: &[(&str, &str)]) {
        let all = [("type", "1"), ("address", "52:54:00:AB:00:01")];
        for (file, content) in all.iter().chain(attributes) {
            self.write(&format!("class/net/eth0/{file}"), &format!("{content}\n"));
        }
        let device = self.0.path().join("devices").join(path);
        symlink(device, self.0.path().join("class/net/eth0/device")).unwrap();
    }

    fn slot(&self, number: &str, address: &str) {
        self.write(&format!("bus/pci/slots/{number}/address"), &format!("{address}\n"));
    }

    fn name(&self) -> Result<String, String> {
        let [card] = &cards(self.0.path())[..] else { panic!("expected one card") };
        assert_eq!((&*card.here, card.mac.as_str()), ("eth0", "52:54:00:ab:00:01"));
        card.name.clone().map_err(|error| error.to_string())
    }
}

fn multifunction(sysfs: &Sysfs, path: &str) {
    let mut config = vec![0; 64];
    config[HEADER_TYPE] = MULTIFUNCTION;
    fs::write(sysfs.0.path().join("devices").join(path).join("config"), config).unwrap();
}

#[test]
fn a_card_is_named_by_the_first_that_is_known_of_its_place() {
    let named = |device: &[(&str, &str)], card: &[(&str, &str)], slot: Option<&str>| {
        let sysfs = Sysfs::new();
        sysfs.pci("pci0000:00/0000:03:00.0", device);
        sysfs.card("pci0000:00/0000:03:00.0", card);
        if let Some(number) = slot {
            sysfs.slot(number, "0000:03:00");
        }
        sysfs.name().unwrap()
    };
    assert_eq!(named(&[], &[], None), "enp3s0");
    assert_eq!(named(&[], &[("phys_port_name", "p1")], None), "enp3s0np1");
    assert_eq!(named(&[], &[("dev_port", "1")], None), "enp3s0d1");
    assert_eq!(named(&[], &[("dev_port", "0")], None), "enp3s0");
    assert_eq!(named(&[], &[], Some("4")), "ens4");
    assert_eq!(named(&[], &[], Some("0")), "enp3s0", "no slot has that number");
    assert_eq!(named(&[], &[], Some("x4")), "enp3s0");
    assert_eq!(named(&[("index", "2")], &[], Some("4")), "eno2");
    assert_eq!(named(&[("index", "2"), ("acpi_index", "1")], &[], None), "eno1");
    assert_eq!(named(&[("acpi_index", "16777215")], &[], None), "enp3s0");
    assert_eq!(named(&[("index", "2")], &[("name_assign_type", "2")], None), "eth0");
}

#[test]
fn domains_functions_and_ari_are_in_the_name() {
    let named = |address: &str, more: &dyn Fn(&Sysfs, &str)| {
        let sysfs = Sysfs::new();
        let path = format!("pci0000:00/{address}");
        sysfs.pci(&path, &[]);
        sysfs.card(&path, &[]);
        more(&sysfs, &path);
        sysfs.name().unwrap()
    };
    assert_eq!(named("0000:1b:00.1", &|_, _| ()), "enp27s0f1");
    assert_eq!(named("0000:1b:00.0", &multifunction), "enp27s0f0");
    assert_eq!(named("10000:01:02.0", &|_, _| ()), "enP65536p1s2");
    let ari = |sysfs: &Sysfs, path: &str| {
        sysfs.write(&format!("devices/{path}/ari_enabled"), "1\n");
    };
    assert_eq!(named("0000:01:01.2", &ari), "enp1s1f10");
}

#[test]
fn virtio_does_not_count() {
    let sysfs = Sysfs::new();
    sysfs.pci("pci0000:00/0000:00:03.0", &[]);
    sysfs.device("pci0000:00/0000:00:03.0/virtio0", "virtio");
    sysfs.card("pci0000:00/0000:00:03.0/virtio0", &[]);
    assert_eq!(sysfs.name().unwrap(), "enp0s3");
}

#[test]
fn the_slot_of_a_bridge_counts_for_some_releases_and_some_cards() {
    let behind_bridge = |is_multifunction: bool| {
        let sysfs = Sysfs::new();
        let path = "pci0000:00/0000:00:1c.0/0000:02:00.0";
        sysfs.pci("pci0000:00/0000:00:1c.0", &[("class", "0x060400")]);
        sysfs.pci(path, &[]);
        sysfs.card(path, &[]);
        sysfs.slot("7", "0000:00:1c");
        if is_multifunction {
            multifunction(&sysfs, path);
        }
        sysfs.name()
    };
    assert_eq!(behind_bridge(false).unwrap(), "enp2s0");
    let error = behind_bridge(true).unwrap_err();
    assert_eq!(error, "it depends on the release of systemd: ens7f0 or enp2s0f0");
}

#[test]
fn a_slot_that_only_acpi_knows_is_not_guessed_at() {
    let sysfs = Sysfs::new();
    let path = "pci0000:00/0000:02:00.0";
    sysfs.pci(path, &[("firmware_node/sun", "5")]);
    sysfs.card(path, &[]);
    assert!(sysfs.name().unwrap_err().contains("enp2s0 or ens5"));
}

#[test]
fn what_is_on_no_pci_bus_is_not_named() {
    let sysfs = Sysfs::new();
    sysfs.device("platform/eth", "platform");
    sysfs.card("platform/eth", &[]);
    assert_eq!(sysfs.name().unwrap_err(), "it is not on a PCI bus");
    let sysfs = Sysfs::new();
    sysfs.pci("pci0000:00/0000:02:10.0", &[("physfn/vendor", "0x8086")]);
    sysfs.card("pci0000:00/0000:02:10.0", &[]);
    assert!(sysfs.name().unwrap_err().contains("virtual function"));
}

#[test]
fn what_is_made_by_software_is_no_card() {
    let sysfs = Sysfs::new();
    sysfs.write("class/net/lo/type", "772\n");
    sysfs.write("class/net/br0/type", "1\n");
    assert_eq!(cards(sysfs.0.path()), []);
}
