//! What udev of the installed system will call a network card.
//!
//! This system's own name for it may be another: without udev it is the kernel's (`eth0`). A name
//! follows from where the card is, in the order of systemd's `99-default.link`: one that the kernel
//! itself vouches for, the number that firmware gives an onboard card (`eno1`), the slot it is in
//! (`ens3`), its place on the PCI bus (`enp1s0f1`). Releases differ on which slot counts; where
//! they do not agree on a card, nothing is guessed.
//!
//! Source: systemd.net-naming-scheme(7), schemes v252 to v257, and systemd.link(5).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nibs_bottlerocket::net_toml::Mac;

/// `NET_NAME_PREDICTABLE` of linux/netdevice.h: the kernel's own name will not change.
const KERNEL_PREDICTABLE: &str = "2";

/// `ARPHRD_ETHER` of linux/if_arp.h.
const ETHERNET: &str = "1";

/// Highest number of an onboard card that is believed.
const MAX_ONBOARD: u32 = 65_535;

/// Longest name of an interface (`IFNAMSIZ`, less its NUL).
const MAX_NAME: usize = 15;

/// Where a PCI device's configuration says that it has several functions, and the bit for it.
const HEADER_TYPE: usize = 14;
const MULTIFUNCTION: u8 = 0x80;

/// A network card of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    /// What it is called here.
    pub(super) here: String,
    /// Its address, in the spelling of [`Mac`].
    pub(super) mac: Mac,
    /// What the installed system will call it.
    pub(super) name: Result<String, Unnamed>,
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { here, mac, name } = self;
        match name {
            Ok(name) => write!(f, "{mac} ({name}; {here} here)"),
            Err(_) => write!(f, "{mac} ({here} here)"),
        }
    }
}

/// Why a card's name in the installed system is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unnamed {
    /// It is no PCI device.
    #[error("it is not on a PCI bus")]
    NotPci,
    /// It is a part of a card that was made by software.
    #[error("it is a virtual function of another card")]
    VirtualFunction,
    /// Releases of systemd do not agree.
    #[error("it depends on the release of systemd: {}", names.join(" or "))]
    Disputed {
        /// The names.
        names: Vec<String>,
    },
    /// The name is too long for the kernel.
    #[error("{name} would be longer than the {MAX_NAME} characters that the kernel takes")]
    TooLong {
        /// The name.
        name: String,
    },
}

/// The Ethernet cards of a machine, by their names here.
pub(super) fn cards(sysfs: &Path) -> Vec<Card> {
    let Ok(entries) = fs::read_dir(sysfs.join("class/net")) else { return Vec::new() };
    let card = |interface: PathBuf| {
        // What is made by software, such as a bridge, has no device behind it.
        let device = interface.join("device").canonicalize().ok()?;
        if attribute(&interface, "type")? != ETHERNET {
            return None;
        }
        let mac = attribute(&interface, "address")?.parse().ok()?;
        let here = interface.file_name()?.to_str()?.to_owned();
        let name = name(sysfs, &interface, &device);
        Some(Card { here, mac, name })
    };
    let mut cards: Vec<Card> = entries.filter_map(|entry| card(entry.ok()?.path())).collect();
    cards.sort_by(|a, b| a.here.cmp(&b.here));
    cards
}

