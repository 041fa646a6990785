//! Which machines a match is for: exact values of labels, all of which a machine must have.

use nibs_job::{DecodeError, Mac};
use serde::{Deserialize, Serialize};

use crate::{Labels, MachineId};

/// The labels a machine must have. Empty: every machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a table of labels")]
pub struct Selector {
    /// The machine's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineId>,
    /// The address of any of its network cards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// DMI system UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// DMI system serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// DMI product name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// DMI system vendor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// `x86_64`, `aarch64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
}

/// How closely a selector describes a machine. The greater one wins.
///
/// A label that only one machine has counts more than any number that whole series share, so a
/// machine's own match beats one for its vendor and product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    /// Labels that one machine has: machine, mac, uuid, serial.
    individual: usize,
    /// Labels that many have: product, vendor, architecture.
    shared: usize,
}

impl Selector {
    /// The selector with its values in the form in which labels come, or why it can match none.
    pub fn checked(mut self) -> Result<Self, DecodeError> {
        if let Some(uuid) = &mut self.uuid {
            uuid.make_ascii_lowercase();
        }
        for (label, value) in self.texts() {
            if value.as_ref().is_some_and(String::is_empty) {
                return Err(DecodeError::new("is empty; leave the label out").within(label));
            }
        }
        Ok(self)
    }

    /// Whether a machine with these labels is meant.
    pub fn matches(&self, labels: &Labels) -> bool {
        fn has<T: PartialEq>(wanted: &Option<T>, found: &Option<T>) -> bool {
            wanted.is_none() || wanted == found
        }
        has(&self.machine, &labels.machine)
            && self.mac.is_none_or(|mac| labels.macs.contains(&mac))
            && has(&self.uuid, &labels.uuid)
            && has(&self.serial, &labels.serial)
            && has(&self.product, &labels.product)
            && has(&self.vendor, &labels.vendor)
            && has(&self.architecture, &labels.architecture)
    }

    /// How closely it describes a machine.
    pub fn specificity(&self) -> Specificity {
        let count = |labels: &[bool]| labels.iter().filter(|label| **label).count();
        Specificity {
            individual: count(&[
                self.machine.is_some(),
                self.mac.is_some(),
                self.uuid.is_some(),
                self.serial.is_some(),
            ]),
            shared: count(&[
                self.product.is_some(),
                self.vendor.is_some(),
                self.architecture.is_some(),
            ]),
        }
    }

    fn texts(&self) -> [(&'static str, &Option<String>); 5] {
        [
            ("uuid", &self.uuid),
            ("serial", &self.serial),
            ("product", &self.product),
            ("vendor", &self.vendor),
            ("architecture", &self.architecture),
        ]
    }
}
