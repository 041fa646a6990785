//! Hardware addresses of Ethernet interfaces.

use std::fmt;
use std::str::FromStr;

/// An Ethernet hardware address. `Display` is lower case with colons.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether it is the address of one machine: neither all zeros nor a group.
    pub fn is_unicast(self) -> bool {
        self.0 != [0; 6] && self.0[0] & 1 == 0
    }
}

impl FromStr for Mac {
    type Err = String;

    /// Takes colons or dashes between the octets, in either case.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a hardware address such as 52:54:00:12:34:56");
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().filter(|part| matches!(part.len(), 1 | 2)).ok_or_else(wrong)?;
            if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        let mac = Self(octets);
        (parts.next().is_none() && mac.is_unicast()).then_some(mac).ok_or_else(wrong)
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
    fn colons_and_dashes_name_the_same_interface() {
        let mac: Mac = "52:54:00:12:AB:cd".parse().unwrap();
        assert_eq!(mac, "52-54-00-12-ab-CD".parse().unwrap());
        assert_eq!(mac.to_string(), "52:54:00:12:ab:cd");
    }

    #[test]
    fn what_names_no_interface_is_refused() {
        for text in [
            "",
            "${mac}",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "52:54:00-12:34:56",
            "+2:54:00:12:34:+6",
            "52:54:00:12:34:5g",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "525400123456",
        ] {
            assert!(text.parse::<Mac>().unwrap_err().contains("such as"), "{text}");
        }
    }
}
