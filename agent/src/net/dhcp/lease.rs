//! What a server grants: an address for a time, and how to use it.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::configuration::{MAX_NAME_SERVERS, domain, prefix_of};
use super::super::{Configuration, Route};
use super::message::{Message, option};

/// For a server that grants an address and does not say for how long.
const DEFAULT_DURATION: Duration = Duration::from_secs(3600);

/// A shorter lease would keep the client asking all the time.
const MIN_DURATION: Duration = Duration::from_secs(10);

/// The lease time that means for ever (RFC 2131 section 3.3).
const FOR_EVER: u32 = u32::MAX;

/// Smallest MTU worth believing: every IPv4 host takes packets of this size (RFC 791).
const MIN_MTU: u16 = 576;

/// What a DHCP server granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address, and how to use it.
    pub configuration: Configuration,
    /// Who granted it.
    pub server: Ipv4Addr,
    /// For how long; absent if for ever.
    pub duration: Option<Duration>,
    /// Time from the grant to the first attempt to renew it (T1).
    pub renew_after: Duration,
    /// Time from the grant to the first attempt to renew it anywhere (T2).
    pub rebind_after: Duration,
}

impl Lease {
    /// What an offer or an acknowledgement grants. None if it grants nothing usable.
    pub(super) fn from_message(message: &Message) -> Option<Self> {
        let options = &message.options;
        let address = message.yours;
        if address.is_unspecified() || address.is_broadcast() || address.is_loopback() {
            return None;
        }
        let server = options.address(option::SERVER)?;
        let prefix = match options.address(option::SUBNET_MASK).and_then(prefix_of) {
            Some(prefix @ 1..) => prefix,
            _ => classful_prefix(address),
        };
        let routes = match options.get(option::CLASSLESS_ROUTES).map(classless_routes) {
            // RFC 3442: a client that takes these ignores the routers.
            Some(routes) if !routes.is_empty() => routes,
            _ => options.address(option::ROUTERS).map(Route::default_by).into_iter().collect(),
        };
        let seconds = options.number(option::LEASE_TIME);
        let duration = match seconds {
            Some(FOR_EVER) => None,
            Some(seconds) => Some(Duration::from_secs(seconds.into()).max(MIN_DURATION)),
            None => Some(DEFAULT_DURATION),
        };
        let (renew_after, rebind_after) = renewal_times(
            duration.unwrap_or(Duration::MAX),
            options.number(option::RENEWAL_TIME),
            options.number(option::REBINDING_TIME),
        );
        let mut name_servers = options.addresses(option::NAME_SERVERS);
        name_servers.retain(|server| !server.is_unspecified());
        name_servers.truncate(MAX_NAME_SERVERS);
        let mtu = options.get(option::MTU).and_then(|bytes| bytes.try_into().ok());
        let configuration = Configuration {
            address,
            prefix,
            routes,
            mtu: mtu.map(u16::from_be_bytes).filter(|mtu| *mtu >= MIN_MTU),
            name_servers,
            domain: options.get(option::DOMAIN).and_then(domain),
            search: options.get(option::SEARCH).map(search_list).unwrap_or_default(),
            host_name: options.get(option::HOST_NAME).and_then(domain),
        };
        Some(Self { configuration, server, duration, renew_after, rebind_after })
    }
}

/// The prefix before there were masks, for a server that sends none or nonsense.
fn classful_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}

/// T1 and T2: as told if they make sense, else one half and seven eighths (RFC 2131 4.4.5).
fn renewal_times(lease: Duration, t1: Option<u32>, t2: Option<u32>) -> (Duration, Duration) {
    // Zero would have the client ask again as soon as it is answered.
    let told =
        |seconds: Option<u32>| seconds.filter(|s| *s > 0).map(|s| Duration::from_secs(s.into()));
    let rebind = told(t2).filter(|t2| *t2 < lease).unwrap_or(lease / 8 * 7);
    let renew = told(t1).filter(|t1| *t1 <= rebind).unwrap_or((lease / 2).min(rebind));
    (renew, rebind)
}

/// Option 121: for each route a prefix length, the octets that it covers, and a router.
fn classless_routes(mut bytes: &[u8]) -> Vec<Route> {
    let mut routes = Vec::new();
    while let [prefix @ 0..=32, rest @ ..] = bytes {
        let width = usize::from(prefix.div_ceil(8));
        let Some((network, rest)) = rest.split_at_checked(width) else { break };
        let Some((gateway, rest)) = rest.split_first_chunk::<4>() else { break };
        let mut octets = [0; 4];
        octets[..width].copy_from_slice(network);
        // The kernel refuses a network with bits beyond its prefix.
        let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
        let gateway = Ipv4Addr::from(*gateway);
        routes.push(Route {
            destination: Ipv4Addr::from(u32::from_be_bytes(octets) & mask),
            prefix: *prefix,
            gateway: (!gateway.is_unspecified()).then_some(gateway),
        });
        bytes = rest;
    }
    routes
}

