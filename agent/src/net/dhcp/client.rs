//! The state machine of a DHCP client (RFC 2131 section 4.4), without sockets and clocks.
//!
//! ```text
//!   selecting --offer--> requesting --ack--> bound --T1--> renewing --T2--> rebinding
//!       ^                    |nak, no answer   ^               |ack             |ack
//!       |                    |                 +---------------+----------------+
//!       +--------------------+------------- nak, or the lease runs out ---------+
//! ```
//!
//! The caller hands in what happened ([`Event`]) with the time, carries the [`Effect`]s out, and
//! comes back at [`Client::deadline`] at the latest.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use nibs_job::Mac;

use super::Lease;
use super::message::{Kind, Message, option};

/// Wait for an answer after the first question; doubled with each further one up to the next.
/// Shorter than the RFC's four seconds: an install should not wait for one lost packet.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(16);

/// How often an offer is asked for before another one is sought.
const REQUEST_ATTEMPTS: u32 = 4;

/// Pause after a refusal, so that a server that offers and refuses is not stormed.
const REFUSED_PAUSE: Duration = Duration::from_secs(3);

/// Least wait between two attempts to renew; RFC 2131 4.4.5 says a minute, and half of what is
/// left otherwise. Leases of a few minutes, as installers' networks have, need it shorter.
const MIN_RENEW_WAIT: Duration = Duration::from_secs(10);

/// Largest message that the client takes, bytes: what fits an Ethernet frame.
const MAX_MESSAGE: u16 = 1472;

/// What the agent is, for the server's log and its rules.
const VENDOR_CLASS: &[u8] = b"nibs";

/// What the client asks servers to tell.
const WANTED: &[u8] = &[
    option::SUBNET_MASK,
    option::CLASSLESS_ROUTES,
    option::ROUTERS,
    option::NAME_SERVERS,
    option::HOST_NAME,
    option::DOMAIN,
    option::MTU,
    option::RENEWAL_TIME,
    option::REBINDING_TIME,
    option::SEARCH,
];

/// What happened outside.
#[derive(Debug, Clone, Copy)]
pub(in crate::net) enum Event<'a> {
    /// The deadline came.
    Deadline,
    /// A DHCP message came.
    Message(&'a [u8]),
}

/// What to do outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::net) enum Effect {
    /// Send a message to every server on the link.
    Broadcast(Vec<u8>),
    /// Send a message to this server, from the address that is leased.
    Unicast(Ipv4Addr, Vec<u8>),
    /// Use this lease, new or renewed.
    Bound(Lease),
    /// Stop using the lease; the client seeks a new one.
    Lost(&'static str),
    /// Tell the operator.
    Note(String),
}

#[derive(Debug)]
enum State {
    Selecting { attempt: u32 },
    Requesting { offer: Lease, attempt: u32 },
    Bound { lease: Lease, since: Instant },
    Renewing { lease: Lease, since: Instant },
    Rebinding { lease: Lease, since: Instant },
}

/// A DHCP client of one interface.
#[derive(Debug)]
pub(in crate::net) struct Client {
    mac: Mac,
    chance: Chance,
    transaction: u32,
    began: Instant,
    /// When the last question was first asked; a lease counts from there.
    asked: Instant,
    deadline: Option<Instant>,
    state: State,
}

impl Client {
    /// A client that begins to seek a lease at once. `seed` scatters its times and numbers.
    pub(in crate::net) fn new(mac: Mac, seed: u64, now: Instant) -> Self {
        let mut chance = Chance(seed | 1);
        Self {
            mac,
            transaction: chance.next(),
            chance,
            began: now,
            asked: now,
            deadline: Some(now),
            state: State::Selecting { attempt: 0 },
        }
    }

    /// When to come back with [`Event::Deadline`]; never if there is nothing to wait for.
    pub(in crate::net) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Takes note of what happened and says what to do, in order.
    pub(in crate::net) fn handle(&mut self, now: Instant, event: Event<'_>) -> Vec<Effect> {
        match event {
            Event::Deadline if self.deadline.is_some_and(|deadline| deadline <= now) => {
                self.deadline_came(now)
            }
            Event::Deadline => Vec::new(),
            Event::Message(bytes) => self.message_came(now, bytes),
        }
    }

