//! What netdog takes although it cannot work, or not as it reads.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use semver::Version;

use super::MTU_REFUSED_BEFORE;
use super::findings::Findings;
use super::id::{InterfaceId, Mac, Name};
use super::model::{Bond, Destination, Device, Dhcp4, Dhcp6, Kind, Monitoring, Route, Vlan};
use super::read::{File, Located};

/// Above this a bond's timer makes no sense as a number of seconds.
const MOST_SECONDS: u32 = 10;

/// Sizes of packet that Ethernet devices of Linux take (`ETH_MIN_MTU`, `ETH_MAX_MTU`).
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;

/// The least that IPv6 works with (RFC 8200, 5).
const MIN_IPV6_MTU: u32 = 1280;

/// How the names of devices begin that only software makes.
const MADE_BY_SOFTWARE: [&str; 4] = ["bond", "vlan", "team", "br"];

pub(super) fn check(file: &File, target: Option<&Version>, findings: &mut Findings) {
    if file.devices.is_empty() && findings.len() == 0 {
        findings.warning("version", "the file has no devices, so no network is configured");
    }
    let vlan_devices: HashSet<&Name> = vlans(file).map(|(_, vlan)| &vlan.device).collect();
    for located in file.devices.iter().filter(|located| located.is_sound) {
        let Located { key, device, replaces, .. } = located;
        identity(key, device, replaces.as_deref(), findings);
        let carries_vlan = match &device.id {
            InterfaceId::Name(name) => vlan_devices.contains(name),
            InterfaceId::Mac(_) => false,
        };
        dhcp(key, device, carries_vlan, findings);
        addresses(key, device, findings);
        for (index, route) in device.routes.iter().flatten().enumerate() {
            self::route(&format!("{key}.route[{index}]"), route, device, findings);
        }
        mtu(key, device, target, findings);
        if let Kind::Bond(bond) = &device.kind {
            self::bond(key, bond, findings);
        }
    }
    across(file, findings);
    primary(file, findings);
}

fn vlans(file: &File) -> impl Iterator<Item = (&Located, &Vlan)> {
    file.devices.iter().filter_map(|located| match &located.device.kind {
        Kind::Vlan(vlan) if located.is_sound => Some((located, vlan)),
        _ => None,
    })
}

fn identity(key: &str, device: &Device, replaces: Option<&str>, findings: &mut Findings) {
    match &device.id {
        InterfaceId::Name(own) => name(key, own, findings),
        InterfaceId::Mac(mac) if !mac.is_sound() => {
            let message = "netdog reads \"+1\" as a number, but no card has such an address";
            findings.warning(key, message);
        }
        InterfaceId::Mac(_) => {}
    }
    if let Some(other) = replaces {
        let message = format!("is the same address as [{other}], all of which is dropped for it");
        findings.warning(key, message);
    }
}

fn name(key: &str, name: &Name, findings: &mut Findings) {
    let text = name.as_str();
    if Mac::without_separators(text) {
        let message = "is taken for a name; a MAC address is written with `:` or `-`";
        findings.warning(key, message);
    } else if text.contains(':') {
        findings.warning(key, "the kernel allows no `:` in a name, so no interface has this one");
    } else if text.contains(['*', '?', '[', ']', '!']) {
        let message = "networkd takes this for a pattern, which matches other interfaces or none";
        findings.warning(key, message);
    } else if text.contains('%') {
        findings.warning(key, "the kernel takes `%` in a name for a place to put a number");
    } else if !text.is_ascii() {
        let message = "a name beyond ASCII is nothing that udev gives to an interface";
        findings.warning(key, message);
    }
}

fn dhcp(key: &str, device: &Device, carries_vlan: bool, findings: &mut Findings) {
    let without = "is required to be online although DHCP is off; write false instead of a table";
    if let Some(Dhcp4::Options { enabled: false, optional: None | Some(false), .. }) = device.dhcp4
    {
        findings.warning(&format!("{key}.dhcp4"), format!("the link {without}"));
    }
    if let Some(Dhcp6::Options { enabled: false, optional: None | Some(false) }) = device.dhcp6 {
        findings.warning(&format!("{key}.dhcp6"), format!("the link {without}"));
    }
    let leased =
        device.dhcp4.is_some_and(Dhcp4::enabled) || device.dhcp6.is_some_and(Dhcp6::enabled);
    let fixed = device.static4.is_some() || device.static6.is_some();
    if !leased && !fixed && !carries_vlan {
        findings.warning(key, "DHCP is off and nothing else is said, so it gets no address");
    }
}

