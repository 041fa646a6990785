//! Ethernet hardware addresses, however a firmware, a switch or a person writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet hardware address. `Display` is lower case with colons, as the kernel writes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(
    /// The octets, in the order in which they are sent.
    pub [u8; 6],
);

impl Mac {
    /// Whether it is the address of one card: neither all zeros nor a group.
    pub fn is_unicast(self) -> bool {
        self.0 != [0; 6] && self.0[0] & 1 == 0
    }
}

impl FromStr for Mac {
    type Err = String;

    /// Takes `52:54:00:12:34:56`, `52-54-00-12-34-56`, `5254.0012.3456` and `525400123456` in
    /// either case; with colons or dashes a leading zero may be left out. Refuses what is no
    /// address of one card.
    fn from_str(text: &str) -> Result<Self, String> {
        digits(text)
            .and_then(|digits| u64::from_str_radix(&digits, 16).ok())
            .map(|number| {
                let [_, _, octets @ ..] = number.to_be_bytes();
                Self(octets)
            })
            .filter(|mac| mac.is_unicast())
            .ok_or_else(|| {
                format!("{text:?} is not a hardware address such as \"52:54:00:12:34:56\"")
            })
    }
}

/// The twelve hexadecimal digits, if the text has one of the notations.
fn digits(text: &str) -> Option<String> {
    let separator = text.chars().find(|c| matches!(c, ':' | '-' | '.'));
    let digits = match separator {
        None => text.to_owned(),
        Some('.') => groups(text, '.', 4, 4..=4)?,
        Some(separator) => groups(text, separator, 2, 1..=2)?,
    };
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hex && digits.len() == 12).then_some(digits)
}

fn groups(
    text: &str,
    separator: char,
    width: usize,
    allowed: std::ops::RangeInclusive<usize>,
) -> Option<String> {
    text.split(separator)
        .map(|group| allowed.contains(&group.len()).then(|| format!("{group:0>width$}")))
        .collect()
}

impl TryFrom<String> for Mac {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_names_the_same_card() {
        for text in [
            "52:54:00:0a:bc:de",
            "52-54-00-0A-BC-DE",
            "52:54:0:a:bc:de",
            "5254.000a.bcde",
            "5254000abcde",
            "5254000ABCDE",
        ] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "52:54:00:0a:bc:de", "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "52:54:00:0a:bc",
            "52:54:00:0a:bc:de:f0",
            "52:54:00:0a:bc:dg",
            "52:54-00:0a:bc:de",
            "5254.000a.bcd",
            "+254000abcde",
            "52:54:00:0a:bc:de\n",
            "${net0/mac}",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
    }
}
