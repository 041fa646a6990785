//! The files of the private partition checked together, before any of them is written.
//!
//! Each is checked for itself by its own module. What only shows when two of them lie side by side
//! is found here: parameters of the kernel that user data would overwrite, and a static network
//! without name servers.
//!
//! Whoever has a job or a request fills [`Files`] in from it; what is not given is not known, and
//! nothing is said about it.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use semver::Version;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::bootconfig::{self, BootSettings, Tree};
use crate::diagnostic::Diagnostic;
use crate::net_toml::{self, Names, Network};
use crate::partitions::private_file;
use crate::user_data::{self, Variant};

/// A file of the private partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrivateFile {
    /// `user-data.toml`
    UserData,
    /// `net.toml`
    NetToml,
    /// `bootconfig.data`
    Bootconfig,
}

impl PrivateFile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::UserData, Self::NetToml, Self::Bootconfig];

    /// Its name at the root of the partition.
    pub fn name(self) -> &'static str {
        match self {
            Self::UserData => private_file::USER_DATA,
            Self::NetToml => private_file::NET_CONFIG,
            Self::Bootconfig => private_file::BOOT_CONFIG,
        }
    }

    /// The one that an absolute path on the partition is.
    pub fn at(path: &Path) -> Option<Self> {
        let name = path.strip_prefix("/").ok()?;
        Self::ALL.into_iter().find(|file| Path::new(file.name()) == name)
    }
}

impl fmt::Display for PrivateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for PrivateFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What a machine will have on its private partition, as far as it is known.
#[derive(Clone, Default)]
pub struct Files<'a> {
    /// `user-data.toml`, plain or gzip.
    pub user_data: Option<Cow<'a, [u8]>>,
    /// `net.toml`.
    pub net_toml: Option<Net<'a>>,
    /// `bootconfig.data`.
    pub bootconfig: Option<Bootconfig<'a>>,
}

impl Files<'_> {
    /// Adds a file as it will be written to a path on the partition, in place of one that was there
    /// before. Other files than the three are none of this check's business.
    pub fn write(&mut self, path: &Path, bytes: Vec<u8>) {
        match PrivateFile::at(path) {
            Some(PrivateFile::UserData) => self.user_data = Some(bytes.into()),
            Some(PrivateFile::NetToml) => self.net_toml = Some(Net::Text(bytes.into())),
            Some(PrivateFile::Bootconfig) => {
                self.bootconfig = Some(Bootconfig::Packed(bytes.into()));
            }
            None => {}
        }
    }
}

/// Shows which files there are, not what they say: user data holds secrets.
impl fmt::Debug for Files<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("user_data", &self.user_data.is_some())
            .field("net_toml", &self.net_toml.is_some())
            .field("bootconfig", &self.bootconfig.is_some())
            .finish()
    }
}

/// `net.toml`, or what it will be made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Net<'a> {
    /// The file.
    Text(Cow<'a, [u8]>),
    /// A description of the interfaces, each a [`net_toml::Interface`].
    Interfaces {
        /// The interfaces.
        interfaces: Cow<'a, [Map<String, Value>]>,
        /// The file's version; the oldest that can say it if there is none.
        version: Option<u8>,
    },
}

/// `bootconfig.data`, or what it will be made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootconfig<'a> {
    /// The text that will be packed.
    Text(Cow<'a, [u8]>),
    /// The file itself.
    Packed(Cow<'a, [u8]>),
    /// The parameters that the text will be made of. They will also be in user data.
    Settings(BootSettings),
}

/// What is known of the system that will read the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The image's variant. Without it, settings of any variant are taken.
    pub variant: Option<Variant>,
    /// The image's version. Without it, what any version knows is taken.
    pub version: Option<Version>,
}

/// Something that is wrong with one of the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub file: PrivateFile,
    /// What is wrong with it, and where. A file that is yet to be made has no places.
    #[serde(flatten)]
    pub diagnostic: Diagnostic,
}