    /// The message that gives a lease back.
    pub(in crate::net) fn release(&mut self, lease: &Lease) -> Vec<u8> {
        let transaction = self.chance.next();
        let mut message = Message::new(Kind::Release, transaction, self.mac);
        message.client = lease.configuration.address;
        message.options.set(option::SERVER, lease.server.octets());
        message.options.set(option::CLIENT_ID, self.client_id());
        message.encode()
    }

    fn deadline_came(&mut self, now: Instant) -> Vec<Effect> {
        match &mut self.state {
            State::Selecting { attempt } => {
                *attempt += 1;
                let attempt = *attempt;
                if attempt == 1 {
                    self.transaction = self.chance.next();
                    self.began = now;
                }
                self.wait(now, attempt);
                let mut effects = vec![Effect::Broadcast(self.discover(now))];
                if attempt > 1 {
                    let waited = now.duration_since(self.began).as_secs();
                    effects.push(Effect::Note(format!(
                        "no DHCP server has answered for {waited} s; asking again"
                    )));
                }
                effects
            }
            State::Requesting { attempt, offer } if *attempt < REQUEST_ATTEMPTS => {
                *attempt += 1;
                let (attempt, offer) = (*attempt, offer.clone());
                self.wait(now, attempt);
                vec![Effect::Broadcast(self.request(now, &offer))]
            }
            State::Requesting { offer, .. } => {
                let note = format!("DHCP server {} offers and then does not answer", offer.server);
                self.select(now);
                vec![Effect::Note(note)]
            }
            State::Bound { lease, since } => {
                let (lease, since) = (lease.clone(), *since);
                self.asked = now;
                self.transaction = self.chance.next();
                self.began = now;
                self.renew(now, lease, since)
            }
            State::Renewing { lease, since } | State::Rebinding { lease, since } => {
                let (lease, since) = (lease.clone(), *since);
                if lease.duration.is_some_and(|duration| since + duration <= now) {
                    self.select(now);
                    return vec![Effect::Lost("it ran out, and no server renewed it")];
                }
                self.renew(now, lease, since)
            }
        }
    }

    /// Asks for more time: its own server until T2, then any.
    fn renew(&mut self, now: Instant, lease: Lease, since: Instant) -> Vec<Effect> {
        let rebind_at = since + lease.rebind_after;
        let expires_at = lease.duration.map_or(rebind_at, |duration| since + duration);
        let until = if now < rebind_at { rebind_at } else { expires_at };
        let half = until.saturating_duration_since(now) / 2;
        self.deadline = Some((now + half.max(MIN_RENEW_WAIT)).min(until));
        let mut message = self.question(now, Kind::Request);
        message.client = lease.configuration.address;
        let bytes = message.encode();
        if now < rebind_at {
            let server = lease.server;
            self.state = State::Renewing { lease, since };
            vec![Effect::Unicast(server, bytes)]
        } else {
            let note = format!("DHCP server {} does not renew; asking any", lease.server);
            let first = !matches!(self.state, State::Rebinding { .. });
            self.state = State::Rebinding { lease, since };
            let mut effects = vec![Effect::Broadcast(bytes)];
            effects.extend(first.then_some(Effect::Note(note)));
            effects
        }
    }

