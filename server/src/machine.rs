//! Which machine: its id, and the labels by which matches select it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use nibs_job::{Facts, Mac};
use serde::{Deserialize, Serialize};

/// Longest id, in bytes: it is a URL segment and a key.
const MAX_ID: usize = 128;

/// The id of a machine: the MAC that booted, a DMI UUID, or a name given by `nibs.id=`.
///
/// Normalised, so that one machine has one id: a MAC is lower case with colons, a UUID lower
/// case. Made of letters, digits, `.`, `_`, `:` and `-` only: it is safe in a URL, a log line, a
/// boot script and on a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(String);

impl MachineId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The MAC that the id is, if it is one.
    pub fn mac(&self) -> Option<Mac> {
        self.0.parse().ok()
    }
}

impl FromStr for MachineId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(mac) = text.parse::<Mac>() {
            return Ok(mac.into());
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        if text.is_empty() || text.len() > MAX_ID || !text.bytes().all(allowed) {
            return Err(format!(
                "{text:?} is no machine id; expected a MAC, a UUID, or 1 to {MAX_ID} letters, \
                 digits, `.`, `_`, `:` or `-`"
            ));
        }
        Ok(Self(if is_uuid(text) { text.to_ascii_lowercase() } else { text.to_owned() }))
    }
}

/// Whether it is written 8-4-4-4-12 in hexadecimal digits.
fn is_uuid(text: &str) -> bool {
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

impl From<Mac> for MachineId {
    fn from(mac: Mac) -> Self {
        Self(mac.to_string())
    }
}

impl TryFrom<String> for MachineId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.0
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of a machine that a match can ask for. Nothing is ever empty text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// Its id.
    pub machine: Option<MachineId>,
    /// The addresses of its network cards.
    pub macs: BTreeSet<Mac>,
    /// DMI system UUID, lower case.
    pub uuid: Option<String>,
    /// DMI system serial number.
    pub serial: Option<String>,
    /// DMI product name.
    pub product: Option<String>,
    /// DMI system vendor.
    pub vendor: Option<String>,
    /// `x86_64`, `aarch64`.
    pub architecture: Option<String>,
}

impl Labels {
    /// The labels of a machine whose agent told its facts.
    pub fn of(machine: &MachineId, facts: &Facts) -> Self {
        let told = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let macs = facts.interfaces.iter().filter_map(|card| card.mac.parse().ok());
        Self {
            machine: Some(machine.clone()),
            macs: macs.chain(machine.mac()).collect(),
            uuid: facts.uuid.as_deref().and_then(told).map(|uuid| uuid.to_ascii_lowercase()),
            serial: facts.serial.as_deref().and_then(told),
            product: facts.product.as_deref().and_then(told),
            vendor: facts.vendor.as_deref().and_then(told),
            architecture: told(&facts.architecture),
        }
    }

    /// These labels, with those of `other` where these say nothing.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.macs.extend(other.macs);
        Self {
            machine: self.machine.or(other.machine),
            macs: self.macs,
            uuid: self.uuid.or(other.uuid),
            serial: self.serial.or(other.serial),
            product: self.product.or(other.product),
            vendor: self.vendor.or(other.vendor),
            architecture: self.architecture.or(other.architecture),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_has_one_id() {
        for (text, id) in [
            ("52-54-00-0A-BC-DE", "52:54:00:0a:bc:de"),
            ("4C4C4544-0051-3410-8051-B5C04F4E3332", "4c4c4544-0051-3410-8051-b5c04f4e3332"),
            ("Rack1.U07", "Rack1.U07"),
        ] {
            assert_eq!(text.parse::<MachineId>().unwrap().as_str(), id);
        }
    }

    #[test]
    fn an_id_cannot_carry_more_than_a_name() {
        let long = "a".repeat(MAX_ID + 1);
        for text in ["", "a b", "a/b", "a\nb", "${mac}", "../x", "é", "\u{1b}[2J", &long] {
            assert!(text.parse::<MachineId>().is_err(), "{text:?}");
        }
    }
}
