//! Puts a configuration to use: address, routes, MTU, `resolv.conf`, host name.

use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::{gethostname, sethostname};
use tracing::warn;

use super::netlink::{Decided, Netlink};
use super::{Configuration, Interface};

/// What the kernel calls a machine that nobody has named, and what everyone calls it.
const NO_NAMES: [&str; 3] = ["", "(none)", "localhost"];

/// Uses a configuration; `resolv.conf` goes to `etc`. An error means that the interface has no
/// address; what is less is logged.
pub(super) fn apply(
    etc: &Path,
    interface: &Interface,
    configuration: &Configuration,
    by: Decided,
) -> io::Result<()> {
    let Interface { name, index, .. } = interface;
    let Configuration { address, prefix, .. } = *configuration;
    let mut netlink = Netlink::open()?;
    if let Some(mtu) = configuration.mtu
        && let Err(e) = netlink.set_mtu(*index, mtu)
    {
        warn!("{name}: setting the MTU of {mtu} that the DHCP server asks for: {e}");
    }
    netlink.set_address(*index, address, prefix)?;
    for route in &configuration.routes {
        if let Err(e) = netlink.set_route(*index, address, route, by) {
            warn!("{name}: setting the route to {}/{}: {e}", route.destination, route.prefix);
        }
    }
    if let Err(e) = write_resolv_conf(etc, configuration) {
        warn!("writing {}: {e}; names cannot be resolved", etc.display());
    }
    if let Some(host_name) = &configuration.host_name {
        name_machine(host_name);
    }
    Ok(())
}

/// Stops using a configuration.
pub(super) fn remove(interface: &Interface, configuration: &Configuration) {
    let Configuration { address, prefix, .. } = *configuration;
    let removed = Netlink::open()
        .and_then(|mut netlink| netlink.remove_address(interface.index, address, prefix));
    if let Err(e) = removed {
        warn!("{}: taking the address {address} away: {e}", interface.name);
    }
}

fn write_resolv_conf(etc: &Path, configuration: &Configuration) -> io::Result<()> {
    fs::create_dir_all(etc)?;
    let new = etc.join("resolv.conf.new");
    fs::write(&new, resolv_conf(configuration))?;
    // A reader sees the old file or the new one, never a part.
    fs::rename(new, etc.join("resolv.conf"))
}

fn resolv_conf(configuration: &Configuration) -> String {
    let mut text = String::from("# Written by nibs.\n");
    let search = match (&configuration.search[..], &configuration.domain) {
        ([], None) => None,
        ([], Some(domain)) => Some(domain.clone()),
        (search, _) => Some(search.join(" ")),
    };
    text.extend(search.map(|search| format!("search {search}\n")));
    text.extend(configuration.name_servers.iter().map(|server| format!("nameserver {server}\n")));
    text
}

/// Names the machine, unless it has a name.
fn name_machine(host_name: &str) {
    let current = gethostname().unwrap_or_default();
    let label = host_name.split('.').next().unwrap_or_default();
    if !label.is_empty() && NO_NAMES.iter().any(|none| current == *none) {
        match sethostname(label) {
            Ok(()) => tracing::info!("this machine is called {label}"),
            Err(e) => warn!("naming this machine {label}: {e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn configuration() -> Configuration {
        Configuration {
            address: Ipv4Addr::new(10, 0, 0, 9),
            prefix: 24,
            routes: Vec::new(),
            mtu: None,
            name_servers: vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)],
            domain: Some("lab.example".into()),
            search: Vec::new(),
            host_name: None,
        }
    }

    #[test]
    fn resolv_conf_is_replaced_as_a_whole() {
        let etc = tempfile::tempdir().unwrap();
        let etc = etc.path().join("not/there/yet");
        write_resolv_conf(&etc, &configuration()).unwrap();
        let mut next = configuration();
        next.search = vec!["a.example".into(), "b.example".into()];
        next.name_servers.pop();
        write_resolv_conf(&etc, &next).unwrap();
        let text = fs::read_to_string(etc.join("resolv.conf")).unwrap();
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines, ["search a.example b.example", "nameserver 10.0.0.1"]);
        assert_eq!(fs::read_dir(&etc).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn the_domain_stands_in_for_a_search_list() {
        assert!(
            resolv_conf(&configuration()).contains("search lab.example\nnameserver 10.0.0.1\n")
        );
        let nothing = Configuration { domain: None, name_servers: Vec::new(), ..configuration() };
        assert_eq!(resolv_conf(&nothing).lines().count(), 1);
    }
}
