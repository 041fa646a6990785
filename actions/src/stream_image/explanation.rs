//! What an action that brings an image would do, as a value: for people by the agent, for programs as JSON.

use std::ops::Range;

use nibs_job::{Class, DiskFacts};
use serde::Serialize;

/// What would be done, and why it may.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Explanation {
    /// The disk; none if none, or more than one, is the one that is meant.
    pub disk: Option<ChosenDisk>,
    /// The other disks of the machine, and why it is none of them.
    pub other_disks: Vec<OtherDisk>,
    /// The image.
    pub image: ImageSeen,
    /// What would be written; none if that cannot be told.
    pub plan: Option<Plan>,
    /// Files that would be written for the installed system.
    pub files: Vec<FileSeen>,
    /// What is not as it should be, and would stop nothing.
    pub warnings: Vec<String>,
    /// Why it would not start; empty if it would.
    pub refusals: Vec<Refusal>,
}

/// The disk that would be written.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ChosenDisk {
    /// What it is.
    #[serde(flatten)]
    pub facts: DiskFacts,
    /// By what the job chooses it.
    pub chosen_by: String,
    /// The signatures that its first and last MiB hold.
    pub signatures: Vec<String>,
    /// The partitions of its GPT.
    pub partitions: Vec<PartitionSeen>,
    /// What uses it now.
    pub used_by: Vec<String>,
}

/// A partition that would be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PartitionSeen {
    /// Number in the table, from 1.
    pub number: u32,
    /// GPT name.
    pub name: String,
    /// Type GUID.
    pub type_guid: String,
    /// First byte on the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

/// A disk that would not be touched.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OtherDisk {
    /// What it is.
    #[serde(flatten)]
    pub facts: DiskFacts,
    /// The criteria of the job that it does not meet, by their keys. Empty if it meets all.
    pub unmet: Vec<String>,
}

/// What can be told of the image from its server's answer and its first bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageSeen {
    /// Where the job says that it is, without what may be secret in it.
    pub places: Vec<String>,
    /// Which of those answered, or where a registry keeps it.
    pub answered: Option<String>,
    /// Bytes as served.
    pub served: Option<u64>,
    /// The format in which it is served.
    pub format: Option<String>,
    /// The digests that prove it.
    pub digests: Vec<DigestSeen>,
    /// How long it is.
    pub size: Option<ImageSize>,
    /// The block map that is used with it.
    pub map: Option<MapSeen>,
}

/// A map that tells which bytes of an image hold something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MapSeen {
    /// Where it is from, without what may be secret in it.
    pub place: String,
    /// Bytes that hold something.
    pub mapped: u64,
}

/// A digest that proves an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DigestSeen {
    /// `sha256` or `sha512`.
    pub algorithm: &'static str,
    /// Of which bytes.
    pub of: DigestOf,
    /// What it has to be, hexadecimal.
    pub digest: String,
}

/// The bytes that a digest is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DigestOf {
    /// Those that are served.
    Served,
    /// The image itself, decompressed.
    Image,
}

/// How long an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageSize {
    /// Bytes.
    pub bytes: u64,
    /// Whether it may be more.
    pub at_least: bool,
    /// What tells it.
    pub told_by: ToldBy,
}

/// What tells the length of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToldBy {
    /// The image's own GPT.
    Gpt,
    /// Its block map.
    Map,
    /// Its format: a frame's header, an index, or its plain length.
    Format,
}

/// What would be done to the disk, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// What is done first to have the disk for oneself, in order.
    pub release: Vec<String>,
    /// What is cleared before the first byte of the image, in order.
    pub cleared: Vec<Extent>,
    /// What is kept in memory until all else is proven, in order of its place.
    pub held_back: Vec<Extent>,
    /// Bytes of the image that the disk is neither sent nor told of, as the block map says.
    pub left_alone: u64,
    /// Where the backup GPT goes if the disk is larger than the image.
    pub backup_moves_to: Option<u64>,
    /// Whether the disk is written past the page cache.
    pub direct: bool,
    /// Whether all that is written is read back and compared.
    pub read_back: bool,
}

/// A range of bytes on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// Its first byte.
    pub start: u64,
    /// The first byte behind it.
    pub end: u64,
}

/// A file that would be written, of which only this may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileSeen {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// Why the action would not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refusal {
    /// Whose fault it is.
    pub class: Class,
    /// What was being done, to what, what was expected and found.
    pub message: String,
}

impl From<&Range<u64>> for Extent {
    fn from(range: &Range<u64>) -> Self {
        Self { start: range.start, end: range.end }
    }
}
