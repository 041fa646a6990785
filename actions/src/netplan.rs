//! The machine's DHCP lease as a static network for netplan (netplan.io, "YAML configuration").

use std::fmt::Write;
use std::net::IpAddr;

use nibs_bottlerocket::net_toml::Lease;
use nibs_job::params::Netplan;

use crate::Context;

/// What the file calls an interface that is known by its address.
const BY_ADDRESS: &str = "leased";

/// The bytes of the file.
pub(crate) fn make(asked: &Netplan, context: &Context) -> Result<Vec<u8>, String> {
    let lease = context.machine.lease.as_ref().ok_or(
        "this machine has no DHCP lease to make it of; the agent takes one where it brings up the \
         network, or asks for one where it runs the action",
    )?;
    Ok(render(lease, asked.interface.as_deref()).into_bytes())
}

/// Every scalar is quoted: an address would be a number in base 60 to some readers of YAML 1.1.
fn render(lease: &Lease, interface: Option<&str>) -> String {
    let mut text = String::from("network:\n  version: 2\n  ethernets:\n");
    let mut line = |depth: usize, what: &str| {
        text.push_str(&"  ".repeat(depth));
        text.push_str(what);
        text.push('\n');
    };
    line(2, &format!("{}:", quoted(interface.unwrap_or(BY_ADDRESS))));
    if interface.is_none() {
        line(3, "match:");
        line(4, &format!("macaddress: {}", quoted(&lease.interface.to_string())));
    }
    line(3, "dhcp4: false");
    line(3, &format!("addresses: {}", list(&lease.addresses)));
    let default =
        lease.gateway.filter(|_| lease.routes.iter().all(|(net, _)| net.prefix_len() > 0));
    let any = |gateway: IpAddr| if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    let mut routes: Vec<(String, Option<IpAddr>)> =
        lease.routes.iter().map(|(net, via)| (net.trunc().to_string(), *via)).collect();
    routes.extend(default.map(|gateway| (any(gateway).to_owned(), Some(gateway))));
    if !routes.is_empty() {
        line(3, "routes:");
    }
    for (to, via) in routes {
        line(4, &format!("- to: {}", quoted(&to)));
        match via {
            Some(gateway) => {
                line(5, &format!("via: {}", quoted(&gateway.to_string())));
                // Some providers lease a single address, with a gateway beside it.
                if !lease.addresses.iter().any(|net| net.contains(&gateway)) {
                    line(5, "on-link: true");
                }
            }
            None => line(5, "scope: link"),
        }
    }
    let search = if lease.search.is_empty() { lease.domain.as_slice() } else { &lease.search };
    if !lease.name_servers.is_empty() || !search.is_empty() {
        line(3, "nameservers:");
    }
    if !lease.name_servers.is_empty() {
        line(4, &format!("addresses: {}", list(&lease.name_servers)));
    }
    if !search.is_empty() {
        line(4, &format!("search: {}", list(search)));
    }
    text
}

fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// A double-quoted scalar (YAML 1.2, section 7.3.1).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            // Writing to a String cannot fail.
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease {
            interface: "52:54:00:12:34:56".parse().unwrap(),
            addresses: vec!["10.0.0.9/24".parse().unwrap()],
            gateway: Some("10.0.0.1".parse().unwrap()),
            routes: Vec::new(),
            name_servers: vec!["10.0.0.53".parse().unwrap()],
            search: Vec::new(),
            domain: Some("example.net".to_owned()),
        }
    }

    #[test]
    fn a_lease_becomes_a_static_network_of_the_named_interface() {
        let expected = r#"network:
  version: 2
  ethernets:
    "eno1":
      dhcp4: false
      addresses: ["10.0.0.9/24"]
      routes:
        - to: "0.0.0.0/0"
          via: "10.0.0.1"
      nameservers:
        addresses: ["10.0.0.53"]
        search: ["example.net"]
"#;
        assert_eq!(render(&lease(), Some("eno1")), expected);
    }

    #[test]
    fn without_a_name_the_interface_is_known_by_its_address_and_a_far_gateway_is_on_the_link() {
        let routes = vec![("0.0.0.0/0".parse().unwrap(), Some("10.9.9.1".parse().unwrap()))];
        let text = render(&Lease { routes, ..lease() }, None);
        let matched = "\"leased\":\n      match:\n        macaddress: \"52:54:00:12:34:56\"\n";
        assert!(text.contains(matched), "{text}");
        let route = "- to: \"0.0.0.0/0\"\n          via: \"10.9.9.1\"\n          on-link: true\n";
        assert!(text.contains(route) && !text.contains("10.0.0.1\""), "{text}");
    }

    #[test]
    fn nothing_in_a_lease_leaves_its_quotes() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#);
    }
}
