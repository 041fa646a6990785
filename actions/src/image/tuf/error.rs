//! Why nothing of a TUF repository can be had.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nibs_job::{Class, HexDigest};
use tough::error::Error as Tough;

use super::Error;

/// Why nothing of a TUF repository can be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TufError {
    /// The machine's clock cannot be right.
    #[error(
        "checking what has expired: this machine's clock shows {now}, but it is {earliest} at \
         least; set it (NTP, or in the firmware) and try again"
    )]
    Clock {
        /// What it shows.
        now: String,
        /// The earliest that is possible.
        earliest: String,
    },
    /// The root is not the one that is trusted.
    #[error(
        "checking the trusted root {place}: expected sha512 {expected}, found {found}; if the \
         repository has renewed its root, get the new digest from its makers, not from it"
    )]
    RootDigest {
        /// Where it is from.
        place: String,
        /// The digest in the job.
        expected: Box<HexDigest<64>>,
        /// That of the bytes.
        found: Box<HexDigest<64>>,
    },
    /// Nothing says whom to trust.
    #[error("choosing whom to trust: the job has neither a root nor root-sha512; add one")]
    NoTrust,
    /// The trusted root is no root, or not signed by its own keys.
    #[error(
        "reading the trusted root: {cause}; expected the root.json of the repository, signed by \
         its own keys"
    )]
    Root {
        /// What is wrong with it.
        cause: String,
    },
    /// Metadata has expired.
    #[error(
        "{url}: {}; by this machine's clock it is {now}; publish the repository's metadata anew, \
         or set expiration = \"ignore\" to take an old copy of it",
        listed(expired)
    )]
    Expired {
        /// The directory of the metadata.
        url: String,
        /// What has.
        expired: Vec<Expired>,
        /// The machine's time.
        now: String,
    },
    /// Metadata is not signed by those who have to.
    #[error(
        "{url}: the {role} metadata is not signed as the trusted root demands: {cause}; this is \
         another repository than the root is for, or somebody has tampered with it"
    )]
    Signature {
        /// The directory of the metadata.
        url: String,
        /// Which metadata.
        role: String,
        /// What is missing.
        cause: String,
    },
    /// Metadata is older than was seen before.
    #[error(
        "{url}: the repository has gone back: {cause}; a cache on the way may hold an old copy, or \
         somebody passes an old copy off as the newest"
    )]
    Rollback {
        /// The directory of the metadata.
        url: String,
        /// What was seen before, and what now.
        cause: String,
    },
    /// Files of the metadata do not belong together.
    #[error(
        "{url}: its files do not belong together: {cause}; the repository may be in the middle of \
         being published, or somebody has put it together from several states"
    )]
    MixAndMatch {
        /// The directory of the metadata.
        url: String,
        /// Which, and what was expected.
        cause: String,
    },
    /// A file is larger than it may be.
    #[error("{url}: expected at most {limit} bytes, found more")]
    TooLarge {
        /// The file, or the directory of the metadata.
        url: String,
        /// The most that are taken.
        limit: u64,
    },
    /// A file came drop by drop.
    #[error(
        "fetching {url}: not whole after {} s, though bytes kept coming; check the way to it",
        waited.as_secs()
    )]
    Slow {
        /// The file.
        url: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Metadata is not what it should be in another way.
    #[error("{url}: reading the repository's metadata: {cause}")]
    Metadata {
        /// The directory of the metadata.
        url: String,
        /// What is wrong.
        cause: String,
    },
    /// What was seen of the repository cannot be kept.
    #[error("keeping the repository's metadata in {}: {cause}; a tmpfs there will do", path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },

    /// There is no such target.
    #[error(
        "the repository has no target {name} for {targets}{}",
        nearest.as_ref().map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default()
    )]
    NoTarget {
        /// Its name.
        name: String,
        /// The directory of the targets.
        targets: String,
        /// One with a name like it.
        nearest: Option<String>,
    },
    /// A target that is read into memory is too large for that.
    #[error("the target {name} has {length} bytes; expected at most {limit}")]
    TargetTooLarge {
        /// Its name.
        name: String,
        /// Its length.
        length: u64,
        /// The most that is read.
        limit: u64,
    },
    /// The job expects another target.
    #[error(
        "the target {name} has sha256 {found} by the repository's metadata; expected {expected}, as \
         the job says"
    )]
    OtherDigest {
        /// Its name.
        name: String,
        /// The digest in the job.
        expected: Box<HexDigest<32>>,
        /// That in the metadata.
        found: Box<HexDigest<32>>,
    },
    /// A target has not the length that the metadata declares.
    #[error(
        "fetching the target {name}: expected {expected} bytes, as its signed metadata says, found \
         {found}; the server has another file there"
    )]
    Length {
        /// Its name.
        name: String,
        /// What the metadata says.
        expected: u64,
        /// What the server says or gives.
        found: String,
    },
}

