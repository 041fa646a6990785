//! The few requests of rtnetlink(7) that an interface needs: up, MTU, VLAN, address, route.
//!
//! Five messages and their acknowledgement do not earn a crate of their own; `rtnetlink` and what
//! it brings weigh about 1 MB.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::Route;

/// The kernel answers within the system call that asks; this is for a kernel that does not.
const ANSWER_TIMEOUT: TimeVal = TimeVal::new(2, 0);

/// Room for an acknowledgement, which repeats the request.
const ANSWER_SIZE: usize = 4096;

const HEADER: usize = 16;

/// Protocol that marks our routes as made by a DHCP client (RTPROT_DHCP, not in `libc`).
const PROTOCOL_DHCP: u8 = 16;

/// Protocol that marks them as given by the administrator (RTPROT_STATIC, not in `libc`).
const PROTOCOL_STATIC: u8 = 4;

/// The attribute that holds a VLAN's number (linux/if_link.h, not in `libc`).
const IFLA_VLAN_ID: u16 = 1;

/// The router is reached on the link even if no address says so (RTNH_F_ONLINK, not in `libc`).
const ROUTER_IS_ON_LINK: u32 = 4;

/// Who decided on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decided {
    ByDhcp,
    ByHand,
}

/// A socket to the kernel's routing tables.
#[derive(Debug)]
pub(super) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &ANSWER_TIMEOUT)?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Switches an interface on.
    pub(super) fn set_up(&mut self, index: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        self.request(&Request::new(libc::RTM_NEWLINK, 0, &link(index, up, up)))
    }

    /// Sets an interface's largest packet, bytes.
    pub(super) fn set_mtu(&mut self, index: u32, mtu: u16) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_NEWLINK, 0, &link(index, 0, 0));
        request.attribute(libc::IFLA_MTU, &u32::from(mtu).to_ne_bytes());
        self.request(&request)
    }

    /// Makes an interface of this name for a VLAN on another interface.
    pub(super) fn add_vlan(&mut self, on: u32, name: &str, id: u16) -> io::Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut request = Request::new(libc::RTM_NEWLINK, flags, &link(0, 0, 0));
        request.attribute(libc::IFLA_LINK, &on.to_ne_bytes());
        request.attribute(libc::IFLA_IFNAME, name.as_bytes());
        let mut vlan = Vec::new();
        attribute(&mut vlan, IFLA_VLAN_ID, &id.to_ne_bytes());
        let mut info = Vec::new();
        attribute(&mut info, libc::IFLA_INFO_KIND, b"vlan");
        attribute(&mut info, libc::IFLA_INFO_DATA, &vlan);
        request.attribute(libc::IFLA_LINKINFO, &info);
        self.request(&request)
    }

    /// Gives an interface an address, or takes one up that it has.
    pub(super) fn set_address(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        prefix: u8,
    ) -> io::Result<()> {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let mut request = address_request(libc::RTM_NEWADDR, flags, index, address, prefix);
        if prefix < 31 {
            let broadcast = u32::from(address) | u32::MAX >> prefix;
            request.attribute(libc::IFA_BROADCAST, &broadcast.to_be_bytes());
        }
        self.request(&request)
    }

    /// Takes an address away, and with it the routes that go out from it.
    pub(super) fn remove_address(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        prefix: u8,
    ) -> io::Result<()> {
        self.request(&address_request(libc::RTM_DELADDR, 0, index, address, prefix))
    }

    /// Adds a route by way of an interface, or puts it in the place of one to the same network.
    /// Packets leave with `source`. The router need not be in the interface's own network.
    pub(super) fn set_route(
        &mut self,
        index: u32,
        source: Ipv4Addr,
        route: &Route,
        by: Decided,
    ) -> io::Result<()> {
        let scope = match route.gateway {
            Some(_) => libc::RT_SCOPE_UNIVERSE,
            None => libc::RT_SCOPE_LINK,
        };
        let flags = if route.gateway.is_some() { ROUTER_IS_ON_LINK } else { 0 };
        let mut body = vec![
            libc::AF_INET as u8,
            route.prefix,
            0,
            0,
            libc::RT_TABLE_MAIN,
            match by {
                Decided::ByDhcp => PROTOCOL_DHCP,
                Decided::ByHand => PROTOCOL_STATIC,
            },
            scope,
            libc::RTN_UNICAST,
        ];
        body.extend(flags.to_ne_bytes());
        let replace = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let mut request = Request::new(libc::RTM_NEWROUTE, replace, &body);
        if route.prefix > 0 {
            request.attribute(libc::RTA_DST, &route.destination.octets());
        }
        if let Some(gateway) = route.gateway {
            request.attribute(libc::RTA_GATEWAY, &gateway.octets());
        }
        request.attribute(libc::RTA_PREFSRC, &source.octets());
        request.attribute(libc::RTA_OIF, &index.to_ne_bytes());
        self.request(&request)
    }

    /// Sends a request and waits for the kernel's word on it.
    fn request(&mut self, request: &Request) -> io::Result<()> {
        self.sequence += 1;
        let bytes = request.bytes(self.sequence);
        sendto(self.fd.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = [0; ANSWER_SIZE];
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            if let Some(result) = acknowledgement(&answer[..length], self.sequence) {
                return result;
            }
        }
    }
}

