//! A network that nobody is asked for: `ipam=`, as Tinkerbell's boot scripts and ISO write it.
//!
//! ```text
//! ipam=<mac>:<vlan>:<address>:<mask>:<router>:<host name>:<dns,dns>:<search,search>:<ntp,ntp>
//! ```
//!
//! The MAC has dashes, fields may be empty and the last ones missing. MAC, address and mask are
//! required. HookOS requires DNS servers too; here a machine that only knows addresses may do
//! without. The NTP servers are not used: the agent does not set the clock.

use std::net::Ipv4Addr;
use std::str::FromStr;

use nibs_job::Mac;

use super::configuration::{MAX_NAME_SERVERS, domain, prefix_of};
use super::{Configuration, Route, VlanId};

/// Fields of `ipam=`.
const FIELDS: usize = 9;

/// A network with an address that is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// The interface that has it.
    pub mac: Mac,
    /// The VLAN on that interface, if it is on one.
    pub vlan: Option<VlanId>,
    /// Address, router, names.
    pub configuration: Configuration,
}

impl FromStr for Fixed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields: Vec<&str> = text.split(':').map(str::trim).collect();
        if fields.len() > FIELDS {
            return Err(format!(
                "expected at most {FIELDS} fields with colons between (MAC with dashes, VLAN, \
                 address, mask, router, host name, DNS, search, NTP), found {}",
                fields.len()
            ));
        }
        fields.resize(FIELDS, "");
        let [mac, vlan, ip, mask, router, host_name, dns, search, _ntp] = fields[..] else {
            unreachable!("resized to {FIELDS}");
        };
        let mac = mac.parse().map_err(|e| format!("the MAC, its first field: {e}"))?;
        let vlan = (!vlan.is_empty()).then(|| vlan.parse()).transpose()?;
        let router = (!router.is_empty()).then(|| address("router", router)).transpose()?;
        let name_servers =
            list(dns).map(|server| address("DNS server", server)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            mac,
            vlan,
            configuration: Configuration {
                address: address("address", ip)?,
                prefix: prefix(mask)?,
                routes: router.map(Route::default_by).into_iter().collect(),
                mtu: None,
                name_servers: name_servers.into_iter().take(MAX_NAME_SERVERS).collect(),
                domain: None,
                search: list(search).filter_map(|name| domain(name.as_bytes())).collect(),
                host_name: domain(host_name.as_bytes()),
            },
        })
    }
}

/// The parts of a field that is a list.
fn list(field: &str) -> impl Iterator<Item = &str> {
    field.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn address(what: &str, text: &str) -> Result<Ipv4Addr, String> {
    let address = text.parse().ok().filter(|address: &Ipv4Addr| {
        !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast()
    });
    address.ok_or_else(|| format!("the {what}: expected an IPv4 address of a host, found {text:?}"))
}

/// `255.255.255.0`, or `24` as CaptainOS takes it too.
fn prefix(text: &str) -> Result<u8, String> {
    let dotted = || text.parse().ok().and_then(prefix_of);
    let prefix = text.parse().ok().or_else(dotted).filter(|prefix| (1..=32).contains(prefix));
    prefix.ok_or_else(|| format!("the mask: expected one such as 255.255.255.0, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "52-54-00-77-00-01:7:10.77.0.9:255.255.254.0:10.77.0.1:node-7:\
                         10.77.0.2,10.77.0.3:lab.example,rack.example:10.77.0.4";

    #[test]
    fn every_field_has_its_use() {
        let fixed: Fixed = WHOLE.parse().unwrap();
        assert_eq!(fixed.mac.to_string(), "52:54:00:77:00:01");
        assert_eq!(fixed.vlan, Some("7".parse().unwrap()));
        let configuration = fixed.configuration;
        assert_eq!(configuration.address, Ipv4Addr::new(10, 77, 0, 9));
        assert_eq!(configuration.prefix, 23);
        assert_eq!(configuration.routes, [Route::default_by(Ipv4Addr::new(10, 77, 0, 1))]);
        let servers = [Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(10, 77, 0, 3)];
        assert_eq!(configuration.name_servers, servers);
        assert_eq!(configuration.search, ["lab.example", "rack.example"]);
        assert_eq!(configuration.host_name.as_deref(), Some("node-7"));
    }

    #[test]
    fn mac_address_and_mask_are_enough() {
        for text in ["52-54-00-77-00-01::10.77.0.9:24", "52-54-00-77-00-01::10.77.0.9:24:::::"] {
            let fixed: Fixed = text.parse().unwrap();
            assert_eq!((fixed.vlan, fixed.configuration.prefix), (None, 24));
            assert!(fixed.configuration.routes.is_empty());
            assert!(fixed.configuration.name_servers.is_empty());
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_found() {
        for (text, parts) in [
            ("", ["the MAC", ""]),
            ("52:54:00:77:00:01::10.77.0.9:255.255.255.0:10.77.0.1", ["at most 9", "dashes"]),
            ("52-54-00-77-00-01::10.77.0.9:255.0.255.0", ["the mask", "255.0.255.0"]),
            ("52-54-00-77-00-01::10.77.0.9:0", ["the mask", "\"0\""]),
            ("52-54-00-77-00-01::10.77.0.9", ["the mask", "\"\""]),
            ("52-54-00-77-00-01::10.77.0:24", ["the address", "10.77.0"]),
            ("52-54-00-77-00-01::0.0.0.0:24", ["the address", "0.0.0.0"]),
            ("52-54-00-77-00-01:4095:10.77.0.9:24", ["1 to 4094", "4095"]),
            ("52-54-00-77-00-01::10.77.0.9:24:gw", ["the router", "gw"]),
            ("52-54-00-77-00-01::10.77.0.9:24:::ns1", ["the DNS server", "ns1"]),
        ] {
            let error = text.parse::<Fixed>().unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }

    #[test]
    fn no_name_writes_lines_of_its_own() {
        let text = "52-54-00-77-00-01::10.77.0.9:24::a b::x\ny,lab.example";
        let configuration = text.parse::<Fixed>().unwrap().configuration;
        assert_eq!(configuration.host_name, None);
        assert_eq!(configuration.search, ["lab.example"]);
    }
}
