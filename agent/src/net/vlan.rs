//! VLANs: interfaces that send and take the frames of one VLAN (IEEE 802.1Q) on another interface.

use std::io;
use std::path::Path;
use std::str::FromStr;

use nix::net::if_::if_nametoindex;

use super::Interface;
use super::interfaces;
use super::netlink::Netlink;

/// Longest name that Linux gives an interface, bytes (`IFNAMSIZ` less the end of the string).
const MAX_NAME: usize = 15;

/// Number of a VLAN: 1 to 4094.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanId(u16);

impl FromStr for VlanId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(id @ 1..=4094) => Ok(Self(id)),
            _ => Err(format!("expected the number of a VLAN, 1 to 4094, found {text:?}")),
        }
    }
}

impl std::fmt::Display for VlanId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The interface of a VLAN on another interface, which is made if it is not there, and switched on.
pub(super) fn interface(sys: &Path, on: &Interface, id: VlanId) -> io::Result<Interface> {
    let name = name(&on.name, id);
    let failed = |what: &str, e: io::Error| {
        io::Error::new(e.kind(), format!("{what} {name} for VLAN {id}: {e}"))
    };
    let mut netlink = Netlink::open()?;
    match netlink.add_vlan(on.index, &name, id.0) {
        Ok(()) => {}
        // An agent before this one has left it.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            let what = "this kernel has no VLANs (CONFIG_VLAN_8021Q); making";
            return Err(failed(what, e));
        }
        Err(e) => return Err(failed("making", e)),
    }
    let index = if_nametoindex(name.as_str()).map_err(|e| failed("looking for", e.into()))?;
    netlink.set_up(index).map_err(|e| failed("switching on", e))?;
    interfaces::find(sys, &name)
        .ok_or_else(|| failed("looking for", io::ErrorKind::NotFound.into()))
}

/// `eth0.7`, as everyone calls it, or `vlan7` where that is too long for Linux.
fn name(on: &str, id: VlanId) -> String {
    let name = format!("{on}.{id}");
    if name.len() <= MAX_NAME { name } else { format!("vlan{id}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vlan_has_a_number_in_its_range() {
        assert_eq!("7".parse::<VlanId>().unwrap().to_string(), "7");
        assert!("4094".parse::<VlanId>().is_ok());
        for nonsense in ["", "0", "4095", "-1", "seven", "7 "] {
            let error = nonsense.parse::<VlanId>().unwrap_err();
            assert!(error.contains("1 to 4094") && error.contains(nonsense), "{error}");
        }
    }

    #[test]
    fn its_interface_is_named_as_linux_can_hold_it() {
        assert_eq!(name("eno1", VlanId(100)), "eno1.100");
        assert_eq!(name("enp194s0f0", VlanId(4094)), "enp194s0f0.4094");
        assert_eq!(name("enp194s0f0np0", VlanId(4094)), "vlan4094");
    }
}