fn name(sysfs: &Path, interface: &Path, device: &Path) -> Result<String, Unnamed> {
    if attribute(interface, "name_assign_type").as_deref() == Some(KERNEL_PREDICTABLE) {
        let name = interface.file_name().unwrap_or_default();
        return Ok(name.to_string_lossy().into_owned());
    }
    // What virtio puts between a card and its PCI device does not count.
    let device = match subsystem(device).as_deref() {
        Some("virtio") => device.parent().unwrap_or(device),
        _ => device,
    };
    let place = Place::of(device).ok_or(Unnamed::NotPci)?;
    if device.join("physfn").exists() {
        return Err(Unnamed::VirtualFunction);
    }
    let port = port(interface);
    if let Some(index) = onboard(device) {
        return checked(format!("eno{index}{port}"));
    }
    let mut names: Vec<String> = Vec::new();
    for scheme in Scheme::ALL {
        let name = match slot(sysfs, device, place.is_multifunction, scheme) {
            Some(slot) => format!("en{}s{slot}{}{port}", place.domain(), place.function()),
            None => {
                let Place { bus, slot, .. } = place;
                format!("en{}p{bus}s{slot}{}{port}", place.domain(), place.function())
            }
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match names.len() {
        1 => checked(names.remove(0)),
        _ => Err(Unnamed::Disputed { names }),
    }
}

fn checked(name: String) -> Result<String, Unnamed> {
    if name.len() > MAX_NAME { Err(Unnamed::TooLong { name }) } else { Ok(name) }
}

/// What differs between releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    /// The slot of a bridge counts for the functions of a card behind it.
    V252,
    /// It never does.
    V255,
    /// Nor then, and the slot is what ACPI says before what the hotplug driver says.
    V257,
}

impl Scheme {
    const ALL: [Self; 3] = [Self::V252, Self::V255, Self::V257];
}

/// Where a device is on the PCI bus.
#[derive(Debug, Clone, Copy)]
struct Place {
    domain: u32,
    bus: u32,
    slot: u32,
    function: u32,
    is_multifunction: bool,
}

impl Place {
    fn of(device: &Path) -> Option<Self> {
        if subsystem(device)? != "pci" {
            return None;
        }
        let address = device.file_name()?.to_str()?;
        let (rest, function) = address.rsplit_once('.')?;
        let mut parts = rest.split(':').map(|part| u32::from_str_radix(part, 16).ok());
        let (domain, bus, slot) = (parts.next()??, parts.next()??, parts.next()??);
        let mut function: u32 = function.parse().ok()?;
        // Such a card takes the slot's five bits for more functions.
        if attribute(device, "ari_enabled").as_deref() == Some("1") {
            function += slot * 8;
        }
        let config = fs::read(device.join("config")).unwrap_or_default();
        let is_multifunction =
            config.get(HEADER_TYPE).is_some_and(|header| header & MULTIFUNCTION != 0);
        Some(Self { domain, bus, slot, function, is_multifunction })
    }

    fn domain(&self) -> String {
        if self.domain > 0 { format!("P{}", self.domain) } else { String::new() }
    }

    fn function(&self) -> String {
        match self.function > 0 || self.is_multifunction {
            true => format!("f{}", self.function),
            false => String::new(),
        }
    }
}

/// The number that firmware gives a card that is a part of the board.
fn onboard(device: &Path) -> Option<u32> {
    // ACPI goes before SMBIOS.
    let index = attribute(device, "acpi_index").or_else(|| attribute(device, "index"))?;
    index.parse().ok().filter(|index| *index <= MAX_ONBOARD)
}

/// Which of several ports of one PCI function a card is.
fn port(interface: &Path) -> String {
    if let Some(name) = attribute(interface, "phys_port_name") {
        return format!("n{name}");
    }
    match attribute(interface, "dev_port").and_then(|port| port.parse::<u32>().ok()) {
        Some(port @ 1..) => format!("d{port}"),
        _ => String::new(),
    }
}

/// The slot that a device, or the nearest bridge before it, is in.
fn slot(sysfs: &Path, device: &Path, is_multifunction: bool, scheme: Scheme) -> Option<u32> {
    let mut at = device;
    while subsystem(at).as_deref() == Some("pci") {
        let by_acpi = || attribute(at, "firmware_node/sun")?.parse().ok().filter(|sun| *sun > 0);
        let found = match scheme {
            Scheme::V257 => by_acpi().or_else(|| hotplug_slot(sysfs, at)),
            Scheme::V252 | Scheme::V255 => hotplug_slot(sysfs, at),
        };
        if let Some(slot) = found {
            let counts = !is_bridge(at) || (scheme == Scheme::V252 && is_multifunction);
            return counts.then_some(slot);
        }
        at = at.parent()?;
    }
    None
}

/// The number of the slot that the hotplug driver has at a device's address.
fn hotplug_slot(sysfs: &Path, device: &Path) -> Option<u32> {
    let address = device.file_name()?.to_str()?;
    let slots = fs::read_dir(sysfs.join("bus/pci/slots")).ok()?;
    let number = |entry: fs::DirEntry| -> Option<u32> {
        let number = entry.file_name().to_str()?.parse().ok().filter(|number| *number > 0)?;
        // Without the function: a slot is one for all of a card's.
        let of_slot = attribute(&entry.path(), "address")?;
        address.starts_with(&of_slot).then_some(number)
    };
    slots.filter_map(|entry| number(entry.ok()?)).next()
}

/// Whether it is a bridge from PCI to PCI, by its class.
fn is_bridge(device: &Path) -> bool {
    attribute(device, "class").is_some_and(|class| class.starts_with("0x0604"))
}

fn subsystem(device: &Path) -> Option<String> {
    let link = fs::read_link(device.join("subsystem")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

fn attribute(directory: &Path, file: &str) -> Option<String> {
    let text = fs::read_to_string(directory.join(file)).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
