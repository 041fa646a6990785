//! The bytes of a DHCP message: RFC 2131 section 2, options of RFC 2132, joined by RFC 3396.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nibs_job::Mac;

/// The fixed fields, up to the magic cookie.
const FIXED: usize = 236;
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// Some relays and servers drop messages that are shorter than BOOTP's.
const MIN_LENGTH: usize = 300;

const HARDWARE_ETHERNET: u8 = 1;
const FLAG_BROADCAST: u16 = 0x8000;

/// Option codes (RFC 2132 unless noted).
pub(super) mod option {
    pub(in crate::net::dhcp) const PAD: u8 = 0;
    pub(in crate::net::dhcp) const SUBNET_MASK: u8 = 1;
    pub(in crate::net::dhcp) const ROUTERS: u8 = 3;
    pub(in crate::net::dhcp) const NAME_SERVERS: u8 = 6;
    pub(in crate::net::dhcp) const HOST_NAME: u8 = 12;
    pub(in crate::net::dhcp) const DOMAIN: u8 = 15;
    pub(in crate::net::dhcp) const MTU: u8 = 26;
    pub(in crate::net::dhcp) const REQUESTED_ADDRESS: u8 = 50;
    pub(in crate::net::dhcp) const LEASE_TIME: u8 = 51;
    pub(in crate::net::dhcp) const OVERLOAD: u8 = 52;
    pub(in crate::net::dhcp) const MESSAGE_TYPE: u8 = 53;
    pub(in crate::net::dhcp) const SERVER: u8 = 54;
    pub(in crate::net::dhcp) const WANTED: u8 = 55;
    pub(in crate::net::dhcp) const TEXT: u8 = 56;
    pub(in crate::net::dhcp) const MAX_SIZE: u8 = 57;
    pub(in crate::net::dhcp) const RENEWAL_TIME: u8 = 58;
    pub(in crate::net::dhcp) const REBINDING_TIME: u8 = 59;
    pub(in crate::net::dhcp) const VENDOR_CLASS: u8 = 60;
    pub(in crate::net::dhcp) const CLIENT_ID: u8 = 61;
    /// RFC 3397.
    pub(in crate::net::dhcp) const SEARCH: u8 = 119;
    /// RFC 3442.
    pub(in crate::net::dhcp) const CLASSLESS_ROUTES: u8 = 121;
    pub(in crate::net::dhcp) const END: u8 = 255;
}

/// What a message is (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Ack = 5,
    Nak = 6,
    Release = 7,
}

impl Kind {
    fn from_code(code: u8) -> Option<Self> {
        let kinds =
            [Self::Discover, Self::Offer, Self::Request, Self::Ack, Self::Nak, Self::Release];
        kinds.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// Options by their code, each with the bytes of all its parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    pub(super) fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.get(&code).map(Vec::as_slice)
    }

    pub(super) fn set(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        self.0.insert(code, value.into());
    }

    /// The addresses of an option that is a list of them.
    pub(super) fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let bytes = self.get(code).unwrap_or_default();
        bytes.chunks_exact(4).map(|b| Ipv4Addr::new(b[0], b[1], b[2], b[3])).collect()
    }

    pub(super) fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.addresses(code).first().copied()
    }

    pub(super) fn number(&self, code: u8) -> Option<u32> {
        self.get(code)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Reads options up to their end; one that is cut short ends them too.
    fn read(&mut self, mut bytes: &[u8]) {
        while let [code, rest @ ..] = bytes {
            bytes = match (*code, rest) {
                (option::PAD, rest) => rest,
                (option::END, _) => return,
                (code, [length, rest @ ..]) if rest.len() >= usize::from(*length) => {
                    let (value, rest) = rest.split_at(usize::from(*length));
                    self.0.entry(code).or_default().extend_from_slice(value);
                    rest
                }
                _ => return,
            };
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (code, value) in &self.0 {
            for part in value.chunks(usize::from(u8::MAX)) {
                out.extend([*code, part.len() as u8]);
                out.extend_from_slice(part);
            }
        }
        out.push(option::END);
    }
}

/// A message to or from a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// Ties an answer to its question.
    pub(super) transaction: u32,
    /// Seconds since the client began.
    pub(super) seconds: u16,
    /// Whether the answer must be broadcast, since the client has no address yet.
    pub(super) broadcast: bool,
    /// The address that the client has and answers at.
    pub(super) client: Ipv4Addr,
    /// The address that the server gives.
    pub(super) yours: Ipv4Addr,
    pub(super) mac: Mac,
    pub(super) options: Options,
}

