//! The bytes of `net.toml`, as a job asks for them.

use nibs_bottlerocket::net_toml::{
    self, Dns, Interface, InterfaceId, Mac, Names, Network, from_lease, render,
};
use nibs_bottlerocket::partitions::private_file::NET_CONFIG;
use nibs_job::params::{Net, NetFrom};
use serde_json::{Map, Value};

use super::error::Error;
use super::fetch::Wanted;
use super::udev_name::{self, Card};
use crate::Context;

/// The first version of the file that takes addresses in place of names.
const WITH_ADDRESSES: u8 = 3;

/// A `net.toml`, not proven yet.
pub(super) struct Made {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// What it has no place for.
    pub(super) dns: Dns,
}

/// Gets or makes the file.
pub(super) fn make(net: &Net, context: &Context) -> Result<Made, crate::Error> {
    let (network, dns) = match net {
        Net { content: Some(content), .. } => return Ok(Made::given(content.clone().into_bytes())),
        Net { url: Some(url), timeout, .. } => {
            let wanted = Wanted { file: NET_CONFIG, limit: net_toml::MAX_SIZE, timeout: timeout.0 };
            return Ok(Made::given(wanted.read(url, context)?));
        }
        Net { from: Some(NetFrom::Lease), format, .. } => leased(*format, context)?,
        Net { interfaces, .. } => {
            let described = interfaces.as_deref().unwrap_or_default();
            (described_network(described)?, Dns::default())
        }
    };
    let cards = udev_name::cards(&context.machine.sysfs);
    check_members(&network, &cards)?;
    let candidates: Vec<String> = cards.iter().map(Card::to_string).collect();
    let find = |mac: &Mac| name(mac, &cards);
    let names = Names { find: &find, candidates: &candidates };
    let text = render(&network, net.format, &names).map_err(Error::from)?;
    context.info(format!("{NET_CONFIG}: made, {} bytes", text.len()));
    Ok(Made { bytes: text.into_bytes(), dns })
}

impl Made {
    fn given(bytes: Vec<u8>) -> Self {
        Self { bytes, dns: Dns::default() }
    }
}

/// The lease as a static network. Its interface is known by address, which no rename changes, but
/// for an old format by name.
fn leased(format: Option<u8>, context: &Context) -> Result<(Network, Dns), Error> {
    let mut lease = context.machine.lease.clone().ok_or(Error::NoLease)?;
    if let (Some(..WITH_ADDRESSES), InterfaceId::Mac(mac)) = (format, &lease.interface) {
        let cards = udev_name::cards(&context.machine.sysfs);
        if let Some(card) = cards.iter().find(|card| card.mac == *mac) {
            lease.interface = named(card)?
                .parse()
                .map_err(|cause| Error::Content { file: NET_CONFIG, cause: format!("{cause}") })?;
        }
    }
    Ok(from_lease(&lease)?)
}

fn described_network(described: &[Map<String, Value>]) -> Result<Network, Error> {
    let interface = |(index, map): (usize, &Map<String, Value>)| {
        serde_json::from_value::<Interface>(Value::Object(map.clone()))
            .map_err(|error| Error::Interface { index, cause: error.to_string() })
    };
    let interfaces: Result<_, _> = described.iter().enumerate().map(interface).collect();
    Ok(Network { interfaces: interfaces? })
}

/// What a card will be called; none if none, or more than one, has the address.
fn name(mac: &Mac, cards: &[Card]) -> Option<String> {
    let mut fit = cards.iter().filter(|card| card.mac == *mac);
    match (fit.next(), fit.next()) {
        (Some(card), None) => card.name.clone().ok(),
        _ => None,
    }
}

/// A member whose card is here, but cannot be named, is told apart from one whose card is not.
fn check_members(network: &Network, cards: &[Card]) -> Result<(), Error> {
    for interface in &network.interfaces {
        let of_bond = interface.bond.iter().flat_map(|bond| &bond.members);
        let of_vlan = interface.vlan.iter().map(|vlan| &vlan.device);
        for member in of_bond.chain(of_vlan) {
            let InterfaceId::Mac(mac) = member else { continue };
            if let Some(card) = cards.iter().find(|card| card.mac == *mac) {
                named(card)?;
            }
        }
    }
    Ok(())
}

fn named(card: &Card) -> Result<&str, Error> {
    match &card.name {
        Ok(name) => Ok(name),
        Err(cause) => Err(Error::Unnamed {
            mac: card.mac.to_string(),
            here: card.here.clone(),
            cause: cause.clone(),
        }),
    }
}
