//! How DHCP messages travel: by raw IPv4 packets until there is an address, then by UDP.

use std::io;
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;

use super::packet::{self, CLIENT_PORT, SERVER_PORT};

/// Longer than any frame of Ethernet, jumbo frames too.
const MAX_PACKET: usize = 9216;

/// Sends and takes IPv4 packets on an interface that has no address.
#[derive(Debug)]
pub(in crate::net) struct PacketSocket {
    fd: AsyncFd<OwnedFd>,
    index: u32,
}

impl PacketSocket {
    /// Opens one on the interface with this index. Needs CAP_NET_RAW.
    pub(in crate::net) fn open(index: u32) -> io::Result<Self> {
        let protocol = libc::c_int::from((libc::ETH_P_IP as u16).to_be());
        let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Protocol 0: nothing comes in before the socket is bound to its one interface.
        // SAFETY: no pointers are passed, and the result is checked before it is owned.
        #[allow(unsafe_code)]
        let fd = unsafe {
            let fd = libc::socket(libc::AF_PACKET, kind, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let mut address = link_address(index);
        address.sll_protocol = protocol as u16;
        // SAFETY: the address is a whole sockaddr_ll, and its length is passed with it.
        #[allow(unsafe_code)]
        let bound =
            unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), address_length()) };
        check(bound as isize)?;
        // SAFETY: an OwnedFd is the same open descriptor for as long as it lives.
        #[allow(unsafe_code)]
        let fd = unsafe { AsyncFd::register(fd) }?;
        Ok(Self { fd, index })
    }

    /// Sends a message to every server on the link, from `source`, which may be unspecified.
    pub(in crate::net) async fn broadcast(
        &self,
        source: Ipv4Addr,
        message: &[u8],
    ) -> io::Result<()> {
        self.send(&packet::wrap(source, Ipv4Addr::BROADCAST, message)).await
    }

    async fn send(&self, packet: &[u8]) -> io::Result<()> {
        let mut address = link_address(self.index);
        address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        address.sll_halen = 6;
        address.sll_addr[..6].fill(0xff);
        let sent = self.fd.async_io(tokio::io::Interest::WRITABLE, |fd| {
            // SAFETY: both pointers are of live values and go with their own lengths.
            #[allow(unsafe_code)]
            let sent = unsafe {
                libc::sendto(
                    fd.as_raw_fd(),
                    packet.as_ptr().cast(),
                    packet.len(),
                    0,
                    (&raw const address).cast(),
                    address_length(),
                )
            };
            check(sent)
        });
        sent.await.map(|_| ())
    }

    /// The next message to a DHCP client on the link, this one or another.
    pub(in crate::net) async fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            let mut from = link_address(0);
            let received = self.fd.async_io(tokio::io::Interest::READABLE, |fd| {
                let mut length = address_length();
                // SAFETY: the buffers are live, exclusively ours, and go with their own lengths.
                #[allow(unsafe_code)]
                let received = unsafe {
                    libc::recvfrom(
                        fd.as_raw_fd(),
                        buffer.as_mut_ptr().cast(),
                        buffer.len(),
                        0,
                        (&raw mut from).cast(),
                        &raw mut length,
                    )
                };
                check(received)
            });
            let length = received.await?;
            // Frames of a VLAN that is not set up come with its tag taken off, as another host's.
            let is_ours =
                !matches!(from.sll_pkttype, libc::PACKET_OTHERHOST | libc::PACKET_OUTGOING);
            if let Some(message) = packet::unwrap(&buffer[..length]).filter(|_| is_ours) {
                return Ok(message.to_vec());
            }
        }
    }
}

fn link_address(index: u32) -> libc::sockaddr_ll {
    // SAFETY: sockaddr_ll is plain numbers, for which all zeros is a value.
    #[allow(unsafe_code)]
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index as i32;
    address
}

fn address_length() -> libc::socklen_t {
    size_of::<libc::sockaddr_ll>() as libc::socklen_t
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sends and takes messages on an interface that has the leased address, for renewals.
#[derive(Debug)]
pub(in crate::net) struct LeaseSocket(UdpSocket);

impl LeaseSocket {
    /// Opens one on the interface with this name. Needs CAP_NET_RAW and CAP_NET_BIND_SERVICE.
    pub(in crate::net) fn open(interface: &str) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, SockProtocol::Udp)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        setsockopt(&fd, sockopt::Broadcast, &true)?;
        setsockopt(&fd, sockopt::BindToDevice, &interface.into())?;
        bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, CLIENT_PORT))?;
        Ok(Self(UdpSocket::from_std(fd.into())?))
    }

    /// Sends a message to one server, or to all with [`Ipv4Addr::BROADCAST`].
    pub(in crate::net) async fn send(&self, server: Ipv4Addr, message: &[u8]) -> io::Result<()> {
        self.0.send_to(message, (server, SERVER_PORT)).await.map(|_| ())
    }

    /// The next message.
    pub(in crate::net) async fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; MAX_PACKET];
        let (length, _) = self.0.recv_from(&mut buffer).await?;
        buffer.truncate(length);
        Ok(buffer)
    }
}
