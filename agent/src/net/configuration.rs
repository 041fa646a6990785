//! How an interface is configured, by whomever it was decided: a DHCP server or the kernel command
//! line.

use std::net::Ipv4Addr;

/// Most name servers that a resolver asks.
pub(super) const MAX_NAME_SERVERS: usize = 3;

/// A route by way of the interface that is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Network that it leads to; 0.0.0.0 with prefix 0 is the default route.
    pub destination: Ipv4Addr,
    /// Length of the network's prefix, bits.
    pub prefix: u8,
    /// Router; absent if the network is on the link itself.
    pub gateway: Option<Ipv4Addr>,
}

impl Route {
    /// The default route by way of a router.
    pub(super) fn default_by(gateway: Ipv4Addr) -> Self {
        Self { destination: Ipv4Addr::UNSPECIFIED, prefix: 0, gateway: Some(gateway) }
    }
}

/// An address, and how to use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// This machine's address.
    pub address: Ipv4Addr,
    /// Length of its network's prefix, bits.
    pub prefix: u8,
    /// Routes: the classless ones (option 121) or else the default one.
    pub routes: Vec<Route>,
    /// Largest packet of the link, bytes.
    pub mtu: Option<u16>,
    /// DNS servers, in order.
    pub name_servers: Vec<Ipv4Addr>,
    /// DNS domain of the machine.
    pub domain: Option<String>,
    /// DNS domains to seek short names in.
    pub search: Vec<String>,
    /// Name for the machine, as told.
    pub host_name: Option<String>,
}

/// Length of the prefix that a mask stands for; none if its ones are not in one piece.
pub(super) fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let mask = u32::from(mask);
    let prefix = mask.leading_ones();
    (prefix + mask.trailing_zeros() == 32 || prefix == 32).then_some(prefix as u8)
}

/// A name as it may stand in resolv.conf: whoever decides on a network must not write other lines
/// there.
pub(super) fn domain(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches(['\0', '.']);
    let fits = text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'));
    (fits && !text.is_empty() && text.len() <= 253).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_a_prefix_if_its_ones_are_in_one_piece() {
        let prefix = |mask: &str| prefix_of(mask.parse().unwrap());
        assert_eq!(prefix("255.255.255.0"), Some(24));
        assert_eq!(prefix("255.255.255.255"), Some(32));
        assert_eq!(prefix("0.0.0.0"), Some(0));
        assert_eq!(prefix("255.0.255.0"), None);
    }
}
