//! Why an image could not be streamed.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use nibs_job::{Class, Size};

use super::bmap::MapError;
use super::format::QCOW2;
use super::tuf::TufError;
use crate::Interrupted;

/// What the functions of this module answer.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an image could not be streamed. Offsets and lengths are bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The work was stopped from outside.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),

    /// The server does not give the image.
    #[error(
        "fetching {url}: the server answered {status}; check the URL in the job and the access to it"
    )]
    Refused {
        /// Where the image is.
        url: String,
        /// Status code and its text.
        status: String,
    },
    /// None of several mirrors gives the image.
    #[error("no mirror gives the image: {said}")]
    Mirrors {
        /// Whose fault it is: transient if one of them may give it later.
        class: Class,
        /// What each of them said.
        said: String,
    },
    /// What a registry gives is not what was asked for.
    #[error("pulling {reference}: {cause}")]
    Registry {
        /// The image.
        reference: String,
        /// What was expected and what was found.
        cause: String,
    },
    /// Nothing can be had of a TUF repository.
    #[error(transparent)]
    Tuf(#[from] TufError),
    /// The server's certificate is not trusted.
    #[error("fetching {url}: {cause}; check the machine's clock and its CA certificates")]
    Certificate {
        /// Where the image is.
        url: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The server does not let this machine in.
    #[error(
        "fetching {url}: the server refuses this machine's TLS certificate, or wants one: {cause}; \
         check client-cert and client-key of image, and that the server trusts their issuer"
    )]
    ClientCertificate {
        /// Where the image is.
        url: String,
        /// What the server said.
        cause: String,
    },
    /// Nothing came for too long.
    #[error(
        "fetching {url}: no byte for {} at offset {offset}{}; last: {last}",
        humane(*waited), of(*total)
    )]
    Stalled {
        /// Where the image is.
        url: String,
        /// How many bytes had come.
        offset: u64,
        /// How many there are, if known.
        total: Option<u64>,
        /// How long none came.
        waited: Duration,
        /// What went wrong last.
        last: String,
    },
    /// The transfer broke, and cannot go on where it broke.
    #[error(
        "fetching {url}: the transfer broke at offset {offset}{} ({broke}) and cannot be resumed: \
         {why}; it has to start over",
        of(*total)
    )]
    NotResumable {
        /// Where the image is.
        url: String,
        /// How many bytes had come.
        offset: u64,
        /// How many there are, if known.
        total: Option<u64>,
        /// Why it broke.
        broke: String,
        /// Why it cannot go on.
        why: String,
    },
    /// A server does not give an image in any order.
    #[error(
        "fetching {url}: {cause}; a qcow2 image is read in another order than it is served: have it \
         served by one that does, or convert it with `qemu-img convert -O raw`"
    )]
    NoRanges {
        /// Where the image is.
        url: String,
        /// What is missing.
        cause: &'static str,
    },
    /// A request cannot be made at all.
    #[error("fetching {url}: {cause}")]
    Request {
        /// Where the image is.
        url: String,
        /// Why not.
        cause: String,
    },
    /// A file cannot be read.
    #[error("{doing} {}: {cause}", path.display())]
    File {
        /// What was being done, in the gerund.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file is not as long as it was when it was opened.
    #[error("reading {}: expected {expected} bytes, found {found}; it changed while being read", path.display())]
    FileChanged {
        /// The file.
        path: PathBuf,
        /// Its length when it was opened.
        expected: u64,
        /// What was read.
        found: u64,
    },

    /// The image is in a format that is no disk image as such.
    #[error(
        "the image is {format}; expected a raw disk image, plain or compressed with lz4, gzip, xz, zstd or bzip2"
    )]
    Format {
        /// What it is.
        format: &'static str,
    },
    /// A qcow2 image is damaged, or in a way that is not taken.
    #[error("reading the qcow2 image: {cause}")]
    Qcow2 {
        /// What is wrong with it.
        cause: String,
    },
    /// The compressed bytes are damaged or cut short.
    #[error("decoding {format} near offset {offset} of the image as served: {cause}")]
    Decode {
        /// The format.
        format: &'static str,
        /// How many bytes the decoder had taken.
        offset: u64,
        /// What is wrong there.
        cause: String,
    },
    /// Something follows the compressed image.
    #[error(
        "decoding {format}: the image ends at offset {offset} of the bytes as served, but more follow"
    )]
    TrailingBytes {
        /// The format.
        format: &'static str,
        /// Where the image ends.
        offset: u64,
    },
    /// There is no byte in it.
    #[error("the image is empty")]
    Empty,
    /// A disk image is whole sectors.
    #[error(
        "the image has {length} bytes, which is no whole number of 512-byte sectors: it was cut \
         short, or is no disk image"
    )]
    NotWholeSectors {
        /// What came, or will come.
        length: u64,
    },
    /// The image's partition table is damaged.
    #[error("reading the image's GPT: {cause}")]
    Table {
        /// What is wrong with it.
        cause: String,
    },
    /// The image ends before its own partition table says.
    #[error(
        "the image has {found} bytes, but its GPT says that it has {expected}: it was cut short"
    )]
    ShorterThanTable {
        /// What the table says.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// A digest differs.
    #[error("verifying the image: expected {algorithm} {expected} of the {of}, found {found}")]
    Digest {
        /// `sha256` or `sha512`.
        algorithm: &'static str,
        /// Of which bytes.
        of: &'static str,
        /// What the job says, hexadecimal.
        expected: String,
        /// What the bytes have, hexadecimal.
        found: String,
    },

    /// The image's block map cannot be used.
    #[error(
        "using the block map {place}: {cause}; give the image its own map, or none \
         (image.bmap = \"none\")"
    )]
    Map {
        /// Where the map is from.
        place: String,
        /// Why not.
        cause: MapError,
    },

    /// The image does not fit.
    #[error(
        "the image needs {}{needed} bytes ({}), {} has {size} ({})",
        if *at_least { "at least " } else { "" }, Size(*needed), disk.display(), Size(*size)
    )]
    TooSmall {
        /// The disk.
        disk: PathBuf,
        /// Its size.
        size: u64,
        /// The image's.
        needed: u64,
        /// Whether the image may need more.
        at_least: bool,
    },
    /// Image and disk differ in sector size.
    #[error(
        "the image is made for disks with sectors of {image} bytes, {} has sectors of {found}: \
         its GPT would not be found there; use an image made for {found}-byte sectors",
        disk.display()
    )]
    SectorSize {
        /// The disk.
        disk: PathBuf,
        /// Sector size of the image's GPT.
        image: u32,
        /// Sector size of the disk.
        found: u32,
    },
    /// The disk failed.
    #[error("{doing} {} at offset {offset}, {length} bytes: {cause}", disk.display())]
    Disk {
        /// What was being done, in the gerund.
        doing: &'static str,
        /// The disk.
        disk: PathBuf,
        /// Where.
        offset: u64,
        /// How much.
        length: u64,
        /// What the system said.
        cause: io::Error,
    },
    /// The disk does not make durable what is written to it.
    #[error("flushing {}: {cause}; what was written to it may be lost", disk.display())]
    Flush {
        /// The disk.
        disk: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The disk does not keep what is written to it.
    #[error(
        "reading back {}: expected the bytes written, found {} at {}; the disk, its cable or its \
         controller is faulty",
        disk.display(), found(unreadable.as_ref()), listed(ranges)
    )]
    Misread {
        /// The disk.
        disk: PathBuf,
        /// Where, in order.
        ranges: Vec<Range<u64>>,
        /// If some of them cannot be read at all: what the system said first.
        unreadable: Option<io::Error>,
    },
    /// A thread could not be started.
    #[error("starting a thread: {0}")]
    Thread(io::Error),
    /// A part of the engine fell over.
    #[error("the {stage} stage of the image engine ended without a word; this is a fault of Nibs")]
    Vanished {
        /// Which one.
        stage: &'static str,
    },
}

