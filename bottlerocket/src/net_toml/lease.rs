//! From the lease of a DHCP server to a configuration without DHCP.

use std::net::IpAddr;

use ipnet::IpNet;

use super::id::InterfaceId;
use super::model::{Destination, Route};
use super::network::{Interface, Network};
use super::render::Error;
use super::write::array;

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The interface that has it. By MAC address it is found whatever the installed system calls
    /// it, but that takes version 3 of the file.
    pub interface: InterfaceId,
    /// Its addresses, each with the prefix of its network.
    pub addresses: Vec<IpNet>,
    /// The gateway, if the routes have no default one.
    pub gateway: Option<IpAddr>,
    /// Its routes: where to, and by which gateway; none if the destination is on the link.
    pub routes: Vec<(IpNet, Option<IpAddr>)>,
    /// DNS servers, in order.
    pub name_servers: Vec<IpAddr>,
    /// DNS domains to seek short names in.
    pub search: Vec<String>,
    /// DNS domain of the machine, sought in if there is no other.
    pub domain: Option<String>,
}

/// The part of a lease that `net.toml` has no place for: `settings.dns` in user data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns {
    /// `settings.dns.name-servers`.
    pub name_servers: Vec<IpAddr>,
    /// `settings.dns.search-list`.
    pub search_list: Vec<String>,
}

impl Dns {
    /// The table for user data; empty if there is nothing to say.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let lists = [
            ("name-servers", self.name_servers.iter().map(ToString::to_string).collect()),
            ("search-list", self.search_list.clone()),
        ];
        for (key, list) in lists {
            if !list.is_empty() {
                text.push_str(&format!("{key} = {}\n", array(list)));
            }
        }
        if text.is_empty() { text } else { format!("[settings.dns]\n{text}") }
    }
}

/// The configuration that keeps what a lease gave. It holds only as long as nobody else gets the
/// address: reserve it with the DHCP server.
pub fn from_lease(lease: &Lease) -> Result<(Network, Dns), Error> {
    if lease.addresses.is_empty() {
        return Err(Error::LeaseWithoutAddress { interface: lease.interface.clone() });
    }
    let mut interface = Interface::new(lease.interface.clone());
    interface.primary = true;
    interface.addresses = lease.addresses.clone();
    let mut routes: Vec<(Destination, Option<IpAddr>)> =
        lease.routes.iter().map(|&(net, via)| (destination(net, via), via)).collect();
    if let Some(gateway) = lease.gateway {
        let is_default =
            |net: &IpNet| net.prefix_len() == 0 && net.addr().is_ipv4() == gateway.is_ipv4();
        if !lease.routes.iter().any(|(net, _)| is_default(net)) {
            routes.push((Destination::Default, Some(gateway)));
        }
    }
    interface.routes = reached(routes, &lease.addresses);
    let search = if lease.search.is_empty() { lease.domain.as_slice() } else { &lease.search };
    let mut search_list: Vec<String> = Vec::new();
    for domain in search {
        let domain = domain.trim_end_matches('.');
        if !domain.is_empty() && !search_list.iter().any(|it| it == domain) {
            search_list.push(domain.to_owned());
        }
    }
    let dns = Dns { name_servers: lease.name_servers.clone(), search_list };
    Ok((Network { interfaces: vec![interface] }, dns))
}

/// The network of everything is the default route if its gateway tells netdog of which family.
fn destination(net: IpNet, via: Option<IpAddr>) -> Destination {
    match net.prefix_len() {
        0 if via.is_some() => Destination::Default,
        _ => Destination::Net(net.trunc()),
    }
}

