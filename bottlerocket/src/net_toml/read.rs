//! From a TOML table to the model: what netdog's decoder takes and refuses.
//!
//! After a finding reading goes on with a stand-in, so that one mistake is told once and the next
//! one as well. The model is dropped then.

mod addressing;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use toml::de::DeTable;

use super::fields::{Fields, Value};
use super::findings::{Findings, choice, did_you_mean, quoted};
use super::id::{InterfaceId, Mac, Name};
use super::model::{ArpValidate, Bond, Device, Kind, Monitoring, NetToml, Vlan};
use addressing::{addresses, dhcp4, dhcp6, routes};

/// The schema's newest version. It has all keys of the others.
const NEWEST: u8 = 3;

/// Keys of a device by the version that brought them.
const KEYS_1: &[&str] = &["primary", "dhcp4", "dhcp6"];
const KEYS_2: &[&str] = &["primary", "dhcp4", "dhcp6", "static4", "static6", "route", "mtu"];
const BOND_ONLY: &[&str] = &["mode", "interfaces", "min-links", "monitoring"];
const VLAN_ONLY: &[&str] = &["device", "id"];
const KIND: &str = "kind";
const VERSION: &str = "version";

const MII_KEYS: &[&str] = &["miimon-frequency-ms", "miimon-updelay-ms", "miimon-downdelay-ms"];
const ARP_KEYS: &[&str] = &["arpmon-interval-ms", "arpmon-validate", "arpmon-targets"];

const BOND_WORDS: &[&str] = &["bond", "Bond"];
const VLAN_WORDS: &[&str] = &["vlan", "Vlan", "VLAN"];

/// Largest VLAN tag; 4095 is reserved (IEEE 802.1Q, 9.6).
const MAX_VLAN_ID: u16 = 4094;

const NAME: &str = "the name of an interface as udev gives it, no MAC address";
const NUMBER: &str = "an integer from 0 to 4294967295";
const ADDRESS: &str = "an IP address without a prefix";

/// What the file says, with what is needed to complain about it.
pub(super) struct File {
    pub(super) version: u8,
    pub(super) devices: Vec<Located>,
}

impl File {
    pub(super) fn into_model(self) -> NetToml {
        let devices = self.devices.into_iter().map(|located| located.device).collect();
        NetToml { version: self.version, devices }
    }
}

/// A device and how the file writes its key.
pub(super) struct Located {
    pub(super) key: String,
    pub(super) device: Device,
    /// An earlier key of the same MAC address, which this one replaces.
    pub(super) replaces: Option<String>,
    /// It has keys that are refused, so what it lacks may be in them.
    pub(super) has_unknown: bool,
    /// Nothing in it was refused.
    pub(super) is_sound: bool,
}

pub(super) fn file<'a>(table: &'a DeTable<'a>, findings: &mut Findings) -> File {
    let version = version(table, findings);
    let mut tables: Vec<_> = table.iter().filter(|(key, _)| key.get_ref() != VERSION).collect();
    tables.sort_by_key(|(key, _)| key.span().start);
    let mut devices: Vec<Located> = Vec::with_capacity(tables.len());
    let mut macs: HashMap<InterfaceId, usize> = HashMap::new();
    for (key, value) in tables {
        let name = quoted(key.get_ref());
        let before = findings.len();
        let id = id(key.get_ref(), key.span().start, version, findings);
        let value = Value::new(name, value, findings);
        let Some(fields) = value.table("a table with the device's keys", findings) else {
            continue;
        };
        findings.place(&fields.key, key.span().start);
        let located = device(id, &fields, version, before, findings);
        // As in netdog's map, the later one takes the place of the earlier.
        match macs.entry(located.device.id.clone()) {
            Entry::Occupied(index) => {
                let other = &mut devices[*index.get()];
                let replaces = Some(std::mem::take(&mut other.key));
                *other = Located { replaces, ..located };
                continue;
            }
            Entry::Vacant(entry) if matches!(entry.key(), InterfaceId::Mac(_)) => {
                entry.insert(devices.len());
            }
            Entry::Vacant(_) => {}
        }
        devices.push(located);
    }
    File { version, devices }
}

fn version(table: &DeTable<'_>, findings: &mut Findings) -> u8 {
    const EXPECTED: &str = "1, 2 or 3";
    let Some(value) = table.get(VERSION) else {
        let message = format!("is missing; expected {EXPECTED}, before the first table");
        findings.error_at(0, VERSION, message);
        return NEWEST;
    };
    let value = Value::new(VERSION.to_owned(), value, findings);
    match value.integer::<u8>(EXPECTED, findings) {
        Some(version @ 1..=NEWEST) => version,
        Some(_) => {
            value.refuse(EXPECTED, findings);
            NEWEST
        }
        None => NEWEST,
    }
}

