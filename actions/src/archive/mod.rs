//! `extract-archive`: a tar archive into a filesystem on a disk.
//!
//! ```text
//! source ──> digest ──> decoder ──> members ──> tree ──> [verdict] ──> sync, unmount
//! ```
//!
//! - [`members`]: what is in an archive, one after the other.
//! - [`tree`]: each of them in its place, and nothing anywhere else.
//!
//! What was extracted of an archive that turns out to be cut or wrong stays where it is: the action
//! has failed, and nothing may be started from there.

mod members;
mod tree;

use std::io::Read;
use std::path::Path;

use nibs_job::Size;
use nibs_job::params::{ExtractArchive, Filesystem};

use self::members::{Member, Members, Trouble};
use self::tree::Tree;
use crate::mount::{self, Access, Root};
use crate::stream_image::Restarts;
use crate::stream_image::source::{self, Opened};
use crate::{Context, Done, Error, image, partition};

pub use self::tree::EntryError;

/// Why an archive could not be extracted.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Its bytes cannot be had, or are not the right ones.
    #[error("extracting {place}: {cause}")]
    Image {
        /// Where the archive is.
        place: String,
        /// What is wrong.
        cause: Box<image::Error>,
    },
    /// It is no tar archive, or a damaged one.
    #[error(
        "extracting {place}: {cause}; expected a tar archive, plain or compressed with lz4, gzip, \
         xz, zstd or bzip2"
    )]
    Malformed {
        /// Where the archive is.
        place: String,
        /// What is wrong.
        cause: String,
    },
    /// Something in it cannot be put where it belongs.
    #[error("extracting {name:?} of {place}: {cause}")]
    Entry {
        /// Where the archive is.
        place: String,
        /// The name in the archive.
        name: String,
        /// Why not.
        cause: EntryError,
    },
}

impl ArchiveError {
    /// Whose fault it is.
    pub fn class(&self) -> nibs_job::Class {
        match self {
            Self::Image { cause, .. } => cause.class(),
            Self::Malformed { .. } => nibs_job::Class::InvalidInput,
            Self::Entry { cause, .. } => cause.class(),
        }
    }
}

/// Does the action.
pub(crate) fn run(params: &ExtractArchive, context: &Context) -> Result<Done, Error> {
    let device = partition::device(&params.partition, params.disk.as_ref(), context)?;
    mount::wait_for_node(&device)?;
    let filesystem = mount::mountable(&device, params.filesystem)?;
    let place = source::place(&params.archive).to_string();
    let mut restarts = Restarts::new(params.archive.stall_timeout.0);
    let (entries, bytes) = loop {
        match extract(params, &device, filesystem, &place, context) {
            Ok(done) => break done,
            Err(error) => restarts.after(error, context).map_err(|error| named(error, &place))?,
        }
    };
    context.info(format!(
        "extracted {place} into {} of {}: {entries} entries, {} of files",
        params.path.display(),
        device.display(),
        Size(bytes)
    ));
    Ok(Done::default())
}

/// The archive's own words about what is told of an image.
fn named(error: Error, place: &str) -> Error {
    match error {
        Error::Image(cause) => {
            ArchiveError::Image { place: place.into(), cause: Box::new(cause) }.into()
        }
        other => other,
    }
}

fn extract(
    params: &ExtractArchive,
    device: &Path,
    filesystem: Filesystem,
    place: &str,
    context: &Context,
) -> Result<(u64, u64), Error> {
    let stop = context.stop.child();
    let opened = source::open(&params.archive, context, &stop)?;
    if !opened.is_proven() {
        context.sink.warning(format!(
            "nothing proves {place}: there is no digest of it; add sha256 to archive"
        ));
    }
    let Opened { source, served, whole, .. } = opened;
    context.info(format!("extracting {place} onto {}", device.display()));
    mount::with_mounted(device, filesystem, Access::ReadWrite, |root| {
        image::unpack(source, (served, whole), &stop, &*context.sink, |reader| {
            extract_all(reader, root, &params.path, place, context)
        })
    })
}

fn extract_all(
    reader: &mut dyn Read,
    root: &Root,
    path: &Path,
    place: &str,
    context: &Context,
) -> Result<(u64, u64), Error> {
    let malformed = |trouble: Trouble| match trouble {
        Trouble::Malformed(cause) => ArchiveError::Malformed { place: place.into(), cause },
        Trouble::Io(error) => {
            ArchiveError::Malformed { place: place.into(), cause: error.to_string() }
        }
    };
    let entry = |member: &Member, cause| ArchiveError::Entry {
        place: place.into(),
        name: String::from_utf8_lossy(&member.name).into_owned(),
        cause,
    };
    let mut tree = Tree::open(root, path)?;
    let mut members = Members::new(reader);
    let mut count = 0;
    while let Some(member) = members.next().map_err(malformed)? {
        context.check()?;
        tree.put(&member, &mut members).map_err(|cause| entry(&member, cause))?;
        count += 1;
    }
    let bytes = tree.finish(context)?;
    Ok((count, bytes))
}