impl Error {
    /// Which ranges of the disk have to be written once more; none if it is another error.
    pub(crate) fn misread(self) -> Option<Vec<Range<u64>>> {
        match self {
            Self::Misread { ranges, .. } => Some(ranges),
            _ => None,
        }
    }

    /// Whether it is that the image is qcow2, which is no stream.
    pub(crate) fn is_qcow2(&self) -> bool {
        matches!(self, Self::Format { format } if *format == QCOW2)
    }

    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Interrupted(Interrupted::TimedOut)
            | Self::Stalled { .. }
            | Self::NotResumable { .. }
            | Self::FileChanged { .. } => Class::Transient,
            Self::Mirrors { class, .. } => *class,
            Self::Tuf(error) => error.class(),
            Self::Refused { .. }
            | Self::Registry { .. }
            | Self::ClientCertificate { .. }
            | Self::Request { .. }
            | Self::NoRanges { .. }
            | Self::Qcow2 { .. }
            | Self::Format { .. }
            | Self::Decode { .. }
            | Self::TrailingBytes { .. }
            | Self::Empty
            | Self::NotWholeSectors { .. }
            | Self::Table { .. }
            | Self::ShorterThanTable { .. }
            | Self::Digest { .. }
            | Self::Map { .. }
            | Self::SectorSize { .. } => Class::InvalidInput,
            Self::Certificate { .. }
            | Self::File { .. }
            | Self::TooSmall { .. }
            | Self::Disk { .. }
            | Self::Flush { .. }
            | Self::Misread { .. }
            | Self::Thread(_) => Class::Environment,
            Self::Interrupted(Interrupted::Cancelled) | Self::Vanished { .. } => Class::Internal,
        }
    }
}

fn found(unreadable: Option<&io::Error>) -> String {
    match unreadable {
        Some(cause) => format!("others or none ({cause})"),
        None => "others".into(),
    }
}

/// How many ranges an error names.
const LISTED: usize = 8;

/// Ranges of bytes as text, the last one of each included.
fn listed(ranges: &[Range<u64>]) -> String {
    let one = |range: &Range<u64>| format!("bytes {} to {}", range.start, range.end - 1);
    let mut text = ranges.iter().take(LISTED).map(one).collect::<Vec<_>>().join(", ");
    if ranges.len() > LISTED {
        text += &format!(" and {} more", ranges.len() - LISTED);
    }
    text
}

fn of(total: Option<u64>) -> String {
    total.map_or_else(String::new, |total| format!(" of {total}"))
}

fn humane(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64().round())
}