/// The device's name, or a stand-in.
fn id(key: &str, offset: usize, version: u8, findings: &mut Findings) -> InterfaceId {
    if let Ok(mac) = key.parse::<Mac>() {
        if version < NEWEST {
            let message =
                format!("a MAC address as a key needs version 3, the file says {version}");
            findings.error_at(offset, &quoted(key), message);
        }
        return mac.into();
    }
    match key.parse::<Name>() {
        Ok(name) => name.into(),
        Err(error) => {
            let or_mac = if version < NEWEST { "" } else { " or a MAC address" };
            let message = format!("expected an interface name{or_mac}; {error}");
            findings.error_at(offset, &quoted(key), message);
            Name::stand_in().into()
        }
    }
}

fn device(
    id: InterfaceId,
    fields: &Fields<'_>,
    version: u8,
    before: usize,
    findings: &mut Findings,
) -> Located {
    let (kind, known) = if version < NEWEST {
        (Kind::Interface, if version == 1 { KEYS_1 } else { KEYS_2 }.to_vec())
    } else {
        kind(fields, findings)
    };
    let has_unknown = refuse_unknown(fields, version, &kind, &known, findings);
    let mut device = Device::new(id, kind);
    let get = |name: &str, findings: &mut Findings| {
        known.contains(&name).then(|| fields.get(name, findings)).flatten()
    };
    device.primary = get("primary", findings).and_then(|value| value.bool(findings));
    device.dhcp4 = get("dhcp4", findings).map(|value| dhcp4(&value, findings));
    device.dhcp6 = get("dhcp6", findings).map(|value| dhcp6(&value, findings));
    device.static4 = get("static4", findings).map(|value| addresses(&value, findings));
    device.static6 = get("static6", findings).map(|value| addresses(&value, findings));
    device.routes = get("route", findings).map(|value| routes(&value, findings));
    device.mtu = get("mtu", findings).and_then(|value| value.integer(NUMBER, findings));
    let is_sound = findings.len() == before;
    Located { key: fields.key.clone(), device, replaces: None, has_unknown, is_sound }
}

fn refuse_unknown(
    fields: &Fields<'_>,
    version: u8,
    kind: &Kind,
    known: &[&str],
    findings: &mut Findings,
) -> bool {
    let (mut newer, mut needed) = (Vec::new(), version);
    let mut place = None;
    let before = findings.len();
    for (name, offset) in fields.keys() {
        let brought_by = match name {
            _ if known.contains(&name) => continue,
            _ if KEYS_2.contains(&name) => 2,
            KIND => 3,
            _ if BOND_ONLY.contains(&name) || VLAN_ONLY.contains(&name) => 3,
            _ => 0,
        };
        if brought_by > version {
            newer.push(name);
            needed = needed.max(brought_by);
            place.get_or_insert(offset);
            continue;
        }
        let what = match kind {
            Kind::Interface => "an interface",
            Kind::Bond(_) => "a bond",
            Kind::Vlan(_) => "a VLAN",
        };
        let hint = if name == VERSION {
            "; it is for the whole file, so it goes before the first table".into()
        } else if name.bytes().all(|byte| byte.is_ascii_digit()) {
            "; a dot divides keys, and a VLAN is a device of its own with kind = \"vlan\"".into()
        } else {
            did_you_mean(name, known)
        };
        let allowed = choice(known);
        let message = format!("is no key of {what}; allowed is {allowed}{hint}");
        findings.error_at(offset, &fields.key_of(name), message);
    }
    if let Some(offset) = place {
        let keys = newer.join("`, `");
        let message = format!("`{keys}`: known from version {needed} on, the file says {version}");
        findings.error_at(offset, &fields.key, message);
    }
    findings.len() > before
}

