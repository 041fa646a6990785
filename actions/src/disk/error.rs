//! Why a disk could not be found, claimed or read.

use std::io;
use std::path::{Path, PathBuf};

use nibs_job::{Class, Size};

use super::{SelectError, Use};

/// What the functions of this module answer.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a disk could not be found, claimed or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused.
    #[error("{doing} {}: {cause}", path.display())]
    Io {
        /// What was being done, in the gerund.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// No disk, or more than one, is the one that is meant.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A path names something else than a whole disk.
    #[error("looking at {}: expected a whole disk, found {found}", path.display())]
    NotADisk {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// Something uses the disk.
    #[error(
        "{} is in use: {}; stop that first, or have it stopped (disk.release)",
        path.display(), listed(uses)
    )]
    Busy {
        /// The disk.
        path: PathBuf,
        /// All that uses it.
        uses: Vec<Use>,
    },
    /// Another process has claimed the disk.
    #[error(
        "claiming {}: another process has it open or locked; see which with `fuser -v {}`",
        path.display(),
        path.display()
    )]
    Claimed {
        /// The disk.
        path: PathBuf,
    },
    /// The disk takes no writes.
    #[error("{} is read-only: it cannot be installed to", path.display())]
    ReadOnly {
        /// The disk.
        path: PathBuf,
    },
    /// The partition table cannot be read.
    #[error(
        "reading the GPT of {}: expected a partition table at its start or end, found none that is \
         whole ({cause}); check that this is the disk that was meant, and install an image to it \
         first",
        path.display()
    )]
    Table {
        /// The disk.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Partitions do not fit on a disk.
    #[error(
        "partitioning {}: the partitions need {}, the disk has room for {}; make them smaller",
        path.display(), Size(*needed), Size(*room)
    )]
    NoRoom {
        /// The disk.
        path: PathBuf,
        /// Bytes that the partitions take, with what lies before them.
        needed: u64,
        /// Bytes that they may take.
        room: u64,
    },
    /// The new partition table could not be made or written.
    #[error("partitioning {}: {cause}", path.display())]
    NewTable {
        /// The disk.
        path: PathBuf,
        /// What went wrong.
        cause: String,
    },
    /// The kernel does not show the partitions of a disk.
    #[error("waiting for the partitions of {}: {cause}", path.display())]
    Settle {
        /// The disk.
        path: PathBuf,
        /// What is missing.
        cause: String,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Select(error) => error.class(),
            Self::NotADisk { .. } | Self::NoRoom { .. } => Class::InvalidInput,
            Self::Io { .. }
            | Self::Busy { .. }
            | Self::Claimed { .. }
            | Self::ReadOnly { .. }
            | Self::Table { .. }
            | Self::NewTable { .. }
            | Self::Settle { .. } => Class::Environment,
        }
    }

    /// Wraps what the system said.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { doing, path: path.to_owned(), cause }
    }
}

fn listed(uses: &[Use]) -> String {
    uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
