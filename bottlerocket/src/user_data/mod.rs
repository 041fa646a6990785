//! `user-data.toml`: the settings that Bottlerocket reads once, at its first boot.
//!
//! A key or a value that the OS does not know is fatal there: the machine never becomes ready, and
//! it has no shell to look from. So the file is proven here, against a table of the OS's settings:
//!
//! - [`decode()`]: bytes, plain or gzip, to text; other wrappings are refused by name.
//! - [`check`]: everything that is wrong with a text, with its place.
//! - [`boot_settings`]: the kernel's parameters in it, to be consistent with `bootconfig.data`.
//! - [`add_dns`], [`add_boot`]: a table more, the rest of the text as it was.
//!
//! ```text
//! bytes -> decode -> syntax (TOML 1.0) -> walk (the table in settings/, shape, form) -> rules
//! ```
//!
//! User data holds tokens, keys and certificates: no finding and no error quotes a value, only
//! keys, types and places.
//!
//! Sources: bottlerocket-core-kit 3.1.1 `sources/early-boot-config` (how the file is read);
//! bottlerocket-settings-sdk, `bottlerocket-settings-models` 0.6.0 to 0.28.0 (what it may hold);
//! bottlerocket 1.26.1 `sources/settings-plugins` (which variant knows which settings).

mod add;
mod boot;
mod certificate;
mod decode;
mod findings;
mod form;
mod name;
mod rules;
mod settings;
mod shape;
mod syntax;
mod variant;
mod walk;

pub use add::{AddError, add_boot, add_dns};
pub use boot::boot_settings;
pub use decode::{DecodeError, Encoding, Foreign, MAX_BYTES, Text, decode};
pub use variant::Variant;

use semver::Version;

use crate::diagnostic::Diagnostic;
use crate::toml_1_0;
use findings::Findings;
use walk::Walk;

/// Most findings of one severity that are told of one file. A file of a million unknown keys is as
/// wrong as one of a hundred, and each finding costs a walk over the text for its place.
pub const MAX_FINDINGS: usize = 100;

/// What is known about the machine that will read the user data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The variant of the image. Without it, settings of any variant are taken, and those that no
    /// metal variant knows are warned of.
    pub variant: Option<Variant>,
    /// The version of the image. Without it, settings of any version are taken.
    pub os_version: Option<Version>,
    /// Whether `net.toml` gives every interface a static address, so that no lease brings DNS.
    pub static_network: bool,
}

/// Everything that is wrong with user data, in the order of the text. A file without an error is
/// taken by the OS.
///
/// There are at most [`MAX_FINDINGS`] findings of each severity.
pub fn check(text: &str, options: &Options) -> Vec<Diagnostic> {
    let mut findings = Findings::new(text);
    if text.is_empty() {
        findings.warning(None, "", "the file is empty: the OS starts with its defaults");
        return findings.into_sorted();
    }
    let root = match syntax::parse(text) {
        Ok(root) => root,
        Err(diagnostic) => return vec![diagnostic],
    };
    toml_1_0::check(text, |offset, rule| findings.error(Some(offset..offset), "", rule));
    if let Some(settings) = Walk::new(options, &mut findings).document(&root) {
        rules::check(settings, options, &mut findings);
    }
    findings.into_sorted()
}
