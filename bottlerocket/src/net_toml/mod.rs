//! `net.toml`, Bottlerocket's network configuration: checked exactly as the OS reads it, with
//! better messages, and made from a description.
//!
//! ```text
//!            syntax        read           rules           warn
//! bytes ──> TOML 1.0 ──> [`NetToml`] ──> refused? ──> works? ──> [`Checked`]
//!                                                                  ^ proves
//! [`Lease`] ──> [`Network`] ──> (names of members) ──> `NetToml` ──> text
//! ```
//!
//! The OS reads the file at every boot with `netdog generate-net-config`, before there is any way
//! in: a file that it refuses leaves the machine without a network. So each finding is an error
//! if netdog refuses the file for it, and a warning if netdog takes the file but what it says
//! cannot work. Two things are errors that netdog's decoder takes by accident: an array where a
//! table belongs (the table's values, in the order of netdog's own source), and a date where a
//! name belongs.
//!
//! Source: bottlerocket-core-kit 3.1.1, `sources/netdog/src/net_config`, `interface_id.rs`,
//! `bonding.rs`, `vlan_id.rs` and `networkd/config`; toml 0.8 (TOML 1.0) decodes it there.

mod fields;
mod findings;
mod id;
mod lease;
mod model;
mod network;
mod read;
mod render;
mod rules;
mod syntax;
mod warn;
mod write;

use semver::Version;

use crate::diagnostic::{Diagnostic, Severity};
use findings::Findings;

pub use id::{InterfaceId, InvalidMac, InvalidName, Mac, Name};
pub use lease::{Dns, Lease, from_lease};
pub use model::{
    ArpValidate, Bond, Destination, Device, Dhcp4, Dhcp6, Kind, Monitoring, NetToml, Route, Vlan,
};
pub use network::{
    Dhcp4Options, Dhcp4Request, Dhcp6Options, Dhcp6Request, Interface, Network, NewBond, NewVlan,
};
pub use render::{Error, Names, render};

/// Largest file that is read, in bytes: more than a thousand interfaces. netdog has no limit.
pub const MAX_SIZE: usize = 256 << 10;

/// Most findings that are told of one file.
pub const MAX_FINDINGS: usize = 100;

/// The first release whose netdog may know `mtu`. The one before it is made of core kit 15, and
/// no changelog of the core kit up to 16.1.0 has the change (bottlerocket-core-kit#686).
pub const MTU_REFUSED_BEFORE: Version = Version::new(1, 65, 0);

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What the file says; none if there is an error.
    pub model: Option<NetToml>,
    /// The findings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Checked {
    /// Whether the OS takes the file.
    pub fn is_valid(&self) -> bool {
        self.model.is_some()
    }
}

/// Checks a `net.toml` for a release of Bottlerocket; without one, for any.
pub fn check(bytes: &[u8], target: Option<&Version>) -> Checked {
    let (text, table) = match syntax::parse(bytes) {
        Ok(parsed) => parsed,
        Err(diagnostics) => return Checked { model: None, diagnostics },
    };
    let mut findings = Findings::default();
    let mut file = read::file(table.get_ref(), &mut findings);
    rules::check(&mut file, target, &mut findings);
    warn::check(&file, target, &mut findings);
    let diagnostics = findings.into_diagnostics(text);
    let refused = diagnostics.iter().any(|found| found.severity == Severity::Error);
    Checked { model: (!refused).then(|| file.into_model()), diagnostics }
}