/// A role whose metadata has expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// `root`, `timestamp`, `snapshot`, `targets`, or the name of a delegated role.
    pub role: String,
    /// When.
    pub date: String,
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} metadata expired on {}", self.role, self.date)
    }
}

fn listed(expired: &[Expired]) -> String {
    expired.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl TufError {
    /// Whose fault it is. A repository that has gone back, or whose files do not belong together,
    /// may be right again after the next turn of a cache.
    pub fn class(&self) -> Class {
        match self {
            Self::Rollback { .. } | Self::MixAndMatch { .. } | Self::Slow { .. } => {
                Class::Transient
            }
            Self::Clock { .. } | Self::State { .. } => Class::Environment,
            Self::RootDigest { .. }
            | Self::NoTrust
            | Self::Root { .. }
            | Self::Expired { .. }
            | Self::Signature { .. }
            | Self::TooLarge { .. }
            | Self::Metadata { .. }
            | Self::NoTarget { .. }
            | Self::TargetTooLarge { .. }
            | Self::OtherDigest { .. }
            | Self::Length { .. } => Class::InvalidInput,
        }
    }
}

/// What an error of `tough` says. `failure` is why the transport failed, if it has. Texts with URLs
/// in them are not taken over: they may hold secrets.
pub(super) fn of(error: Tough, failure: Option<Error>, url: &str) -> Error {
    let url = url.to_owned();
    let text = error.to_string();
    match error {
        Tough::Transport { source, .. } => {
            match (failure, std::error::Error::source(&source).and_then(as_tough)) {
                (Some(failure), _) => return failure,
                (None, Some(Tough::HashMismatch { calculated, expected, .. })) => {
                    let cause =
                        format!("expected a file with sha256 {expected}, found {calculated}");
                    TufError::MixAndMatch { url, cause }
                }
                (None, Some(&Tough::MaxSizeExceeded { max_size, .. })) => {
                    TufError::TooLarge { url, limit: max_size }
                }
                _ => TufError::Metadata { url, cause: "a file could not be fetched".into() },
            }
        }
        Tough::VerifyTrustedMetadata { source, .. } => TufError::Root { cause: source.to_string() },
        Tough::ParseTrustedMetadata { source, .. } => TufError::Root { cause: source.to_string() },
        Tough::VerifyMetadata { role, source, .. } => {
            TufError::Signature { url, role: role.to_string(), cause: source.to_string() }
        }
        Tough::ExpiredMetadata { .. } => {
            TufError::Expired { url, expired: Vec::new(), now: String::new() }
        }
        Tough::OlderMetadata { .. }
        | Tough::OlderSnapshotInTimestamp { .. }
        | Tough::SnapshotRoleMissing { .. }
        | Tough::SnapshotRoleRollback { .. } => TufError::Rollback { url, cause: text },
        Tough::VersionMismatch { .. } => TufError::MixAndMatch { url, cause: text },
        Tough::DatastoreOpen { path, source, .. }
        | Tough::DatastoreCreate { path, source, .. }
        | Tough::DatastoreRemove { path, source, .. } => TufError::State { path, cause: source },
        Tough::JoinUrl { .. } | Tough::ParseUrl { .. } => {
            TufError::Metadata { url, cause: "it names a file that no URL can name".into() }
        }
        _ => TufError::Metadata { url, cause: text },
    }
    .into()
}

fn as_tough<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Tough> {
    error.downcast_ref()
}
