//! From a description to the text of the oldest version of `net.toml` that can say it.

use std::collections::{HashMap, HashSet};
use std::fmt;

use ipnet::IpNet;
use thiserror::Error;

use super::id::{InterfaceId, InvalidName, Mac, Name};
use super::model::{Bond, Device, Dhcp4, Dhcp6, Kind, NetToml, Vlan};
use super::network::{Dhcp4Request, Dhcp6Request, Interface, Network};
use super::{check, write};
use crate::diagnostic::{Diagnostic, Severity};

/// The newest version of the file.
const NEWEST: u8 = 3;

/// What a machine's cards are called. `net.toml` takes members of bonds and devices of VLANs by
/// name only.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// The name that udev will give, in the installed system, to the card with an address.
    pub find: &'a dyn Fn(&Mac) -> Option<String>,
    /// The machine's cards, in words for an error.
    pub candidates: &'a [String],
}

impl Names<'_> {
    /// Of a machine that is not known: a description with a MAC address as a member is refused.
    pub const NONE: Names<'static> = Names { find: &|_| None, candidates: &[] };

    /// The same, where a description is only checked: each card has a name made of its address.
    pub const STAND_INS: Names<'static> =
        Names { find: &|mac| Some(stand_in(mac)), candidates: &[] };
}

/// As long as an interface's name may be, and nothing that udev or a person would choose.
fn stand_in(mac: &Mac) -> String {
    format!("if-{}", mac.as_str().replace(':', ""))
}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("candidates", &self.candidates).finish_non_exhaustive()
    }
}

/// Why a description makes no `net.toml`. All but [`Error::UnknownCard`] and [`Error::BadName`],
/// which are of this machine, are of the description.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// A table that describes no interface.
    #[error("making net.toml: interfaces[{index}]: {message}")]
    NoInterface {
        /// Which table, from 0.
        index: usize,
        /// What is wrong with it.
        message: String,
    },
    /// There is no such version.
    #[error("making net.toml: there is no version {asked}; expected 1, 2 or 3")]
    NoSuchVersion {
        /// The version asked for.
        asked: u8,
    },
    /// The version asked for cannot say it.
    #[error("making net.toml: {interface} needs version {needed}, for {what}, not {asked}")]
    Version {
        /// The version asked for.
        asked: u8,
        /// The oldest that can say it.
        needed: u8,
        /// The first interface that needs it.
        interface: InterfaceId,
        /// What it needs it for.
        what: &'static str,
    },
    /// A device cannot be both.
    #[error("making net.toml: {interface} is described as a bond and as a VLAN; keep one")]
    BondAndVlan {
        /// The interface.
        interface: InterfaceId,
    },
    /// A bond or a VLAN is named, because it is made.
    #[error("making net.toml: {interface} is a bond or a VLAN, so it takes a name, not an address")]
    MadeByAddress {
        /// The address.
        interface: Mac,
    },
    /// Each interface is one table of the file.
    #[error("making net.toml: {interface} is described twice; keep one")]
    Twice {
        /// The interface.
        interface: InterfaceId,
    },
    /// netdog refuses static routes with DHCP.
    #[error("making net.toml: {interface} has routes and DHCP, which netdog refuses; keep one")]
    RoutesWithDhcp {
        /// The interface.
        interface: InterfaceId,
    },
    /// netdog refuses static routes without an address.
    #[error("making net.toml: {interface} has routes but no addresses; add one")]
    RoutesWithoutAddress {
        /// The interface.
        interface: InterfaceId,
    },
    /// An interface that would do nothing.
    #[error(
        "making net.toml: {interface} has neither DHCP nor addresses nor a VLAN; add or drop it"
    )]
    Nothing {
        /// The interface.
        interface: InterfaceId,
    },
    /// No card has the address.
    #[error(
        "making net.toml: {member} of {interface} must be written by name, and no card of this \
         machine has that address; it has {}",
        listed(candidates)
    )]
    UnknownCard {
        /// The bond or VLAN.
        interface: InterfaceId,
        /// The address that was given.
        member: Mac,
        /// The machine's cards.
        candidates: Vec<String>,
    },
    /// A card has a name that the file does not take.
    #[error("making net.toml: writing {member} of {interface} by name: {source}")]
    BadName {
        /// The bond or VLAN.
        interface: InterfaceId,
        /// The address that was given.
        member: Mac,
        /// Why not.
        source: InvalidName,
    },
    /// What is described breaks a rule of netdog that concerns more than one key.
    #[error("making net.toml: netdog would refuse it: {}", told(diagnostics))]
    Refused {
        /// The errors; their places are in the text that was made, so they have none.
        diagnostics: Vec<Diagnostic>,
    },
    /// A lease without an address.
    #[error("making net.toml of the lease of {interface}: it has no address")]
    LeaseWithoutAddress {
        /// The interface.
        interface: InterfaceId,
    },
}

