//! What names an interface: its name, as udev gives it, or the address of its card.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest interface name, in bytes (Linux `IFNAMSIZ`, less its NUL).
const MAX_NAME: usize = 15;

/// Octets of a MAC address.
const OCTETS: usize = 6;

/// An interface name that netdog takes: 1 to 15 bytes without `.`, `/` or whitespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is no interface name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidName {
    /// The kernel has no room for it.
    #[error("{name:?} is {length} bytes long, and an interface name has 1 to {MAX_NAME}")]
    Length {
        /// The text.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
    /// The kernel or netdog refuses a character.
    #[error("{name:?} has {character:?}, which no interface name may have")]
    Character {
        /// The text.
        name: String,
        /// The first character that is refused.
        character: char,
    },
}

impl Name {
    /// What stands for a name that could not be read.
    pub(super) fn stand_in() -> Self {
        Self("_".to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        Self::try_from(name.to_owned())
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        let refused = |c: char| c == '.' || c == '/' || c.is_whitespace();
        if let Some(character) = name.chars().find(|&c| refused(c)) {
            return Err(InvalidName::Character { name, character });
        }
        match name.len() {
            1..=MAX_NAME => Ok(Self(name)),
            length => Err(InvalidName::Length { name, length }),
        }
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A MAC address as netdog keeps it: six pairs in lower case, with colons.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(String);

/// A text that is no MAC address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no MAC address: expected {OCTETS} pairs of hexadecimal digits with `:` or `-`")]
pub struct InvalidMac(pub String);

impl Mac {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the text looks like an address without its separators, which netdog takes for a
    /// name.
    pub(super) fn without_separators(text: &str) -> bool {
        text.len() == 2 * OCTETS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// Whether all of it is hexadecimal digits. netdog reads each pair as a number, so it also
    /// takes `+1`, which is no address of any card.
    pub(super) fn is_sound(&self) -> bool {
        self.0.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let octet = |octet: &str| octet.len() == 2 && u8::from_str_radix(octet, 16).is_ok();
        let mut octets = 0;
        for part in text.split(['-', ':']) {
            octets += 1;
            if octets > OCTETS || !octet(part) {
                return Err(InvalidMac(text.to_owned()));
            }
        }
        if octets != OCTETS {
            return Err(InvalidMac(text.to_owned()));
        }
        Ok(Self(text.to_lowercase().replace('-', ":")))
    }
}

impl TryFrom<String> for Mac {
    type Error = InvalidMac;

    fn try_from(text: String) -> Result<Self, InvalidMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An interface by name or by MAC address. No text is both: an address is longer than a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum InterfaceId {
    /// By name.
    Name(Name),
    /// By the address of the card.
    Mac(Mac),
}

impl InterfaceId {
    /// The name or the address.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(name) => name.as_str(),
            Self::Mac(mac) => mac.as_str(),
        }
    }
}

impl FromStr for InterfaceId {
    type Err = InvalidName;

    /// The error is the name's: whoever writes an address that is none has written a long name.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.parse().map(Self::Mac).or_else(|_| text.parse().map(Self::Name))
    }
}

impl TryFrom<String> for InterfaceId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<InterfaceId> for String {
    fn from(id: InterfaceId) -> Self {
        match id {
            InterfaceId::Name(name) => name.0,
            InterfaceId::Mac(mac) => mac.0,
        }
    }
}

impl From<Name> for InterfaceId {
    fn from(name: Name) -> Self {
        Self::Name(name)
    }
}

impl From<Mac> for InterfaceId {
    fn from(mac: Mac) -> Self {
        Self::Mac(mac)
    }
}

impl fmt::Display for InterfaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_in_bytes_and_in_characters() {
        for good in ["eno1", "e", "abcdefghijklmno", "eth0:1", "ж"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in ["", "abcdefghijklmnop", "eth0.1", "a/b", "a b", "a\u{2028}", "жжжжжжжж"]
        {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_are_kept_in_one_spelling() {
        for (text, kept) in [
            ("F8-74-A4-D5-32-66", "f8:74:a4:d5:32:66"),
            ("f8:74-a4:d5-32:66", "f8:74:a4:d5:32:66"),
            ("+1:00:00:00:00:00", "+1:00:00:00:00:00"),
        ] {
            assert_eq!(text.parse::<Mac>().unwrap().as_str(), kept);
        }
        for bad in ["", ":", "f874a4d53266", "f8:74:a4:d5:32", "f8:74:a4:d5:32:66:1", "é:é:é:é:é:é"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_interface_is_named_or_addressed_never_both() {
        let id = |text: &str| text.parse::<InterfaceId>();
        assert!(matches!(id("eno1"), Ok(InterfaceId::Name(_))));
        assert!(matches!(id("F8-74-A4-D5-32-66"), Ok(InterfaceId::Mac(_))));
        assert!(matches!(id("f8:74:a4:d5:32:6g"), Err(InvalidName::Length { length: 17, .. })));
    }
}