impl Message {
    /// A message of a client, without options.
    pub(super) fn new(kind: Kind, transaction: u32, mac: Mac) -> Self {
        Self {
            kind,
            transaction,
            seconds: 0,
            broadcast: false,
            client: Ipv4Addr::UNSPECIFIED,
            yours: Ipv4Addr::UNSPECIFIED,
            mac,
            options: Options::default(),
        }
    }

    /// Reads a server's answer. None if it is not one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (fixed, rest) = bytes.split_at_checked(FIXED)?;
        let options_area = rest.strip_prefix(&MAGIC)?;
        let from_server = fixed[0] == 2;
        if !from_server || fixed[1] != HARDWARE_ETHERNET || fixed[2] != 6 {
            return None;
        }
        let mut options = Options::default();
        options.read(options_area);
        // The server may go on in the fields of the boot file (128 bytes) and of its name (64).
        let overload = options.get(option::OVERLOAD).and_then(<[u8]>::first).copied();
        if matches!(overload, Some(1 | 3)) {
            options.read(&fixed[108..236]);
        }
        if matches!(overload, Some(2 | 3)) {
            options.read(&fixed[44..108]);
        }
        let word = |at: usize| [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
        Some(Self {
            kind: Kind::from_code(*options.get(option::MESSAGE_TYPE)?.first()?)?,
            transaction: u32::from_be_bytes(word(4)),
            seconds: u16::from_be_bytes([fixed[8], fixed[9]]),
            broadcast: u16::from_be_bytes([fixed[10], fixed[11]]) & FLAG_BROADCAST != 0,
            client: word(12).into(),
            yours: word(16).into(),
            mac: Mac(fixed[28..34].try_into().ok()?),
            options,
        })
    }

    /// The bytes as a client sends them.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; FIXED];
        let flags = if self.broadcast { FLAG_BROADCAST } else { 0 };
        out[..4].copy_from_slice(&[1, HARDWARE_ETHERNET, 6, 0]);
        out[4..8].copy_from_slice(&self.transaction.to_be_bytes());
        out[8..10].copy_from_slice(&self.seconds.to_be_bytes());
        out[10..12].copy_from_slice(&flags.to_be_bytes());
        out[12..16].copy_from_slice(&self.client.octets());
        out[16..20].copy_from_slice(&self.yours.octets());
        out[28..34].copy_from_slice(&self.mac.0);
        out.extend(MAGIC);
        out.extend([option::MESSAGE_TYPE, 1, self.kind as u8]);
        self.options.write(&mut out);
        out.resize(out.len().max(MIN_LENGTH), option::PAD);
        out
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A server's answer, as bytes.
    pub(in crate::net::dhcp) fn answer(
        question: &[u8],
        kind: Kind,
        yours: Ipv4Addr,
        options: &[(u8, &[u8])],
    ) -> Vec<u8> {
        let mut out = question[..FIXED].to_vec();
        out[0] = 2;
        out[16..20].copy_from_slice(&yours.octets());
        out.extend(MAGIC);
        out.extend([option::MESSAGE_TYPE, 1, kind as u8]);
        for (code, value) in options {
            out.extend([*code, value.len() as u8]);
            out.extend_from_slice(value);
        }
        out.push(option::END);
        out
    }

    fn mac() -> Mac {
        Mac([0x52, 0x54, 0, 1, 2, 3])
    }

