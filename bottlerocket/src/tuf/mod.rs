//! Which target of a TUF repository is the disk image that is meant.
//!
//! `manifest.json`, a target itself, lists the versions of each variant, for machines that update
//! themselves (bottlerocket-core-kit, `sources/updater/update_metadata`). It does not name the disk
//! images: they lie beside it under a name made of variant, architecture and version (twoliter,
//! `Makefile.toml`). Its waves, by which updates reach a fleet bit by bit, mean nothing to an
//! installation.

#[cfg(test)]
mod tests;

use std::fmt::Write;

use semver::Version;
use serde::Deserialize;

/// The target that lists the versions.
pub const MANIFEST: &str = "manifest.json";

/// How disk images end.
const IMAGE_SUFFIX: &str = ".img.lz4";

/// How many names or versions an error lists.
const LISTED: usize = 6;

/// The versions that a repository has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// In no order.
    pub updates: Vec<Update>,
}

/// One version of one variant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Update {
    /// Such as `metal-dev`.
    pub variant: String,
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// The version.
    pub version: Version,
    /// The newest version that machines of this variant may have at present. A version above it
    /// has been withdrawn.
    pub max_version: Version,
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Such as `metal-dev`.
    pub variant: String,
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// The version; if none, the newest that is not withdrawn and has a disk image.
    pub version: Option<Version>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its version.
    pub version: Version,
    /// The name of the disk image among the targets.
    pub target: String,
    /// What is odd about it, for the operator.
    pub remarks: Vec<String>,
}

/// Why no disk image was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChooseError {
    /// The manifest cannot be read.
    #[error("reading the repository's {MANIFEST}: {0}")]
    Manifest(String),
    /// Nothing is there for the variant and the architecture.
    #[error("the repository has no variant {of}; there is: {}", listed(there))]
    NoVariant {
        /// Variant and architecture, as `variant for arch`.
        of: String,
        /// What there is, as `variant for arch`.
        there: Vec<String>,
    },
    /// The version is not there.
    #[error(
        "the repository has no version {version} of {of}; nearest to it and newest: {}",
        listed(there)
    )]
    NoVersion {
        /// Variant and architecture, as `variant for arch`.
        of: String,
        /// The version.
        version: Version,
        /// Some that are there, from old to new.
        there: Vec<Version>,
    },
    /// There is a version, but no disk image of it.
    #[error(
        "the repository has no disk image of version {version} of {of}: expected the target \
         {target}; images that it has: {}; if it is under another name, give that as target",
        listed(there)
    )]
    NoImage {
        /// Variant and architecture, as `variant for arch`.
        of: String,
        /// The version, or the newest of several without an image.
        version: Version,
        /// The name that its image would have.
        target: String,
        /// The disk images that are there.
        there: Vec<String>,
    },
    /// All versions of the variant are withdrawn.
    #[error(
        "every version of {of} in the repository is above its max_version, so \
         withdrawn: {}; name one as version to have it all the same",
        listed(there)
    )]
    AllWithdrawn {
        /// Variant and architecture, as `variant for arch`.
        of: String,
        /// The versions, from old to new.
        there: Vec<Version>,
    },
}

impl Manifest {
    /// Reads the target [`MANIFEST`].
    pub fn parse(json: &[u8]) -> Result<Self, ChooseError> {
        serde_json::from_slice(json).map_err(|error| ChooseError::Manifest(error.to_string()))
    }

    /// Finds the disk image that is wanted; `targets` are the names of all targets.
    pub fn choose(&self, wanted: &Wanted, targets: &[&str]) -> Result<Choice, ChooseError> {
        let Wanted { variant, arch, version } = wanted;
        let mut fitting: Vec<&Update> = self
            .updates
            .iter()
            .filter(|update| update.variant == *variant && update.arch == *arch)
            .collect();
        if fitting.is_empty() {
            return Err(ChooseError::NoVariant { of: wanted.name(), there: self.variants() });
        }
        fitting.sort_by(|a, b| a.version.cmp(&b.version));
        match version {
            Some(version) => exactly(version, wanted, &fitting, targets),
            None => newest(wanted, &fitting, targets),
        }
    }