    fn message_came(&mut self, now: Instant, bytes: &[u8]) -> Vec<Effect> {
        let Some(message) = Message::decode(bytes) else { return Vec::new() };
        if message.transaction != self.transaction || message.mac != self.mac {
            return Vec::new();
        }
        let granted = Lease::from_message(&message);
        match (&self.state, message.kind, granted) {
            (State::Selecting { attempt: 1.. }, Kind::Offer, Some(offer)) => {
                self.asked = now;
                self.wait(now, 1);
                let request = self.request(now, &offer);
                self.state = State::Requesting { offer, attempt: 1 };
                vec![Effect::Broadcast(request)]
            }
            (State::Requesting { offer, .. }, Kind::Ack, Some(lease))
                if lease.server == offer.server =>
            {
                self.bind(lease)
            }
            (State::Renewing { .. } | State::Rebinding { .. }, Kind::Ack, Some(lease)) => {
                self.bind(lease)
            }
            (State::Requesting { offer, .. }, Kind::Nak, _)
                if message.options.address(option::SERVER).is_none_or(|s| s == offer.server) =>
            {
                let note = refusal(offer.server, &message);
                self.select(now + REFUSED_PAUSE);
                vec![Effect::Note(note)]
            }
            (State::Renewing { lease, .. } | State::Rebinding { lease, .. }, Kind::Nak, _) => {
                let note = refusal(lease.server, &message);
                self.select(now + REFUSED_PAUSE);
                vec![Effect::Note(note), Effect::Lost("the server refused to renew it")]
            }
            _ => Vec::new(),
        }
    }

    fn bind(&mut self, lease: Lease) -> Vec<Effect> {
        let since = self.asked;
        self.deadline = lease.duration.map(|_| since + lease.renew_after);
        self.state = State::Bound { lease: lease.clone(), since };
        vec![Effect::Bound(lease)]
    }

    fn select(&mut self, at: Instant) {
        self.state = State::Selecting { attempt: 0 };
        self.deadline = Some(at);
    }

    /// Waits for an answer to question `attempt` (from 1): doubling, and half a second to either
    /// side, so that machines that start as one do not ask as one.
    fn wait(&mut self, now: Instant, attempt: u32) {
        let full = FIRST_WAIT.saturating_mul(1 << (attempt - 1).min(8)).min(LONGEST_WAIT);
        let scatter = Duration::from_millis(u64::from(self.chance.next() % 1000));
        self.deadline = Some(now + full + scatter - Duration::from_millis(500));
    }

    fn discover(&self, now: Instant) -> Vec<u8> {
        let mut message = self.question(now, Kind::Discover);
        message.broadcast = true;
        message.encode()
    }

    fn request(&self, now: Instant, offer: &Lease) -> Vec<u8> {
        let mut message = self.question(now, Kind::Request);
        message.broadcast = true;
        message.options.set(option::REQUESTED_ADDRESS, offer.configuration.address.octets());
        message.options.set(option::SERVER, offer.server.octets());
        message.encode()
    }

    fn question(&self, now: Instant, kind: Kind) -> Message {
        let mut message = Message::new(kind, self.transaction, self.mac);
        let seconds = now.duration_since(self.began).as_secs();
        message.seconds = seconds.try_into().unwrap_or(u16::MAX);
        message.options.set(option::CLIENT_ID, self.client_id());
        message.options.set(option::VENDOR_CLASS, VENDOR_CLASS);
        message.options.set(option::MAX_SIZE, MAX_MESSAGE.to_be_bytes());
        message.options.set(option::WANTED, WANTED);
        message
    }

    /// Hardware type and address, which servers treat as they treat a client without an id: the
    /// agent keeps the address that the network loader had, where the server goes by the MAC.
    fn client_id(&self) -> Vec<u8> {
        let mut id = vec![1];
        id.extend(self.mac.0);
        id
    }
}

fn refusal(server: Ipv4Addr, message: &Message) -> String {
    let text = message.options.get(option::TEXT).unwrap_or_default();
    let text: String =
        String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(100).collect();
    let reason = if text.is_empty() { String::new() } else { format!(": {text}") };
    format!("DHCP server {server} refused the address{reason}")
}