/// As compilers write it: `net.toml:3:7: error: key: message`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.in_file(self.file))
    }
}

/// Everything that is wrong with the files: each for itself, and beside each other. Without an
/// error among them Bottlerocket takes them all.
///
/// No finding quotes user data, but for the kernel's and init's parameters in it.
pub fn check(files: &Files<'_>, target: &Target) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |file, diagnostics: Vec<Diagnostic>| {
        findings.extend(diagnostics.into_iter().map(|diagnostic| Finding { file, diagnostic }));
    };

    let network = files.net_toml.as_ref().map(|net| net_toml(net, target.version.as_ref()));
    let mut static_network = false;
    if let Some(checked) = network {
        static_network = checked.model.is_some_and(|model| model.is_static());
        found(PrivateFile::NetToml, checked.diagnostics);
    }

    let mut settings = None;
    if let Some(bytes) = &files.user_data {
        let (diagnostics, boot) = user_data(bytes, target, static_network);
        settings = boot;
        found(PrivateFile::UserData, diagnostics);
    }

    if let Some(bootconfig) = &files.bootconfig {
        let bootconfig::Checked { tree, findings } = self::bootconfig(bootconfig);
        found(PrivateFile::Bootconfig, findings);
        if let (Some(tree), Some(settings)) = (tree, settings) {
            let differences = bootconfig::settings::consistency(&tree, &settings);
            found(PrivateFile::Bootconfig, differences);
        }
    }
    findings.sort_by_key(|finding| finding.file);
    findings
}

fn net_toml(net: &Net<'_>, version: Option<&Version>) -> net_toml::Checked {
    let (interfaces, format) = match net {
        Net::Text(text) => return net_toml::check(text, version),
        Net::Interfaces { interfaces, version } => (interfaces, *version),
    };
    let made = Network::from_tables(interfaces)
        .and_then(|network| net_toml::render(&network, format, &Names::STAND_INS));
    match made {
        Ok(text) => {
            let mut checked = net_toml::check(text.as_bytes(), version);
            // Nobody but this function has seen the text.
            checked.diagnostics.iter_mut().for_each(|diagnostic| diagnostic.place = None);
            checked
        }
        Err(net_toml::Error::Refused { diagnostics }) => {
            net_toml::Checked { model: None, diagnostics }
        }
        Err(error) => net_toml::Checked { model: None, diagnostics: vec![whole(&error)] },
    }
}

/// The findings, and the table `settings.boot` if there is one that can be read.
fn user_data(
    bytes: &[u8],
    target: &Target,
    static_network: bool,
) -> (Vec<Diagnostic>, Option<BootSettings>) {
    let text = match user_data::decode(bytes) {
        Ok(decoded) => decoded.text,
        Err(error) => return (vec![whole(&error)], None),
    };
    let Target { variant, version } = target.clone();
    let options = user_data::Options { variant, os_version: version, static_network };
    let findings = user_data::check(&text, &options);
    // Why it could not be read is among the findings already.
    (findings, user_data::boot_settings(&text).ok().flatten())
}

fn bootconfig(bootconfig: &Bootconfig<'_>) -> bootconfig::Checked {
    match bootconfig {
        Bootconfig::Text(text) => bootconfig::check_text(text),
        Bootconfig::Packed(data) => bootconfig::check_packed(data),
        Bootconfig::Settings(settings) => match Tree::try_from(settings) {
            Err(error) => bootconfig::Checked { tree: None, findings: vec![whole(&error)] },
            Ok(tree) => {
                let mut findings = bootconfig::bottlerocket_check(&tree);
                if findings.is_empty() {
                    findings.extend(bootconfig::render(&tree).err().map(|error| whole(&error)));
                }
                bootconfig::Checked { tree: Some(tree), findings }
            }
        },
    }
}

/// An error about a file as a whole.
fn whole(error: &dyn std::error::Error) -> Diagnostic {
    Diagnostic::error(None, "", error.to_string())
}

#[cfg(test)]
mod tests;