/// The kernel's word on request `sequence`; None if this is about another one.
fn acknowledgement(answer: &[u8], sequence: u32) -> Option<io::Result<()>> {
    let word = |at: usize| answer.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if i32::from(kind) != libc::NLMSG_ERROR || word(8)? != sequence {
        return None;
    }
    let errno = word(HEADER)? as i32;
    Some(if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-errno)) })
}

/// The body of a message about an interface (`struct ifinfomsg`).
fn link(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(change.to_ne_bytes());
    body
}

fn address_request(
    kind: u16,
    flags: libc::c_int,
    index: u32,
    address: Ipv4Addr,
    prefix: u8,
) -> Request {
    let mut body = vec![libc::AF_INET as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE];
    body.extend(index.to_ne_bytes());
    let mut request = Request::new(kind, flags, &body);
    request.attribute(libc::IFA_LOCAL, &address.octets());
    request.attribute(libc::IFA_ADDRESS, &address.octets());
    request
}

/// A message to the kernel: header, body, attributes.
#[derive(Debug)]
struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: libc::c_int, body: &[u8]) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        Self { kind, flags, body: body.to_vec() }
    }

    /// Appends an attribute.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        attribute(&mut self.body, kind, value);
    }

    fn bytes(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend(((HEADER + self.body.len()) as u32).to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Appends an attribute, filled up to four bytes. Its value may be attributes again.
fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = 4 + value.len();
    to.extend((length as u16).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend_from_slice(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_framed_and_its_attributes_are_filled_up() {
        let mut request = Request::new(libc::RTM_NEWLINK, 0, &link(7, 1, 1));
        request.attribute(libc::IFLA_MTU, &[1, 2, 3]);
        let bytes = request.bytes(9);
        assert_eq!(bytes.len(), 16 + 16 + 8);
        assert_eq!(bytes[..4], 40u32.to_ne_bytes());
        assert_eq!(bytes[8..12], 9u32.to_ne_bytes());
        assert_eq!(bytes[32..34], 7u16.to_ne_bytes(), "the length leaves the filling out");
        assert_eq!(bytes[36..], [1, 2, 3, 0]);
    }

    #[test]
    fn the_kernels_word_is_taken_for_its_own_request_only() {
        let word = |errno: i32| {
            let mut bytes = Request::new(libc::NLMSG_ERROR as u16, 0, &errno.to_ne_bytes());
            bytes.flags = 0;
            bytes.bytes(3)
        };
        assert!(acknowledgement(&word(0), 3).unwrap().is_ok());
        let error = acknowledgement(&word(-libc::EPERM), 3).unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert!(acknowledgement(&word(0), 4).is_none());
        for end in 0..20 {
            assert!(acknowledgement(&word(0)[..end], 3).is_none(), "{end}");
        }
    }
}
