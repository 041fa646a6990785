//! Names of PCI devices, from the `pci.ids` of the running system (<https://pci-ids.ucw.cz>).
//!
//! An initramfs commonly has none, and it would take a fifth of the agent's size to bring one.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Where distributions put the file, below `/usr/share`.
const PLACES: [&str; 2] = ["misc/pci.ids", "hwdata/pci.ids"];

/// The names of some devices.
#[derive(Debug, Default)]
pub(super) struct Names {
    vendors: HashMap<u16, String>,
    products: HashMap<(u16, u16), String>,
    classes: HashMap<u8, String>,
}

impl Names {
    /// The names of those vendors' products; none if no file is there.
    pub(super) fn of(share: &Path, wanted: &BTreeSet<(u16, u16)>) -> Self {
        let file = PLACES.iter().find_map(|place| File::open(share.join(place)).ok());
        file.map(|file| Self::parse(BufReader::new(file), wanted)).unwrap_or_default()
    }

    /// Lines are `1af4  Vendor`, below it `<tab>1000  Product` and `<tab><tab>` what is built from
    /// it; or `C 02  Class`, below it its subclasses.
    fn parse(file: impl BufRead, wanted: &BTreeSet<(u16, u16)>) -> Self {
        let mut names = Self::default();
        let mut current = None;
        // A file that cannot be read further has no more names.
        for line in file.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let Some((id, name)) = line.trim_end().split_once("  ") else { continue };
            let name = || name.trim_start().to_owned();
            if let Some(product) = id.strip_prefix('\t') {
                let ids = current.zip(u16::from_str_radix(product, 16).ok());
                if let Some(ids) = ids.filter(|ids| wanted.contains(ids)) {
                    names.products.insert(ids, name());
                }
            } else if let Some(class) = id.strip_prefix("C ") {
                current = None;
                if let Ok(class) = u8::from_str_radix(class, 16) {
                    names.classes.insert(class, name());
                }
            } else if let Ok(vendor) = u16::from_str_radix(id, 16) {
                current = Some(vendor);
                if wanted.range((vendor, 0)..=(vendor, u16::MAX)).next().is_some() {
                    names.vendors.insert(vendor, name());
                }
            }
        }
        names
    }

    pub(super) fn vendor(&self, vendor: u16) -> Option<String> {
        self.vendors.get(&vendor).cloned()
    }

    pub(super) fn product(&self, ids: (u16, u16)) -> Option<String> {
        self.products.get(&ids).cloned()
    }

    pub(super) fn class(&self, class: u8) -> Option<String> {
        self.classes.get(&class).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_vendor_and_nobody_elses() {
        let file = "# comment  with two spaces\n\
                    8086  Intel Corporation\n\
                    \t1521  I350 Gigabit Network Connection\n\
                    \t\t1028 0602  Gigabit 2P I350-t LOM\n\
                    \t1572  Ethernet Controller X710\n\
                    ffff  Illegal Vendor ID\n\
                    \t1521  Not Intel's\n\
                    C 02  Network controller\n\
                    \t00  Ethernet controller\n\
                    junk\n\n\
                    C zz  Nothing\n";
        let wanted = BTreeSet::from([(0x8086, 0x1521), (0x8086, 0x9999)]);
        let names = Names::parse(file.as_bytes(), &wanted);
        assert_eq!(names.vendor(0x8086).as_deref(), Some("Intel Corporation"));
        let product = names.product((0x8086, 0x1521));
        assert_eq!(product.as_deref(), Some("I350 Gigabit Network Connection"));
        assert_eq!(names.product((0x8086, 0x9999)), None);
        assert_eq!(names.class(2).as_deref(), Some("Network controller"));
        assert_eq!((names.vendors.len(), names.products.len(), names.classes.len()), (1, 1, 1));
    }
}