/// Option 119: names in DNS's encoding, compressed within the option (RFC 3397, RFC 1035 4.1.4).
fn search_list(bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let Some((name, next)) = dns_name(bytes, at) else { break };
        names.extend(domain(name.as_bytes()));
        at = next;
    }
    names
}

/// The name at `at`, and where the next one begins.
fn dns_name(bytes: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels: Vec<&str> = Vec::new();
    let mut next = None;
    let mut floor = at;
    loop {
        let length = usize::from(*bytes.get(at)?);
        match length {
            0 => return Some((labels.join("."), next.unwrap_or(at + 1))),
            1..=63 => {
                labels.push(std::str::from_utf8(bytes.get(at + 1..at + 1 + length)?).ok()?);
                at += 1 + length;
            }
            192.. => {
                let target = (length & 63) << 8 | usize::from(*bytes.get(at + 1)?);
                next.get_or_insert(at + 2);
                // Further back with every jump, or a loop could hide here.
                at = (target < floor).then_some(target)?;
                floor = target;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Kind;
    use super::super::message::tests::answer;
    use super::*;
    use nibs_job::Mac;
    use proptest::prelude::*;

    const SERVER: (u8, &[u8]) = (option::SERVER, &[10, 0, 0, 1]);

    fn lease(options: &[(u8, &[u8])]) -> Option<Lease> {
        let question = Message::new(Kind::Request, 1, Mac([2, 0, 0, 0, 0, 1])).encode();
        let bytes = answer(&question, Kind::Ack, Ipv4Addr::new(10, 0, 0, 9), options);
        Lease::from_message(&Message::decode(&bytes).unwrap())
    }

    #[test]
    fn everything_that_a_server_says_is_taken() {
        let lease = lease(&[
            SERVER,
            (option::SUBNET_MASK, &[255, 255, 252, 0]),
            (option::ROUTERS, &[10, 0, 0, 1, 10, 0, 0, 2]),
            (option::NAME_SERVERS, &[10, 0, 0, 3, 0, 0, 0, 0]),
            (option::DOMAIN, b"lab.example."),
            (option::HOST_NAME, b"node-1\0"),
            (option::MTU, &[0x23, 0x28]),
            (option::SEARCH, b"\x03lab\x07example\x00\x04rack\xc0\x04"),
            (option::LEASE_TIME, &[0, 0, 0, 80]),
        ])
        .unwrap();
        assert_eq!(
            (lease.configuration.address, lease.configuration.prefix),
            (Ipv4Addr::new(10, 0, 0, 9), 22)
        );
        assert_eq!(lease.configuration.routes, [Route::default_by(Ipv4Addr::new(10, 0, 0, 1))]);
        assert_eq!(lease.configuration.name_servers, [Ipv4Addr::new(10, 0, 0, 3)]);
        assert_eq!(lease.configuration.domain.as_deref(), Some("lab.example"));
        assert_eq!(lease.configuration.search, ["lab.example", "rack.example"]);
        assert_eq!(lease.configuration.host_name.as_deref(), Some("node-1"));
        assert_eq!(lease.configuration.mtu, Some(9000));
        assert_eq!(lease.duration, Some(Duration::from_secs(80)));
        assert_eq!(lease.renew_after, Duration::from_secs(40));
        assert_eq!(lease.rebind_after, Duration::from_secs(70));
    }

    #[test]
    fn classless_routes_take_the_place_of_the_router() {
        let routes = [
            0, 10, 0, 0, 254, // default
            23, 10, 9, 3, 0, 0, 0, 0, // on the link, with a bit beyond the prefix
            32, 10, 7, 7, 7, 10, 0, 0, 253,
        ];
        let routers: (u8, &[u8]) = (option::ROUTERS, &[10, 0, 0, 1]);
        let routes = lease(&[SERVER, routers, (option::CLASSLESS_ROUTES, &routes)])
            .unwrap()
            .configuration
            .routes;
        let via = |octet| Some(Ipv4Addr::new(10, 0, 0, octet));
        assert_eq!(routes[0], Route::default_by(Ipv4Addr::new(10, 0, 0, 254)));
        let destination = Ipv4Addr::new(10, 9, 2, 0);
        assert_eq!(routes[1], Route { destination, prefix: 23, gateway: None });
        let destination = Ipv4Addr::new(10, 7, 7, 7);
        assert_eq!(routes[2], Route { destination, prefix: 32, gateway: via(253) });
        let nonsense: (u8, &[u8]) = (option::CLASSLESS_ROUTES, &[33, 1]);
        let routes = lease(&[SERVER, routers, nonsense]).unwrap().configuration.routes;
        assert_eq!(routes, [Route::default_by(Ipv4Addr::new(10, 0, 0, 1))]);
    }

    #[test]
    fn what_is_missing_has_a_default_and_what_is_nonsense_is_left_out() {
        let lease = lease(&[
            SERVER,
            (option::SUBNET_MASK, &[255, 0, 255, 0]),
            (option::DOMAIN, b"lab\nnameserver 6.6.6.6"),
            (option::MTU, &[0, 68]),
            (option::SEARCH, b"\x03lab\xc0\x00"),
            (option::RENEWAL_TIME, &[0, 0, 255, 255]),
        ])
        .unwrap();
        assert_eq!(lease.configuration.prefix, 8);
        assert_eq!((lease.configuration.domain, lease.configuration.mtu), (None, None));
        assert_eq!(lease.configuration.search, Vec::<String>::new());
        assert_eq!(lease.duration, Some(DEFAULT_DURATION));
        assert_eq!(lease.renew_after, DEFAULT_DURATION / 2);
    }

    #[test]
    fn no_server_makes_the_client_ask_without_a_pause() {
        let zero: &[u8] = &[0; 4];
        for nonsense in [option::RENEWAL_TIME, option::REBINDING_TIME] {
            let lease = lease(&[SERVER, (nonsense, zero)]).unwrap();
            assert_eq!(lease.renew_after, DEFAULT_DURATION / 2);
            assert_eq!(lease.rebind_after, DEFAULT_DURATION / 8 * 7);
        }
    }

    #[test]
    fn a_mask_of_nothing_is_no_mask() {
        let lease = lease(&[SERVER, (option::SUBNET_MASK, &[0; 4])]).unwrap();
        assert_eq!(lease.configuration.prefix, 8);
    }

    #[test]
    fn a_lease_that_only_runs_longer_configures_nothing_anew() {
        let of =
            |more: &[(u8, &[u8])]| lease(&[&[SERVER][..], more].concat()).unwrap().configuration;
        let times: (u8, &[u8]) = (option::RENEWAL_TIME, &[0, 0, 0, 99]);
        assert_eq!(of(&[]), of(&[times, (option::LEASE_TIME, &[0, 0, 1, 0])]));
        assert_ne!(of(&[]), of(&[(option::NAME_SERVERS, &[10, 0, 0, 3])]));
    }

    #[test]
    fn a_lease_for_ever_is_not_renewed() {
        let lease = lease(&[SERVER, (option::LEASE_TIME, &[255; 4])]).unwrap();
        assert_eq!(lease.duration, None);
    }

    #[test]
    fn a_grant_of_nothing_is_none() {
        assert_eq!(lease(&[]), None, "nobody to ask for more time");
        let question = Message::new(Kind::Request, 1, Mac([2, 0, 0, 0, 0, 1])).encode();
        let bytes = answer(&question, Kind::Ack, Ipv4Addr::UNSPECIFIED, &[SERVER]);
        assert_eq!(Lease::from_message(&Message::decode(&bytes).unwrap()), None);
    }

    proptest! {
        /// Whoever answers DHCP on a network is not to be trusted with more than that network.
        #[test]
        fn whatever_a_server_says_the_lease_makes_sense(
            yours: u32,
            said in prop::collection::vec(
                (prop::sample::select(&[
                    option::SUBNET_MASK, option::ROUTERS, option::NAME_SERVERS, option::HOST_NAME,
                    option::DOMAIN, option::MTU, option::LEASE_TIME, option::RENEWAL_TIME,
                    option::REBINDING_TIME, option::SEARCH, option::CLASSLESS_ROUTES,
                ][..]), prop::collection::vec(any::<u8>(), 0..40)),
                0..8,
            ),
        ) {
            let question = Message::new(Kind::Request, 1, Mac([2, 0, 0, 0, 0, 1])).encode();
            let options: Vec<(u8, &[u8])> = said.iter().map(|(code, value)| (*code, &value[..])).collect();
            let bytes = answer(&question, Kind::Ack, yours.into(), &[&[SERVER], &options[..]].concat());
            let Some(lease) = Lease::from_message(&Message::decode(&bytes).unwrap()) else { return Ok(()) };
            prop_assert!((1..=32).contains(&lease.configuration.prefix));
            prop_assert!(!lease.renew_after.is_zero() && lease.renew_after <= lease.rebind_after);
            prop_assert!(lease.duration.is_none_or(|all| lease.rebind_after < all && all >= MIN_DURATION));
            prop_assert!(lease.configuration.mtu.is_none_or(|mtu| mtu >= MIN_MTU));
            prop_assert!(lease.configuration.name_servers.len() <= MAX_NAME_SERVERS);
            for route in &lease.configuration.routes {
                let beyond = u32::MAX.checked_shr(route.prefix.into()).unwrap_or(0);
                prop_assert_eq!(u32::from(route.destination) & beyond, 0, "{:?}", route);
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            for name in lease.configuration.search.iter().chain(&lease.configuration.domain).chain(&lease.configuration.host_name) {
                prop_assert!(!name.is_empty() && name.chars().all(plain), "{name:?}");
            }
        }
    }
}