/// The kind that a device of version 3 says to be, or else that its keys betray, and its keys.
fn kind(fields: &Fields<'_>, findings: &mut Findings) -> (Kind, Vec<&'static str>) {
    let said = fields.get(KIND, findings);
    let word = said.as_ref().and_then(Value::as_str).unwrap_or_default();
    let has = |keys: &[&str]| keys.iter().any(|key| fields.has(key));
    let (is_bond, is_vlan) = match word.to_lowercase().as_str() {
        "bond" => (true, false),
        "vlan" => (false, true),
        _ => (has(BOND_ONLY), has(VLAN_ONLY) && !has(BOND_ONLY)),
    };
    match &said {
        Some(value) if !BOND_WORDS.contains(&word) && !VLAN_WORDS.contains(&word) => {
            value.refuse("\"bond\" or \"vlan\"", findings);
        }
        None if is_bond || is_vlan => {
            let (word, keys) = if is_bond { ("bond", BOND_ONLY) } else { ("vlan", VLAN_ONLY) };
            let message = format!("is missing; with {} expected \"{word}\"", choice(keys));
            findings.error_at(fields.offset, &fields.key_of(KIND), message);
        }
        _ => {}
    }
    let keys = |own: &[&'static str]| [KEYS_2, &[KIND], own].concat();
    match (is_bond, is_vlan) {
        (true, _) => (Kind::Bond(bond(fields, findings)), keys(BOND_ONLY)),
        (_, true) => (Kind::Vlan(vlan(fields, findings)), keys(VLAN_ONLY)),
        _ if said.is_some() => (Kind::Interface, [keys(BOND_ONLY), VLAN_ONLY.to_vec()].concat()),
        _ => (Kind::Interface, KEYS_2.to_vec()),
    }
}

fn bond(fields: &Fields<'_>, findings: &mut Findings) -> Bond {
    if let Some(mode) = fields.require("mode", "\"active-backup\"", findings) {
        mode.word(&["active-backup"], findings);
    }
    const MEMBERS: &str = "an array of interface names";
    let interfaces = fields
        .require("interfaces", MEMBERS, findings)
        .and_then(|value| value.items(MEMBERS, findings))
        .map(|items| items.iter().filter_map(|item| item.parse(NAME, findings)).collect());
    let min_links = fields
        .get("min-links", findings)
        .and_then(|value| value.integer("an integer from 0 on", findings));
    const EXPECTED: &str = "a table with the keys of either MII or ARP monitoring";
    let monitoring = fields
        .require("monitoring", EXPECTED, findings)
        .and_then(|value| value.table(EXPECTED, findings))
        .and_then(|fields| monitoring(&fields, findings));
    let monitoring =
        monitoring.unwrap_or(Monitoring::Mii { frequency_ms: 1, updelay_ms: 1, downdelay_ms: 1 });
    Bond { interfaces: interfaces.unwrap_or_default(), min_links, monitoring }
}

fn monitoring(fields: &Fields<'_>, findings: &mut Findings) -> Option<Monitoring> {
    let has = |keys: &[&str]| keys.iter().any(|key| fields.has(key));
    let is_mii = match (has(MII_KEYS), has(ARP_KEYS)) {
        (true, true) => {
            let message = "has keys of both MII and ARP monitoring; a bond is watched in one way";
            findings.error(&fields.key, message);
            return None;
        }
        (false, false) => {
            let (mii, arp) = (choice(MII_KEYS), choice(ARP_KEYS));
            let message = format!("expected all of {mii}, or all of {arp}");
            findings.error(&fields.key, message.replace("` or `", "` and `"));
            fields.refuse_unknown("monitoring", &[MII_KEYS, ARP_KEYS].concat(), findings);
            return None;
        }
        (is_mii, _) => is_mii,
    };
    let number = |name: &str, findings: &mut Findings| {
        let value = fields.require(name, NUMBER, findings);
        value.and_then(|value| value.integer::<u32>(NUMBER, findings))
    };
    if is_mii {
        fields.refuse_unknown("MII monitoring", MII_KEYS, findings);
        let [frequency, updelay, downdelay] =
            ["miimon-frequency-ms", "miimon-updelay-ms", "miimon-downdelay-ms"]
                .map(|name| number(name, findings));
        return Some(Monitoring::Mii {
            frequency_ms: frequency?,
            updelay_ms: updelay?,
            downdelay_ms: downdelay?,
        });
    }
    fields.refuse_unknown("ARP monitoring", ARP_KEYS, findings);
    let interval = number("arpmon-interval-ms", findings);
    let words = ArpValidate::ALL.map(ArpValidate::as_str);
    let validate = fields
        .require("arpmon-validate", "\"active\", \"all\", \"backup\" or \"none\"", findings)
        .and_then(|value| value.word(&words, findings))
        .and_then(|word| ArpValidate::ALL.into_iter().find(|value| value.as_str() == word));
    const TARGETS: &str = "an array of 1 to 16 IP addresses";
    let targets: Option<Vec<Option<IpAddr>>> = fields
        .require("arpmon-targets", TARGETS, findings)
        .and_then(|value| value.items(TARGETS, findings))
        .map(|items| items.iter().map(|item| item.parse(ADDRESS, findings)).collect());
    Some(Monitoring::Arp {
        interval_ms: interval?,
        validate: validate?,
        targets: targets?.into_iter().collect::<Option<_>>()?,
    })
}

fn vlan(fields: &Fields<'_>, findings: &mut Findings) -> Vlan {
    const ID: &str = "an integer from 0 to 4094";
    let device = fields.require("device", NAME, findings);
    let device = device.and_then(|value| value.parse(NAME, findings));
    let id = fields.require("id", ID, findings).and_then(|value| {
        let id = value.integer(ID, findings)?;
        if id > MAX_VLAN_ID {
            value.refuse(ID, findings);
        }
        Some(id)
    });
    Vlan { device: device.unwrap_or_else(Name::stand_in), id: id.unwrap_or(1) }
}