/// Numbers that scatter (Marsaglia's xorshift), seeded so that a test gets the same ones again.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::answer;
    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    /// A client, its clock, and what it asked last.
    struct Bench {
        client: Client,
        start: Instant,
        now: Instant,
        question: Vec<u8>,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            Self { client: Client::new(MAC, 42, now), start: now, now, question: Vec::new() }
        }

        fn take(&mut self, event: Event<'_>) -> Vec<Effect> {
            let effects = self.client.handle(self.now, event);
            for effect in &effects {
                if let Effect::Broadcast(bytes) | Effect::Unicast(_, bytes) = effect {
                    self.question.clone_from(bytes);
                }
            }
            effects
        }

        /// Lets the time pass until the client wants something.
        fn pass(&mut self) -> Vec<Effect> {
            self.now = self.client.deadline().unwrap();
            self.take(Event::Deadline)
        }

        fn seconds(&self) -> u64 {
            self.now.duration_since(self.start).as_secs()
        }

        fn server_says(&mut self, kind: Kind, more: &[(u8, &[u8])]) -> Vec<Effect> {
            let server = SERVER.octets();
            let mut options: Vec<(u8, &[u8])> =
                vec![(option::SERVER, &server), (option::LEASE_TIME, &[0, 0, 3, 232])];
            options.extend(more);
            let bytes = answer(&self.question, kind, ADDRESS, &options);
            self.take(Event::Message(&bytes))
        }

        fn bind(&mut self) {
            self.pass();
            self.server_says(Kind::Offer, &[]);
            let effects = self.server_says(Kind::Ack, &[]);
            assert!(
                matches!(&effects[..], [Effect::Bound(lease)] if lease.configuration.address == ADDRESS)
            );
        }

        /// Options of the last question, as a server would read them.
        fn asked(&self) -> Message {
            let mut bytes = self.question.clone();
            bytes[0] = 2;
            Message::decode(&bytes).unwrap()
        }
    }

    #[test]
    fn discover_offer_request_ack() {
        let mut bench = Bench::new();
        assert!(matches!(&bench.pass()[..], [Effect::Broadcast(_)]));
        let asked = bench.asked();
        assert!(asked.broadcast && asked.kind == Kind::Discover);
        assert_eq!(asked.options.get(option::CLIENT_ID), Some(&[1, 0x52, 0x54, 0, 1, 2, 3][..]));
        let effects = bench.server_says(Kind::Offer, &[]);
        assert!(matches!(&effects[..], [Effect::Broadcast(_)]));
        let asked = bench.asked();
        assert_eq!(asked.kind, Kind::Request);
        assert_eq!(asked.options.address(option::REQUESTED_ADDRESS), Some(ADDRESS));
        assert_eq!(asked.options.address(option::SERVER), Some(SERVER));
        assert_eq!(asked.client, Ipv4Addr::UNSPECIFIED);
        let effects = bench.server_says(Kind::Ack, &[]);
        assert!(matches!(&effects[..], [Effect::Bound(lease)] if lease.server == SERVER));
    }

    #[test]
    fn silence_is_asked_again_and_again_ever_more_slowly() {
        let mut bench = Bench::new();
        bench.pass();
        let mut last = bench.now;
        for (n, full) in [2, 4, 8, 16, 16, 16].into_iter().enumerate() {
            let effects = bench.pass();
            assert!(matches!(&effects[..], [Effect::Broadcast(_), Effect::Note(_)]), "{n}");
            let waited = bench.now.duration_since(last).as_secs_f64();
            assert!((waited - f64::from(full)).abs() <= 0.5, "{waited} {full}");
            last = bench.now;
        }
        assert!(bench.asked().seconds >= 60, "the server sees how long it has been");
        for _ in 0..100 {
            assert!(!bench.pass().is_empty());
        }
    }

    #[test]
    fn answers_to_others_are_no_answers() {
        let mut bench = Bench::new();
        bench.pass();
        let options: [(u8, &[u8]); 1] = [(option::SERVER, &SERVER.octets())];
        let right = answer(&bench.question, Kind::Offer, ADDRESS, &options);
        for at in [4, 33] {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            assert_eq!(bench.take(Event::Message(&wrong)), [], "byte {at}");
        }
        assert_eq!(bench.take(Event::Message(b"not DHCP")), []);
        assert_eq!(bench.server_says(Kind::Ack, &[]), [], "nothing was requested yet");
        assert_eq!(bench.take(Event::Message(&right)).len(), 1);
    }

    #[test]
    fn a_server_that_offers_and_goes_silent_is_left() {
        let mut bench = Bench::new();
        bench.pass();
        bench.server_says(Kind::Offer, &[]);
        for _ in 1..REQUEST_ATTEMPTS {
            bench.pass();
            assert_eq!(bench.asked().kind, Kind::Request);
        }
        assert!(matches!(&bench.pass()[..], [Effect::Note(note)] if note.contains("10.0.0.1")));
        bench.pass();
        assert_eq!(bench.asked().kind, Kind::Discover);
    }

    #[test]
    fn a_refused_request_starts_over_after_a_pause_with_the_servers_words() {
        let mut bench = Bench::new();
        bench.pass();
        bench.server_says(Kind::Offer, &[]);
        let effects = bench.server_says(Kind::Nak, &[(option::TEXT, b"in\nuse")]);
        assert!(matches!(&effects[..], [Effect::Note(note)] if note.ends_with("address: inuse")));
        let before = bench.now;
        bench.pass();
        assert_eq!(bench.now - before, REFUSED_PAUSE);
        assert_eq!(bench.asked().kind, Kind::Discover);
    }

    #[test]
    fn the_lease_is_renewed_at_t1_by_its_server() {
        let mut bench = Bench::new();
        bench.bind();
        assert_eq!(bench.client.handle(bench.now, Event::Deadline), [], "nothing to do yet");
        let effects = bench.pass();
        assert_eq!(bench.seconds(), 500);
        assert!(matches!(&effects[..], [Effect::Unicast(SERVER, _)]), "{effects:?}");
        let asked = bench.asked();
        assert_eq!((asked.client, asked.broadcast), (ADDRESS, false));
        assert_eq!(asked.options.get(option::SERVER), None);
        assert_eq!(asked.options.get(option::REQUESTED_ADDRESS), None);
        let effects = bench.server_says(Kind::Ack, &[]);
        assert!(matches!(&effects[..], [Effect::Bound(_)]));
        bench.pass();
        assert_eq!(bench.seconds(), 1000, "T1 counts from the renewal");
    }

    #[test]
    fn a_silent_server_is_passed_by_at_t2_and_the_lease_is_lost_at_its_end() {
        let mut bench = Bench::new();
        bench.bind();
        let mut unicasts = 0;
        let (mut rebind_at, mut notes) = (None, 0);
        loop {
            let effects = bench.pass();
            notes += effects.iter().filter(|effect| matches!(effect, Effect::Note(_))).count();
            match effects.first() {
                Some(Effect::Unicast(..)) => unicasts += 1,
                Some(Effect::Broadcast(_)) => {
                    rebind_at.get_or_insert(bench.seconds());
                }
                Some(Effect::Lost(_)) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!((3..30).contains(&unicasts), "{unicasts}");
        assert_eq!((rebind_at, bench.seconds(), notes), (Some(875), 1000, 1));
        bench.pass();
        assert_eq!(bench.asked().kind, Kind::Discover);
    }

    #[test]
    fn a_refused_renewal_loses_the_lease_at_once() {
        let mut bench = Bench::new();
        bench.bind();
        bench.pass();
        let effects = bench.server_says(Kind::Nak, &[]);
        assert!(matches!(&effects[..], [Effect::Note(_), Effect::Lost(_)]), "{effects:?}");
    }

    #[test]
    fn a_lease_for_ever_has_no_deadline() {
        let mut bench = Bench::new();
        bench.pass();
        bench.server_says(Kind::Offer, &[]);
        let bytes = answer(
            &bench.question,
            Kind::Ack,
            ADDRESS,
            &[(option::SERVER, &SERVER.octets()), (option::LEASE_TIME, &[255; 4])],
        );
        bench.take(Event::Message(&bytes));
        assert_eq!(bench.client.deadline(), None);
    }

    #[test]
    fn a_released_lease_names_its_address_and_server() {
        let mut bench = Bench::new();
        bench.bind();
        let State::Bound { lease, .. } = &bench.client.state else { panic!() };
        let lease = lease.clone();
        bench.question = bench.client.release(&lease);
        let asked = bench.asked();
        assert_eq!((asked.kind, asked.client), (Kind::Release, ADDRESS));
        assert_eq!(asked.options.address(option::SERVER), Some(SERVER));
    }
}
