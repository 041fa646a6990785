//! What a `net.toml` says, in the shape in which netdog holds it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::id::{InterfaceId, Name};

/// A `net.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetToml {
    /// Version of the file's schema, 1 to 3.
    pub version: u8,
    /// The devices in the order of the file, each of them once.
    pub devices: Vec<Device>,
}

impl NetToml {
    /// The device whose address becomes the machine's: the one that says so, or else the first.
    pub fn primary(&self) -> Option<&Device> {
        let said = self.devices.iter().find(|device| device.primary == Some(true));
        said.or_else(|| self.devices.first())
    }

    /// Whether it gives the machine an address and asks for no lease, which could bring the
    /// address of a name server.
    pub fn is_static(&self) -> bool {
        let leased = |device: &Device| {
            device.dhcp4.is_some_and(Dhcp4::enabled) || device.dhcp6.is_some_and(Dhcp6::enabled)
        };
        !self.devices.iter().any(leased)
            && self.devices.iter().any(|device| device.addresses().next().is_some())
    }
}

/// One device. A key that the file does not have is absent here too, because netdog tells
/// `dhcp4 = false` from no `dhcp4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What it is called.
    pub id: InterfaceId,
    /// Whether its address is the machine's.
    pub primary: Option<bool>,
    /// DHCP for IPv4.
    pub dhcp4: Option<Dhcp4>,
    /// DHCP for IPv6.
    pub dhcp6: Option<Dhcp6>,
    /// Addresses under `static4`, as written.
    pub static4: Option<Vec<IpNet>>,
    /// Addresses under `static6`, as written.
    pub static6: Option<Vec<IpNet>>,
    /// Static routes.
    pub routes: Option<Vec<Route>>,
    /// Largest packet, in bytes.
    pub mtu: Option<u32>,
    /// What kind of device it is, with what only that kind has.
    pub kind: Kind,
}

impl Device {
    /// A device of which nothing is said yet.
    pub(super) fn new(id: InterfaceId, kind: Kind) -> Self {
        Self {
            id,
            primary: None,
            dhcp4: None,
            dhcp6: None,
            static4: None,
            static6: None,
            routes: None,
            mtu: None,
            kind,
        }
    }

    /// Its static addresses of both lists, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = &IpNet> {
        self.static4.iter().chain(&self.static6).flatten()
    }
}

/// The kind of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A network card.
    Interface,
    /// Several cards as one.
    Bond(Bond),
    /// A tagged network on another device.
    Vlan(Vlan),
}

/// DHCP for IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dhcp4 {
    /// `dhcp4 = true` or `false`.
    Enabled(bool),
    /// `[NAME.dhcp4]`.
    Options {
        /// Whether to ask for a lease.
        enabled: bool,
        /// Whether the machine is online without one.
        optional: Option<bool>,
        /// Metric of the routes that come with it.
        route_metric: Option<u32>,
    },
}

impl Dhcp4 {
    /// Whether a lease is asked for.
    pub fn enabled(self) -> bool {
        match self {
            Self::Enabled(enabled) | Self::Options { enabled, .. } => enabled,
        }
    }
}

/// DHCP for IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dhcp6 {
    /// `dhcp6 = true` or `false`.
    Enabled(bool),
    /// `[NAME.dhcp6]`.
    Options {
        /// Whether to ask for a lease.
        enabled: bool,
        /// Whether the machine is online without one.
        optional: Option<bool>,
    },
}

impl Dhcp6 {
    /// Whether a lease is asked for.
    pub fn enabled(self) -> bool {
        match self {
            Self::Enabled(enabled) | Self::Options { enabled, .. } => enabled,
        }
    }
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Destination {
    /// `default`, in any case.
    Default,
    /// A network.
    Net(IpNet),
}

impl TryFrom<String> for Destination {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.to_lowercase() == "default" {
            return Ok(Self::Default);
        }
        text.parse().map(Self::Net).map_err(|_| {
            format!("expected \"default\" or a network as ADDRESS/PREFIX, found {text:?}")
        })
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        match destination {
            Destination::Default => "default".to_owned(),
            Destination::Net(net) => net.to_string(),
        }
    }
}

/// A static route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Route {
    /// Where it leads.
    pub to: Destination,
    /// The machine's own address on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// The gateway; none if the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// Its metric: of two routes, the smaller one is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_metric: Option<u32>,
}

/// A bond. Its only mode is `active-backup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bond {
    /// Its members; the first is the one preferred.
    pub interfaces: Vec<Name>,
    /// How many of them must be up for the bond to be up.
    pub min_links: Option<u64>,
    /// How it finds out which of them are up.
    pub monitoring: Monitoring,
}

/// How a bond watches its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitoring {
    /// By what the card says of its link.
    #[serde(rename_all = "kebab-case")]
    Mii {
        /// Milliseconds between two looks.
        frequency_ms: u32,
        /// Milliseconds that a link must be up before it is used.
        updelay_ms: u32,
        /// Milliseconds that a link must be down before it is given up.
        downdelay_ms: u32,
    },
    /// By asking neighbours.
    #[serde(rename_all = "kebab-case")]
    Arp {
        /// Milliseconds between two questions.
        interval_ms: u32,
        /// Whose answers are checked.
        validate: ArpValidate,
        /// The neighbours, 1 to 16.
        targets: Vec<IpAddr>,
    },
}

/// Which members' ARP answers a bond checks (Linux, `Documentation/networking/bonding.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArpValidate {
    /// Those of the member in use.
    Active,
    /// Those of all.
    All,
    /// Those of the members in reserve.
    Backup,
    /// None.
    None,
}

impl ArpValidate {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Active, Self::All, Self::Backup, Self::None];

    /// The word for it in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::All => "all",
            Self::Backup => "backup",
            Self::None => "none",
        }
    }
}

/// A VLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlan {
    /// The device whose packets carry the tag.
    pub device: Name,
    /// The tag, 0 to 4094.
    pub id: u16,
}
