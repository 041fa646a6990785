//! Block maps (bmap): which blocks of an image hold something, and what those hash to.
//!
//! A map is an XML file beside an image, made by `bmaptool create` (format versions 1.2, 1.3, 1.4
//! and 2.0). Blocks that it does not list are nobody's: a filesystem made in a sparse file has never
//! touched them. So they need not be written, and may keep what the disk held. That is believed only
//! as far as it cannot lose a byte: whatever is not listed has to be zero in the image, and a former
//! owner's filesystem must not come through at the ends of a partition.
//!
//! - [`BlockMap`], [`parse`](mod@parse): what a map says, proven by its own checksum.
//! - [`check`]: whether the image that streams by is the one that the map is of.
//! - [`idle`]: what of the disk may be left as it is.
//! - [`MapError`]: why a map cannot be used.

mod check;
mod error;
mod idle;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Digest, Sha256, Sha512};

pub(super) use self::check::MapCheck;
pub use self::error::MapError;
use super::Result;

/// The longest map that is read. `bmaptool` writes some 110 bytes for a range, so this is for
/// 150 000 of them. Bytes.
pub const MAP_MAX: usize = 16 << 20;

/// Which blocks of an image hold something. Offsets and lengths are bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct BlockMap {
    /// Where it is from, without what may be secret in it.
    place: String,
    /// How long the image is.
    image_size: u64,
    /// How long a block is; the image's last one may be shorter.
    block_size: u64,
    /// How ranges are hashed, if they are.
    algorithm: Option<Algorithm>,
    /// What holds something: in order, none empty, none with a byte of another.
    mapped: Vec<Mapped>,
}

/// A range of an image that holds something.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapped {
    range: Range<u64>,
    /// What its bytes hash to, if the map says so.
    digest: Option<Box<[u8]>>,
}

impl BlockMap {
    /// Reads a map. `place` is where it is from, for errors and the log.
    pub fn parse(place: &str, bytes: &[u8]) -> Result<Self> {
        parse::parse(place, bytes).map_err(|cause| cause.at(place))
    }

    /// Where it is from, without what may be secret in it.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// How long its image is. Bytes.
    pub fn image_size(&self) -> u64 {
        self.image_size
    }

    /// How much of its image holds something. Bytes.
    pub fn mapped_size(&self) -> u64 {
        self.mapped.iter().map(|mapped| mapped.range.end - mapped.range.start).sum()
    }
}

impl fmt::Debug for BlockMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockMap")
            .field("place", &self.place)
            .field("image_size", &self.image_size)
            .field("block_size", &self.block_size)
            .field("algorithm", &self.algorithm)
            .field("ranges", &self.mapped.len())
            .finish()
    }
}

/// How a map and its ranges are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    /// The only one before format 1.4. It finds faults, not forgers.
    Sha1,
    /// What `bmaptool` uses unless it is told otherwise.
    Sha256,
    Sha512,
}

impl Algorithm {
    const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha512];

    /// As `ChecksumType` has it.
    fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hasher(self) -> Box<dyn DynDigest + Send> {
        match self {
            Self::Sha1 => Box::new(Sha1::new()),
            Self::Sha256 => Box::new(Sha256::new()),
            Self::Sha512 => Box::new(Sha512::new()),
        }
    }
}