/// The routes, and before each gateway that is in no network of the machine a route to it: some
/// providers lease a single address, with a gateway beside it.
fn reached(routes: Vec<(Destination, Option<IpAddr>)>, addresses: &[IpNet]) -> Vec<Route> {
    let route = |to, via| Route { to, via, from: None, route_metric: None };
    let mut made: Vec<Route> = Vec::with_capacity(routes.len());
    for (to, via) in routes {
        if let Some(gateway) = via {
            let has = |net: &IpNet| net.contains(&gateway);
            let on_link = |it: &Route| matches!(it, Route { to: Destination::Net(net), via: None, .. } if has(net));
            let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if !link_local && !addresses.iter().any(has) && !made.iter().any(on_link) {
                made.push(route(Destination::Net(IpNet::from(gateway)), None));
            }
        }
        made.push(route(to, via));
    }
    made
}

#[cfg(test)]
mod tests {
    use super::super::{Names, check, render};
    use super::*;

    fn lease() -> Lease {
        Lease {
            interface: "52:54:00:12:34:56".parse().unwrap(),
            addresses: vec!["10.0.0.9/24".parse().unwrap()],
            gateway: Some("10.0.0.1".parse().unwrap()),
            routes: Vec::new(),
            name_servers: vec!["10.0.0.53".parse().unwrap(), "fd00::53".parse().unwrap()],
            search: Vec::new(),
            domain: Some("example.net.".to_owned()),
        }
    }

    fn made(lease: &Lease) -> String {
        let (network, _) = from_lease(lease).unwrap();
        let text = render(&network, None, &Names::NONE).unwrap();
        assert_eq!(check(text.as_bytes(), None).diagnostics, [], "{text}");
        text
    }

    #[test]
    fn a_lease_becomes_a_static_address_and_dns_settings() {
        let expected = "version = 3\n\n[\"52:54:00:12:34:56\"]\nprimary = true\n\n\
                        [\"52:54:00:12:34:56\".static4]\naddresses = [\"10.0.0.9/24\"]\n\n\
                        [[\"52:54:00:12:34:56\".route]]\nto = \"default\"\nvia = \"10.0.0.1\"\n";
        assert_eq!(made(&lease()), expected);
        let (_, dns) = from_lease(&lease()).unwrap();
        let expected = "[settings.dns]\nname-servers = [\"10.0.0.53\", \"fd00::53\"]\n\
                        search-list = [\"example.net\"]\n";
        assert_eq!(dns.to_toml(), expected);
        assert_eq!(Dns::default().to_toml(), "");
    }

    #[test]
    fn by_name_the_second_version_is_enough() {
        let text = made(&Lease { interface: "eno1".parse().unwrap(), ..lease() });
        assert!(text.starts_with("version = 2\n\n[eno1]\n"), "{text}");
    }

    #[test]
    fn a_default_route_of_the_lease_is_taken_before_its_gateway() {
        let routes = vec![
            ("10.1.2.3/16".parse().unwrap(), Some("10.0.0.7".parse().unwrap())),
            ("0.0.0.0/0".parse().unwrap(), Some("10.0.0.8".parse().unwrap())),
        ];
        let text = made(&Lease { routes, ..lease() });
        assert!(text.contains("to = \"10.1.0.0/16\"\nvia = \"10.0.0.7\""), "{text}");
        assert!(text.contains("to = \"default\"\nvia = \"10.0.0.8\""), "{text}");
        assert!(!text.contains("10.0.0.1\""), "{text}");
    }

    #[test]
    fn a_gateway_outside_the_network_gets_a_route_to_it() {
        let text = made(&Lease { addresses: vec!["10.9.9.9/32".parse().unwrap()], ..lease() });
        let host = text.find("to = \"10.0.0.1/32\"").unwrap();
        assert!(host < text.find("to = \"default\"").unwrap(), "{text}");
    }

    #[test]
    fn the_search_list_is_before_the_domain_and_has_each_once() {
        let search = ["a.example", "b.example.", "a.example"].map(str::to_owned).to_vec();
        let (_, dns) = from_lease(&Lease { search, ..lease() }).unwrap();
        assert_eq!(dns.search_list, ["a.example", "b.example"]);
    }

    #[test]
    fn a_lease_without_an_address_is_refused() {
        let error = from_lease(&Lease { addresses: Vec::new(), ..lease() }).unwrap_err();
        assert!(error.to_string().contains("it has no address"), "{error}");
    }
}
