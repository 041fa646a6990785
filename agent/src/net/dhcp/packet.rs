//! IPv4 and UDP around a DHCP message, for the time when the kernel has no address to send from.

use std::net::Ipv4Addr;

pub(super) const SERVER_PORT: u16 = 67;
pub(super) const CLIENT_PORT: u16 = 68;

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const PROTOCOL_UDP: u8 = 17;
const TIME_TO_LIVE: u8 = 64;

/// Bits of the fragment field other than "do not fragment".
const FRAGMENT: u16 = 0x3fff;

/// A packet from the client's port to the server's.
pub(super) fn wrap(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let udp_length = (UDP_HEADER + payload.len()) as u16;
    let total = IP_HEADER as u16 + udp_length;
    let mut packet = Vec::with_capacity(usize::from(total));
    packet.extend([0x45, 0]);
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, TIME_TO_LIVE, PROTOCOL_UDP, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());

    packet.extend(CLIENT_PORT.to_be_bytes());
    packet.extend(SERVER_PORT.to_be_bytes());
    packet.extend(udp_length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend_from_slice(payload);
    let pseudo = [[0, PROTOCOL_UDP], udp_length.to_be_bytes()].concat();
    let sum = match checksum(&[&packet[12..IP_HEADER], &pseudo, &packet[IP_HEADER..]]) {
        // Zero means that there is none (RFC 768).
        0 => 0xffff,
        sum => sum,
    };
    packet[IP_HEADER + 6..IP_HEADER + 8].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// What a packet carries to the client's port. None if it carries nothing there.
///
/// The checksum of UDP is not looked at: a packet from the same host, as virtual machines get,
/// comes before anything has filled it in.
pub(super) fn unwrap(packet: &[u8]) -> Option<&[u8]> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let (ip, rest) = packet.get(..total)?.split_at_checked(header)?;
    let is_udp = header >= IP_HEADER && ip[0] >> 4 == 4 && ip[9] == PROTOCOL_UDP;
    if !is_udp || u16::from_be_bytes([ip[6], ip[7]]) & FRAGMENT != 0 || checksum(&[ip]) != 0 {
        return None;
    }
    let (udp, _) = rest.split_at_checked(UDP_HEADER)?;
    let port = u16::from_be_bytes([udp[2], udp[3]]);
    let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    (port == CLIENT_PORT).then(|| rest.get(UDP_HEADER..length))?
}

/// The internet checksum (RFC 1071) over parts of even length, save the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Makes a client's packet look like the server's answer.
    fn turn(mut packet: Vec<u8>) -> Vec<u8> {
        packet.swap(20, 22);
        packet.swap(21, 23);
        packet
    }

    #[test]
    fn the_checksums_are_those_of_the_rfcs() {
        // The example of RFC 1071 section 3.
        assert_eq!(checksum(&[&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        let packet = wrap(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, b"odd");
        assert_eq!(checksum(&[&packet[..20]]), 0);
        assert_eq!(checksum(&[&packet[12..20], &[0, 17, 0, 11], &packet[20..]]), 0);
    }

    #[test]
    fn what_is_wrapped_comes_out_without_the_frames_padding() {
        let mut packet = turn(wrap(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::BROADCAST, b"hello"));
        packet.extend([0; 20]);
        assert_eq!(unwrap(&packet), Some(&b"hello"[..]));
    }

    #[test]
    fn other_packets_are_left_alone() {
        let right = turn(wrap(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::BROADCAST, b"hello"));
        for end in 0..right.len() {
            assert_eq!(unwrap(&right[..end]), None, "cut at {end}");
        }
        // Version, header length, more fragments, protocol, address, port.
        for (at, bits) in [(0, 0x20), (0, 0x01), (6, 0x20), (9, 0x01), (14, 0x01), (23, 0x01)] {
            let mut wrong = right.clone();
            wrong[at] ^= bits;
            assert_eq!(unwrap(&wrong), None, "byte {at}");
        }
        let mut long = right;
        long[24..26].copy_from_slice(&100u16.to_be_bytes());
        assert_eq!(unwrap(&long), None, "UDP says more than there is");
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = unwrap(&bytes);
            // As IPv4 of UDP with a right checksum, so that the rest is looked at.
            if bytes.len() >= IP_HEADER {
                bytes[0] = 0x45 | bytes[0] & 0x0f;
                bytes[6..8].fill(0);
                (bytes[9], bytes[10], bytes[11]) = (PROTOCOL_UDP, 0, 0);
                let header = usize::from(bytes[0] & 0x0f) * 4;
                if let Some(ip) = bytes.get(..header) {
                    let sum = checksum(&[ip]).to_be_bytes();
                    bytes[10..12].copy_from_slice(&sum);
                }
                if let Some(payload) = unwrap(&bytes) {
                    prop_assert!(payload.len() + header + UDP_HEADER <= bytes.len());
                }
            }
        }

        #[test]
        fn every_payload_comes_out_as_it_went_in(payload in prop::collection::vec(any::<u8>(), 0..600), padding in 0..30_usize) {
            let mut packet = turn(wrap(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::BROADCAST, &payload));
            packet.resize(packet.len() + padding, 0);
            prop_assert_eq!(unwrap(&packet), Some(&payload[..]));
        }
    }
}
