//! Puts a lease to use: address, routes, MTU, `resolv.conf`, host name.

use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::{gethostname, sethostname};
use tracing::warn;

use super::netlink::Netlink;
use super::{Interface, Lease, Options};

/// What the kernel calls a machine that nobody has named, and what everyone calls it.
const NO_NAMES: [&str; 3] = ["", "(none)", "localhost"];

/// Uses a lease. An error means that the interface has no address; what is less is logged.
pub(super) fn apply(options: &Options, interface: &Interface, lease: &Lease) -> io::Result<()> {
    let Interface { name, index, .. } = interface;
    let mut netlink = Netlink::open()?;
    if let Some(mtu) = lease.mtu
        && let Err(e) = netlink.set_mtu(*index, mtu)
    {
        warn!("{name}: setting the MTU of {mtu} that the DHCP server asks for: {e}");
    }
    netlink.set_address(*index, lease.address, lease.prefix)?;
    for route in &lease.routes {
        if let Err(e) = netlink.set_route(*index, lease.address, route) {
            warn!("{name}: setting the route to {}/{}: {e}", route.destination, route.prefix);
        }
    }
    if let Err(e) = write_resolv_conf(&options.etc, lease) {
        warn!("writing {}: {e}; names cannot be resolved", options.etc.display());
    }
    if let Some(host_name) = &lease.host_name {
        name_machine(host_name);
    }
    Ok(())
}

/// Stops using a lease.
pub(super) fn remove(interface: &Interface, lease: &Lease) {
    let removed = Netlink::open().and_then(|mut netlink| {
        netlink.remove_address(interface.index, lease.address, lease.prefix)
    });
    if let Err(e) = removed {
        warn!("{}: taking the address {} away: {e}", interface.name, lease.address);
    }
}

fn write_resolv_conf(etc: &Path, lease: &Lease) -> io::Result<()> {
    fs::create_dir_all(etc)?;
    let new = etc.join("resolv.conf.new");
    fs::write(&new, resolv_conf(lease))?;
    // A reader sees the old file or the new one, never a part.
    fs::rename(new, etc.join("resolv.conf"))
}

fn resolv_conf(lease: &Lease) -> String {
    let mut text = String::from("# Written by nibs from its DHCP lease.\n");
    let search = match (&lease.search[..], &lease.domain) {
        ([], None) => None,
        ([], Some(domain)) => Some(domain.clone()),
        (search, _) => Some(search.join(" ")),
    };
    text.extend(search.map(|search| format!("search {search}\n")));
    text.extend(lease.name_servers.iter().map(|server| format!("nameserver {server}\n")));
    text
}

/// Names the machine, unless it has a name.
fn name_machine(host_name: &str) {
    let current = gethostname().unwrap_or_default();
    let label = host_name.split('.').next().unwrap_or_default();
    if !label.is_empty() && NO_NAMES.iter().any(|none| current == *none) {
        match sethostname(label) {
            Ok(()) => tracing::info!("this machine is called {label}, says the DHCP server"),
            Err(e) => warn!("naming this machine {label}: {e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn lease() -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 0, 9),
            prefix: 24,
            routes: Vec::new(),
            mtu: None,
            name_servers: vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)],
            domain: Some("lab.example".into()),
            search: Vec::new(),
            host_name: None,
            server: Ipv4Addr::new(10, 0, 0, 1),
            duration: None,
            renew_after: Duration::MAX,
            rebind_after: Duration::MAX,
        }
    }

    #[test]
    fn resolv_conf_is_replaced_as_a_whole() {
        let etc = tempfile::tempdir().unwrap();
        let etc = etc.path().join("not/there/yet");
        write_resolv_conf(&etc, &lease()).unwrap();
        let mut next = lease();
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
        assert!(resolv_conf(&lease()).contains("search lab.example\nnameserver 10.0.0.1\n"));
        let nothing = Lease { domain: None, name_servers: Vec::new(), ..lease() };
        assert_eq!(resolv_conf(&nothing).lines().count(), 1);
    }
}