    #[test]
    fn a_question_has_the_bytes_of_the_rfc() {
        let mut message = Message::new(Kind::Discover, 0x0102_0304, mac());
        message.broadcast = true;
        message.seconds = 5;
        message.options.set(option::HOST_NAME, *b"h");
        let bytes = message.encode();
        assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 5, 0x80, 0]);
        assert_eq!(bytes[28..34], mac().0);
        assert_eq!(bytes[236..249], [99, 130, 83, 99, 53, 1, 1, 12, 1, b'h', 255, 0, 0]);
        assert_eq!(bytes.len(), MIN_LENGTH);
    }

    #[test]
    fn an_answer_is_read_and_parts_of_an_option_are_joined() {
        let question = Message::new(Kind::Discover, 7, mac()).encode();
        let bytes = answer(
            &question,
            Kind::Offer,
            Ipv4Addr::new(10, 0, 0, 9),
            &[(option::DOMAIN, b"lab."), (option::DOMAIN, b"example")],
        );
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.kind, Kind::Offer);
        assert_eq!((message.transaction, message.mac), (7, mac()));
        assert_eq!(message.yours, Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(message.options.get(option::DOMAIN), Some(&b"lab.example"[..]));
    }

    #[test]
    fn options_in_the_fields_of_name_and_file_are_found() {
        let question = Message::new(Kind::Discover, 7, mac()).encode();
        let mut bytes =
            answer(&question, Kind::Ack, Ipv4Addr::new(10, 0, 0, 9), &[(option::OVERLOAD, &[3])]);
        bytes[44..49].copy_from_slice(&[option::MTU, 2, 5, 220, option::END]);
        bytes[108..115].copy_from_slice(&[option::ROUTERS, 4, 10, 0, 0, 1, option::END]);
        let options = Message::decode(&bytes).unwrap().options;
        assert_eq!(options.get(option::MTU), Some(&[5, 220][..]));
        assert_eq!(options.address(option::ROUTERS), Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn no_cut_of_an_answer_is_a_crash() {
        let question = Message::new(Kind::Discover, 7, mac()).encode();
        assert_eq!(Message::decode(&question), None, "a client's message is no answer");
        let whole = answer(
            &question,
            Kind::Ack,
            Ipv4Addr::new(10, 0, 0, 9),
            &[(option::ROUTERS, &[10, 0, 0, 1]), (option::DOMAIN, b"lab")],
        );
        for end in 0..whole.len() {
            let cut = Message::decode(&whole[..end]);
            assert!(end >= FIXED + 7 || cut.is_none(), "{end}");
        }
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] = 255;
            let _ = Message::decode(&bent);
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(area in prop::collection::vec(any::<u8>(), 0..400), fixed in prop::collection::vec(any::<u8>(), FIXED)) {
            let mut bytes = fixed;
            bytes[..3].copy_from_slice(&[2, HARDWARE_ETHERNET, 6]);
            bytes.extend(MAGIC);
            bytes.extend([option::MESSAGE_TYPE, 1, Kind::Ack as u8, option::OVERLOAD, 1, 3]);
            bytes.extend(area);
            if let Some(message) = Message::decode(&bytes) {
                for code in 0..=u8::MAX {
                    let length = message.options.get(code).map_or(0, <[u8]>::len);
                    prop_assert_eq!(message.options.addresses(code).len(), length / 4);
                }
            }
        }

        #[test]
        fn what_is_written_is_read(
            transaction: u32, yours: u32,
            options in prop::collection::btree_map(1..option::OVERLOAD, prop::collection::vec(any::<u8>(), 0..600), 0..5),
        ) {
            let mut message = Message::new(Kind::Ack, transaction, mac());
            message.yours = yours.into();
            for (code, value) in &options {
                message.options.set(*code, value.clone());
            }
            let mut bytes = message.encode();
            bytes[0] = 2;
            let read = Message::decode(&bytes).unwrap();
            prop_assert_eq!((read.kind, read.transaction, read.yours), (Kind::Ack, transaction, yours.into()));
            for (code, value) in options {
                // One without a byte is written as nothing.
                prop_assert_eq!(read.options.get(code).unwrap_or_default(), &value[..]);
            }
        }
    }
}
