//! PCI devices, and those of them that a graphics driver runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nibs_actions::Machine;
use nibs_job::inventory::PciDevice;

use super::pci_ids::Names;
use super::{names, or_unknown, text};

/// The numbers by which a device says what it is; absent where the kernel shows none.
#[derive(Debug, Clone, Copy)]
struct Ids {
    vendor: Option<u16>,
    product: Option<u16>,
    /// The base class.
    class: Option<u8>,
}

/// All devices by address, and the graphics cards.
pub(super) fn devices(machine: &Machine) -> (Vec<PciDevice>, Vec<PciDevice>) {
    let directory = machine.sysfs.join("bus/pci/devices");
    let found: Vec<(String, Ids)> = names(&directory)
        .into_iter()
        .map(|address| {
            let ids = Ids::of(&directory.join(&address));
            (address, ids)
        })
        .collect();
    let wanted = found.iter().filter_map(|(_, ids)| Some((ids.vendor?, ids.product?))).collect();
    let names = Names::of(&machine.share, &wanted);
    let devices: BTreeMap<String, PciDevice> = found
        .into_iter()
        .map(|(address, ids)| {
            let device = device(&directory.join(&address), ids, &names);
            (address, device)
        })
        .collect();
    let cards = cards(&machine.sysfs, &devices);
    (devices.into_values().collect(), cards)
}

impl Ids {
    fn of(device: &Path) -> Self {
        let hexadecimal = |file: &str| {
            let text = text(&device.join(file))?;
            u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
        };
        let id = |file: &str| hexadecimal(file)?.try_into().ok();
        Self {
            vendor: id("vendor"),
            product: id("device"),
            // Base class, subclass and programming interface are a byte each.
            class: hexadecimal("class").and_then(|class| (class >> 16).try_into().ok()),
        }
    }
}

fn device(directory: &Path, ids: Ids, names: &Names) -> PciDevice {
    let Ids { vendor, product, class } = ids;
    let both = vendor.zip(product);
    let number = |number: Option<u16>| number.map(|number| format!("{number:#06x}"));
    let driver = fs::read_link(directory.join("driver")).ok();
    PciDevice {
        vendor: or_unknown(vendor.and_then(|id| names.vendor(id)).or_else(|| number(vendor))),
        product: or_unknown(both.and_then(|ids| names.product(ids)).or_else(|| number(product))),
        class: or_unknown(
            class.and_then(|id| names.class(id)).or_else(|| class.map(|id| format!("{id:#04x}"))),
        ),
        driver: driver.and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned())),
    }
}

/// `/sys/class/drm` has a link for each card, and others for its sockets, such as `card0-DP-1`. The
/// last PCI device on the way to it is the card: a virtual one has another bus in between.
fn cards(sys: &Path, devices: &BTreeMap<String, PciDevice>) -> Vec<PciDevice> {
    let directory = sys.join("class/drm");
    super::numbered(&directory, "card")
        .into_iter()
        .filter_map(|number| fs::read_link(directory.join(format!("card{number}"))).ok())
        .filter_map(|link| link.iter().rev().find_map(|name| devices.get(name.to_str()?)).cloned())
        .collect()
}