fn listed(candidates: &[String]) -> String {
    if candidates.is_empty() { "none".to_owned() } else { candidates.join(", ") }
}

fn told(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The text of a `net.toml`, of the version asked for or else the oldest one that can say it.
/// [`check`] finds no error in it.
pub fn render(network: &Network, version: Option<u8>, names: &Names<'_>) -> Result<String, Error> {
    let model = model(network, version, names)?;
    let text = write::text(&model);
    let mut diagnostics = check(text.as_bytes(), None).diagnostics;
    diagnostics.retain(|found| found.severity == Severity::Error);
    if diagnostics.is_empty() {
        return Ok(text);
    }
    for found in &mut diagnostics {
        found.place = None;
    }
    Err(Error::Refused { diagnostics })
}

fn model(network: &Network, version: Option<u8>, names: &Names<'_>) -> Result<NetToml, Error> {
    let (needed, culprit) = needed(network);
    let version = match version {
        None => needed,
        Some(asked @ 1..=NEWEST) if asked >= needed => asked,
        Some(asked) => {
            return Err(match culprit {
                Some((interface, what)) if asked >= 1 => {
                    Error::Version { asked, needed, interface, what }
                }
                _ => Error::NoSuchVersion { asked },
            });
        }
    };
    let links = Links::of(network, names)?;
    let mut seen = HashSet::new();
    let mut devices = Vec::with_capacity(network.interfaces.len());
    for interface in &network.interfaces {
        let device = device(interface, &links)?;
        if !seen.insert(device.id.clone()) {
            return Err(Error::Twice { interface: interface.id.clone() });
        }
        devices.push(device);
    }
    Ok(NetToml { version, devices })
}

/// The oldest version that can say it all, and what needs that.
fn needed(network: &Network) -> (u8, Option<(InterfaceId, &'static str)>) {
    let needs = |interface: &Interface| match interface {
        Interface { bond: Some(_), .. } => (3, "a bond"),
        Interface { vlan: Some(_), .. } => (3, "a VLAN"),
        Interface { id: InterfaceId::Mac(_), .. } => (3, "a MAC address"),
        Interface { mtu: Some(_), .. } => (2, "an MTU"),
        Interface { addresses, routes, .. } if !addresses.is_empty() || !routes.is_empty() => {
            (2, "static addresses")
        }
        _ => (1, ""),
    };
    let mut most = (1, None);
    for interface in &network.interfaces {
        let (version, what) = needs(interface);
        if version > most.0 {
            most = (version, Some((interface.id.clone(), what)));
        }
    }
    most
}

/// What is referred to by name.
struct Links {
    /// Names of the cards that were given by address, where the file needs a name.
    names: HashMap<Mac, Name>,
    /// Devices of VLANs.
    carriers: HashSet<Name>,
}

impl Links {
    fn of(network: &Network, names: &Names<'_>) -> Result<Self, Error> {
        let mut links = Self { names: HashMap::new(), carriers: HashSet::new() };
        let mut members = HashSet::new();
        for Interface { id, bond, vlan, .. } in &network.interfaces {
            for member in bond.iter().flat_map(|bond| &bond.members) {
                members.insert(links.name(id, member, names)?);
            }
            if let Some(vlan) = vlan {
                let carrier = links.name(id, &vlan.device, names)?;
                links.carriers.insert(carrier);
            }
        }
        // A card that is spoken of by name in one place is written by name in every place: netdog
        // knows no addresses, so two spellings of one card would be two cards to it.
        for interface in &network.interfaces {
            if let InterfaceId::Mac(mac) = &interface.id
                && let Some(Ok(name)) = (names.find)(mac).map(Name::try_from)
                && (members.contains(&name) || links.carriers.contains(&name))
            {
                links.names.insert(mac.clone(), name);
            }
        }
        Ok(links)
    }

    fn name(
        &mut self,
        interface: &InterfaceId,
        member: &InterfaceId,
        names: &Names<'_>,
    ) -> Result<Name, Error> {
        let mac = match member {
            InterfaceId::Name(name) => return Ok(name.clone()),
            InterfaceId::Mac(mac) => mac,
        };
        let (interface, member) = (interface.clone(), mac.clone());
        let Some(found) = (names.find)(mac) else {
            let candidates = names.candidates.to_vec();
            return Err(Error::UnknownCard { interface, member, candidates });
        };
        let name =
            Name::try_from(found).map_err(|source| Error::BadName { interface, member, source })?;
        self.names.insert(mac.clone(), name.clone());
        Ok(name)
    }

    /// An interface as the file writes it.
    fn id(&self, id: &InterfaceId) -> InterfaceId {
        match id {
            InterfaceId::Mac(mac) => {
                self.names.get(mac).map_or(id.clone(), |name| name.clone().into())
            }
            InterfaceId::Name(_) => id.clone(),
        }
    }

    /// The names of members. [`Links::of`] found them all.
    fn members(&self, members: &[InterfaceId]) -> Vec<Name> {
        let name = |member: &InterfaceId| match self.id(member) {
            InterfaceId::Name(name) => Some(name),
            InterfaceId::Mac(_) => None,
        };
        members.iter().filter_map(name).collect()
    }
}

fn device(interface: &Interface, links: &Links) -> Result<Device, Error> {
    let is_made = interface.bond.is_some() || interface.vlan.is_some();
    if let (true, InterfaceId::Mac(mac)) = (is_made, &interface.id) {
        return Err(Error::MadeByAddress { interface: mac.clone() });
    }
    let kind = match (&interface.bond, &interface.vlan) {
        (Some(_), Some(_)) => {
            return Err(Error::BondAndVlan { interface: interface.id.clone() });
        }
        (Some(bond), None) => Kind::Bond(Bond {
            interfaces: links.members(&bond.members),
            min_links: bond.min_links,
            monitoring: bond.monitoring.clone(),
        }),
        (None, Some(vlan)) => {
            let device = links.members(std::slice::from_ref(&vlan.device));
            let [device] = <[Name; 1]>::try_from(device).expect("a member was found for it");
            Kind::Vlan(Vlan { device, id: vlan.id })
        }
        (None, None) => Kind::Interface,
    };
    let mut device = Device::new(links.id(&interface.id), kind);
    device.primary = interface.primary.then_some(true);
    device.mtu = interface.mtu;
    addressing(interface, &mut device, links, is_made)?;
    Ok(device)
}

fn addressing(
    interface: &Interface,
    device: &mut Device,
    links: &Links,
    is_made: bool,
) -> Result<(), Error> {
    let id = || interface.id.clone();
    device.dhcp4 = match interface.dhcp4 {
        None | Some(Dhcp4Request::Enabled(false)) => None,
        Some(Dhcp4Request::Enabled(true)) => Some(Dhcp4::Enabled(true)),
        Some(Dhcp4Request::Options(options)) => Some(Dhcp4::Options {
            enabled: true,
            optional: options.optional,
            route_metric: options.route_metric,
        }),
    };
    device.dhcp6 = match interface.dhcp6 {
        None | Some(Dhcp6Request::Enabled(false)) => None,
        Some(Dhcp6Request::Enabled(true)) => Some(Dhcp6::Enabled(true)),
        Some(Dhcp6Request::Options(options)) => {
            Some(Dhcp6::Options { enabled: true, optional: options.optional })
        }
    };
    let list = |is_family: fn(&IpNet) -> bool| {
        let list: Vec<_> = interface.addresses.iter().copied().filter(is_family).collect();
        (!list.is_empty()).then_some(list)
    };
    device.static4 = list(|net| matches!(net, IpNet::V4(_)));
    device.static6 = list(|net| matches!(net, IpNet::V6(_)));
    let leased = device.dhcp4.is_some() || device.dhcp6.is_some();
    if !interface.routes.is_empty() {
        if leased {
            return Err(Error::RoutesWithDhcp { interface: id() });
        }
        if interface.addresses.is_empty() {
            return Err(Error::RoutesWithoutAddress { interface: id() });
        }
        device.routes = Some(interface.routes.clone());
    }
    if !leased && interface.addresses.is_empty() {
        let carries = match &device.id {
            InterfaceId::Name(name) => links.carriers.contains(name),
            InterfaceId::Mac(_) => false,
        };
        if !carries && !is_made {
            return Err(Error::Nothing { interface: id() });
        }
        // netdog asks for a word on addresses of every device, and "no" is one.
        device.dhcp4 = Some(Dhcp4::Enabled(false));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
