//! What netdog refuses once it has read the whole file.

use std::collections::HashMap;

use ipnet::IpNet;
use semver::Version;

use super::MTU_REFUSED_BEFORE;
use super::findings::Findings;
use super::id::{InterfaceId, Name};
use super::model::{Bond, Device, Kind, Monitoring};
use super::read::{File, Located};

/// Most addresses that a bond asks by ARP (Linux `BOND_MAX_ARP_TARGETS`).
const MAX_ARP_TARGETS: usize = 16;

/// A device for which something is found is no longer sound.
pub(super) fn check(file: &mut File, target: Option<&Version>, findings: &mut Findings) {
    let mut taken = taken_names(file);
    for located in &mut file.devices {
        let before = findings.len();
        let Located { key, device, .. } = &*located;
        if !matches!(device.kind, Kind::Interface) && matches!(device.id, InterfaceId::Mac(_)) {
            findings
                .error(key, "a bond or a VLAN is made, so it is named, not found by an address");
        }
        if let Kind::Bond(bond) = &device.kind
            && located.is_sound
        {
            members(key, bond, &mut taken, findings);
            links(key, bond, findings);
        }
        if !located.has_unknown {
            addressing(file.version, key, device, findings);
        }
        mtu(key, device, target, findings);
        located.is_sound &= findings.len() == before;
    }
    primaries(file, findings);
}

/// The names that no bond may have as a member, and what they are.
fn taken_names(file: &File) -> HashMap<Name, String> {
    let mut taken = HashMap::new();
    for Located { key, device, .. } in &file.devices {
        if let Kind::Vlan(vlan) = &device.kind {
            taken.insert(vlan.device.clone(), format!("the device of the VLAN [{key}]"));
        }
    }
    for Located { key, device, .. } in &file.devices {
        if let InterfaceId::Name(name) = &device.id {
            taken.insert(name.clone(), format!("configured by [{key}]"));
        }
    }
    taken
}

fn members(key: &str, bond: &Bond, taken: &mut HashMap<Name, String>, findings: &mut Findings) {
    for (index, member) in bond.interfaces.iter().enumerate() {
        if let Some(what) = taken.insert(member.clone(), format!("a member of the bond [{key}]")) {
            let message = format!("{member} is {what}; a member of a bond can be nothing else");
            findings.error(&format!("{key}.interfaces[{index}]"), message);
        }
    }
}

fn links(key: &str, bond: &Bond, findings: &mut Findings) {
    let members = bond.interfaces.len();
    if members == 0 {
        findings.error(&format!("{key}.interfaces"), "is empty; a bond has 1 or more members");
    } else if bond.min_links.is_some_and(|least| least > members as u64) {
        let message = format!("is more than the bond's {members} members, so it never comes up");
        findings.error(&format!("{key}.min-links"), message);
    }
    let key = |name: &str| format!("{key}.monitoring.{name}");
    match &bond.monitoring {
        Monitoring::Mii { frequency_ms: 0, .. } => {
            let message = "0 turns monitoring off; expected 1 or more, or ARP monitoring instead";
            findings.error(&key("miimon-frequency-ms"), message);
        }
        &Monitoring::Mii { frequency_ms, updelay_ms, downdelay_ms } => {
            for (name, delay) in
                [("miimon-updelay-ms", updelay_ms), ("miimon-downdelay-ms", downdelay_ms)]
            {
                if delay < frequency_ms {
                    let message =
                        format!("{delay} is less than miimon-frequency-ms, {frequency_ms}");
                    findings.error(&key(name), message);
                }
            }
        }
        Monitoring::Arp { interval_ms, targets, .. } => {
            if *interval_ms == 0 {
                let message =
                    "0 turns monitoring off; expected 1 or more, or MII monitoring instead";
                findings.error(&key("arpmon-interval-ms"), message);
            }
            if !(1..=MAX_ARP_TARGETS).contains(&targets.len()) {
                let message = format!("expected 1 to 16 addresses, found {}", targets.len());
                findings.error(&key("arpmon-targets"), message);
            }
        }
    }
}

fn addressing(version: u8, key: &str, device: &Device, findings: &mut Findings) {
    let dhcp = device.dhcp4.is_some() || device.dhcp6.is_some();
    let fixed = device.static4.is_some() || device.static6.is_some();
    if !dhcp && !fixed {
        let (expected, otherwise) = match (version, &device.kind) {
            (1, _) => ("`dhcp4` or `dhcp6`", ""),
            (_, Kind::Interface) => ("one of `dhcp4`, `dhcp6`, `static4` and `static6`", ""),
            _ => (
                "one of `dhcp4`, `dhcp6`, `static4` and `static6`",
                "; dhcp4 = false does for a device without addresses of its own",
            ),
        };
        findings.error(key, format!("says nothing of addresses; expected {expected}{otherwise}"));
    }
    if dhcp && device.routes.is_some() {
        let message = "static routes are refused beside `dhcp4` or `dhcp6`, even if that is false";
        findings.error(&format!("{key}.route"), message);
    }
    for (name, list) in [("static4", &device.static4), ("static6", &device.static6)] {
        let list = list.as_deref().unwrap_or_default();
        if list.iter().any(is_ipv4) && !list.iter().all(is_ipv4) {
            let message = "has both IPv4 and IPv6 addresses; one list takes one family";
            findings.error(&format!("{key}.{name}.addresses"), message);
        }
    }
}

fn is_ipv4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

fn mtu(key: &str, device: &Device, target: Option<&Version>, findings: &mut Findings) {
    if let (Some(_), Some(target)) = (device.mtu, target)
        && *target < MTU_REFUSED_BEFORE
    {
        let message = format!("Bottlerocket {target} refuses the whole file for it; remove it");
        findings.error(&format!("{key}.mtu"), message);
    }
}

fn primaries(file: &File, findings: &mut Findings) {
    let mut primaries = file.devices.iter().filter(|it| it.device.primary == Some(true));
    let Some(first) = primaries.next() else { return };
    for second in primaries {
        let message = format!("[{}] is the primary device already; expected one", first.key);
        findings.error(&format!("{}.primary", second.key), message);
    }
}