fn addresses(key: &str, device: &Device, findings: &mut Findings) {
    let lists = [
        ("static4", "IPv6", "static6", &device.static4),
        ("static6", "IPv4", "static4", &device.static6),
    ];
    for (own, other_family, other, list) in lists {
        let Some(list) = list else { continue };
        let key = format!("{key}.{own}.addresses");
        let is_other = |net: &IpNet| matches!(net, IpNet::V4(_)) == (other_family == "IPv4");
        match list.first() {
            None => findings.warning(&key, "is empty, so it sets no address"),
            Some(first) if is_other(first) => {
                let message = format!(
                    "netdog sets these {other_family} addresses all the same; \
                                       they belong in `{other}`"
                );
                findings.warning(&key, message);
            }
            Some(first) => {
                if let Some(lowest) = list.iter().min().filter(|lowest| *lowest < first) {
                    let message =
                        format!("netdog sorts them, so {lowest} comes first, not {first}");
                    findings.warning(&key, message);
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = device.addresses().find(|net| !seen.insert(*net)) {
        findings.warning(key, format!("has the address {twice} twice"));
    }
}

fn route(key: &str, route: &Route, device: &Device, findings: &mut Findings) {
    let Route { to, from, via, .. } = route;
    let family = match to {
        Destination::Net(net) => Some(net.addr().is_ipv4()),
        Destination::Default => via.or(*from).map(|address| address.is_ipv4()),
    };
    for (name, address) in [("via", via), ("from", from)] {
        if let (Some(address), Some(family)) = (address, family)
            && address.is_ipv4() != family
        {
            let message = format!("{address} is of another family than the route");
            findings.warning(&format!("{key}.{name}"), message);
            return;
        }
    }
    if *to == Destination::Default && via.is_none() {
        let message = "a default route without `via` has no gateway, so it leads to the link only";
        findings.warning(key, message);
    }
    if let Some(via) = via
        && !reaches(device, *via)
    {
        let message = format!(
            "no address of the device has the gateway {via} in its network, so the kernel refuses \
             the route"
        );
        findings.warning(&format!("{key}.via"), message);
    }
    if let Some(from) = from
        && !device.addresses().any(|net| net.addr() == *from)
    {
        let message =
            format!("{from} is no address of the device, so the kernel refuses the route");
        findings.warning(&format!("{key}.from"), message);
    }
}

/// Whether an address is on the device's link: in a network of its own, link-local, or at the end
/// of a route without a gateway.
fn reaches(device: &Device, address: IpAddr) -> bool {
    let on_link = |route: &Route| match route {
        Route { to: Destination::Net(net), via: None, .. } => net.contains(&address),
        _ => false,
    };
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    link_local
        || device.addresses().any(|net| net.contains(&address))
        || device.routes.iter().flatten().any(on_link)
}

fn mtu(key: &str, device: &Device, target: Option<&Version>, findings: &mut Findings) {
    let Some(mtu) = device.mtu else { return };
    let key = format!("{key}.mtu");
    if target.is_none_or(|target| *target >= MTU_REFUSED_BEFORE) {
        let message = format!(
            "every Bottlerocket before {MTU_REFUSED_BEFORE} refuses the whole file for this key; \
             be sure that yours knows it"
        );
        findings.warning(&key, message);
    }
    let ipv6 = device.dhcp6.is_some_and(Dhcp6::enabled)
        || device.addresses().any(|net| matches!(net, IpNet::V6(_)));
    if !MTU.contains(&mtu) {
        let message = format!("the kernel takes {} to {}, found {mtu}", MTU.start(), MTU.end());
        findings.warning(&key, message);
    } else if ipv6 && mtu < MIN_IPV6_MTU {
        let message = format!("IPv6 needs packets of {MIN_IPV6_MTU} bytes, found {mtu}");
        findings.warning(&key, message);
    }
}

fn bond(key: &str, bond: &Bond, findings: &mut Findings) {
    for (index, member) in bond.interfaces.iter().enumerate() {
        name(&format!("{key}.interfaces[{index}]"), member, findings);
    }
    if bond.min_links == Some(0) {
        findings
            .warning(&format!("{key}.min-links"), "0 asks for no links, as if it were not said");
    }
    let monitoring = format!("{key}.monitoring");
    let longest = match &bond.monitoring {
        Monitoring::Mii { frequency_ms, updelay_ms, downdelay_ms } => {
            for (name, delay) in [("updelay", updelay_ms), ("downdelay", downdelay_ms)] {
                if delay.checked_rem(*frequency_ms).is_some_and(|rest| rest != 0) {
                    let message = format!(
                        "the kernel rounds {delay} down to a multiple of miimon-frequency-ms, \
                         {frequency_ms}"
                    );
                    findings.warning(&format!("{monitoring}.miimon-{name}-ms"), message);
                }
            }
            *frequency_ms.max(updelay_ms).max(downdelay_ms)
        }
        Monitoring::Arp { interval_ms, targets, .. } => {
            for (index, target) in targets.iter().enumerate().filter(|(_, it)| it.is_ipv6()) {
                let message = format!("{target} is IPv6, and ARP asks for IPv4 addresses only");
                findings.warning(&format!("{monitoring}.arpmon-targets[{index}]"), message);
            }
            *interval_ms
        }
    };
    if longest > MOST_SECONDS {
        let message = format!(
            "netdog (seen in core kit 3.1.1) hands these numbers to systemd without their unit, \
             and systemd reads seconds: {longest} ms becomes {longest} s, and a link takes as long \
             to be used; numbers up to {MOST_SECONDS} do in both units"
        );
        findings.warning(&monitoring, message);
    }
}

/// What more than one device has to do with.
fn across(file: &File, findings: &mut Findings) {
    let name_of = |located: &Located| match &located.device.id {
        InterfaceId::Name(name) => Some(name.clone()),
        InterfaceId::Mac(_) => None,
    };
    let defined: HashSet<Name> = file.devices.iter().filter_map(name_of).collect();
    let mut tags: HashMap<(&Name, u16), &str> = HashMap::new();
    for (located, vlan) in vlans(file) {
        let Located { key, .. } = located;
        let device_key = format!("{key}.device");
        name(&device_key, &vlan.device, findings);
        if name_of(located).as_ref() == Some(&vlan.device) {
            findings.warning(&device_key, "is the VLAN itself, which cannot carry itself");
        } else if !defined.contains(&vlan.device)
            && MADE_BY_SOFTWARE.iter().any(|start| vlan.device.as_str().starts_with(start))
        {
            let message = format!(
                "no [{}] in this file makes that device (a network card needs no table)",
                vlan.device
            );
            findings.warning(&device_key, message);
        }
        if vlan.id == 0 {
            let message = "0 is no VLAN: it marks packets that have a priority only";
            findings.warning(&format!("{key}.id"), message);
        }
        if let Some(other) = tags.insert((&vlan.device, vlan.id), key) {
            let message = format!("[{other}] has the same id on {} already", vlan.device);
            findings.warning(&format!("{key}.id"), message);
        }
    }
}

/// netdog asks for the primary device by its name in lower case.
fn primary(file: &File, findings: &mut Findings) {
    let said = file.devices.iter().find(|it| it.device.primary == Some(true));
    let Some(primary) = said.or_else(|| file.devices.first()) else { return };
    if let InterfaceId::Name(name) = &primary.device.id
        && primary.is_sound
        && name.as_str().to_lowercase() != name.as_str()
    {
        let why = if said.is_some() { "says so" } else { "is the first" };
        let message = format!(
            "is the primary device, because it {why}, and netdog looks for that in lower case: \
             it finds no {}",
            name.as_str().to_lowercase()
        );
        findings.warning(&primary.key, message);
    }
}
