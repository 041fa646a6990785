//! A machine's network as an operator describes it, without the versions of the file in mind.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::id::InterfaceId;
use super::model::{Monitoring, Route};
use super::render::Error;

/// The network of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Network {
    /// Its interfaces. The first is the primary one if none says to be.
    pub interfaces: Vec<Interface>,
}

impl Network {
    /// Decodes a description: each interface as a table, in JSON's notation.
    pub fn from_tables(interfaces: &[Map<String, Value>]) -> Result<Self, Error> {
        let decode = |(index, table): (usize, &Map<String, Value>)| {
            Interface::deserialize(table)
                .map_err(|error| Error::NoInterface { index, message: error.to_string() })
        };
        let interfaces = interfaces.iter().enumerate().map(decode).collect::<Result<_, _>>()?;
        Ok(Self { interfaces })
    }
}

/// One interface: a network card, or a bond or a VLAN that is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Interface {
    /// Name, or the card's MAC address. A bond or a VLAN has a name.
    pub id: InterfaceId,
    /// Whether its address becomes the machine's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub primary: bool,
    /// DHCP for IPv4: `true`, `false` or a table of options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp4: Option<Dhcp4Request>,
    /// DHCP for IPv6: `true`, `false` or a table of options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp6: Option<Dhcp6Request>,
    /// Static addresses of both families, each with its prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// Static routes; not together with DHCP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Largest packet, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Makes it a bond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond: Option<NewBond>,
    /// Makes it a VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<NewVlan>,
}

impl Interface {
    /// An interface of which nothing is said yet.
    pub fn new(id: InterfaceId) -> Self {
        Self {
            id,
            primary: false,
            dhcp4: None,
            dhcp6: None,
            addresses: Vec::new(),
            routes: Vec::new(),
            mtu: None,
            bond: None,
            vlan: None,
        }
    }
}

/// Whether and how to ask for an IPv4 lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected true, false or a table of optional and route-metric")]
pub enum Dhcp4Request {
    /// Whether to.
    Enabled(bool),
    /// To, and how.
    Options(Dhcp4Options),
}

/// How to ask for an IPv4 lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dhcp4Options {
    /// Whether the machine is online without a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Metric of the routes that come with the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_metric: Option<u32>,
}

/// Whether and how to ask for an IPv6 lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected true, false or a table of optional")]
pub enum Dhcp6Request {
    /// Whether to.
    Enabled(bool),
    /// To, and how.
    Options(Dhcp6Options),
}

/// How to ask for an IPv6 lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dhcp6Options {
    /// Whether the machine is online without a lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A bond to make, in the mode `active-backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NewBond {
    /// Names or MAC addresses of its members; the first is the one preferred.
    pub members: Vec<InterfaceId>,
    /// How many of them must be up for the bond to be up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_links: Option<u64>,
    /// How it watches them; by MII as in [`NewBond::default_monitoring`] if it is not said.
    #[serde(default = "NewBond::default_monitoring")]
    pub monitoring: Monitoring,
}

impl NewBond {
    /// The monitoring of a bond that says nothing of it. The numbers work in milliseconds and in
    /// seconds, for netdog hands them to systemd without their unit.
    pub fn default_monitoring() -> Monitoring {
        Monitoring::Mii { frequency_ms: 1, updelay_ms: 2, downdelay_ms: 2 }
    }
}

/// A VLAN to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NewVlan {
    /// Name or MAC address of the device whose packets carry the tag.
    pub device: InterfaceId,
    /// The tag, 1 to 4094.
    pub id: u16,
}