    fn variants(&self) -> Vec<String> {
        let name = |update: &Update| name(&update.variant, &update.arch);
        let mut names: Vec<String> = self.updates.iter().map(name).collect();
        names.sort();
        names.dedup();
        names
    }
}

impl Wanted {
    fn name(&self) -> String {
        name(&self.variant, &self.arch)
    }
}

fn name(variant: &str, arch: &str) -> String {
    format!("{variant} for {arch}")
}

impl Update {
    /// The name of its disk image among the targets.
    fn image(&self) -> String {
        format!("bottlerocket-{}-{}-v{}{IMAGE_SUFFIX}", self.variant, self.arch, self.version)
    }

    fn is_withdrawn(&self) -> bool {
        self.version > self.max_version
    }

    fn no_image(&self, targets: &[&str]) -> ChooseError {
        let mut there: Vec<String> = targets
            .iter()
            .filter(|name| name.ends_with(IMAGE_SUFFIX))
            .map(|name| (*name).to_owned())
            .collect();
        there.sort();
        ChooseError::NoImage {
            of: name(&self.variant, &self.arch),
            version: self.version.clone(),
            target: self.image(),
            there,
        }
    }
}

/// `fitting` is in order of versions, here and below.
fn exactly(
    version: &Version,
    wanted: &Wanted,
    fitting: &[&Update],
    targets: &[&str],
) -> Result<Choice, ChooseError> {
    let Some(update) = fitting.iter().find(|update| update.version == *version) else {
        return Err(ChooseError::NoVersion {
            of: wanted.name(),
            version: version.clone(),
            there: nearest_and_newest(version, fitting),
        });
    };
    let target = update.image();
    if !targets.contains(&target.as_str()) {
        return Err(update.no_image(targets));
    }
    let remarks = match update.is_withdrawn() {
        true => vec![format!(
            "the repository has withdrawn version {version}: its max_version is {}",
            update.max_version
        )],
        false => Vec::new(),
    };
    Ok(Choice { version: version.clone(), target, remarks })
}

fn newest(wanted: &Wanted, fitting: &[&Update], targets: &[&str]) -> Result<Choice, ChooseError> {
    let offered: Vec<_> = fitting.iter().rev().filter(|update| !update.is_withdrawn()).collect();
    let Some(first) = offered.first() else {
        return Err(ChooseError::AllWithdrawn {
            of: wanted.name(),
            there: fitting.iter().map(|update| update.version.clone()).collect(),
        });
    };
    let mut remarks = Vec::new();
    for update in &offered {
        let target = update.image();
        if targets.contains(&target.as_str()) {
            return Ok(Choice { version: update.version.clone(), target, remarks });
        }
        remarks.push(format!("version {} is passed over: there is no {target}", update.version));
    }
    Err(first.no_image(targets))
}

/// The versions on both sides of one that is not there, and the newest ones.
fn nearest_and_newest(version: &Version, fitting: &[&Update]) -> Vec<Version> {
    let above = fitting.partition_point(|update| update.version < *version);
    let newest = fitting.len().saturating_sub(LISTED - 2);
    let near = above.saturating_sub(1)..(above + 1).min(fitting.len());
    let chosen = (0..fitting.len()).filter(|index| near.contains(index) || *index >= newest);
    chosen.map(|index| fitting[index].version.clone()).collect()
}

fn listed<T: std::fmt::Display>(all: &[T]) -> String {
    let mut text = String::new();
    for (index, one) in all.iter().take(LISTED).enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        // Writing into a String does not fail.
        let _ = write!(text, "{comma}{one}");
    }
    match all.len() {
        0 => "none".into(),
        length if length > LISTED => format!("{text} and {} more", length - LISTED),
        _ => text,
    }
}
