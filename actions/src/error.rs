//! Why an action failed, and whose fault that is.

use nibs_bottlerocket::tuf::ChooseError;
use nibs_job::Class;

use crate::archive::ArchiveError;
use crate::boot_order::LoaderError;
use crate::bottlerocket::Error as BottlerocketError;
use crate::kexec::KexecError;
use crate::layout::FormatError;
use crate::mount::{FileError, MountError};
use crate::partition::LocateError;
use crate::power::PowerError;
use crate::process::ProcessError;
use crate::storage::StorageError;
use crate::upload_image::UploadError;
use crate::{Interrupted, disk, http, image};

/// Why an action failed. Its text is one line: what was being done, to what, what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It was told to stop.
    #[error("cancelled")]
    Cancelled,
    /// Its `timeout` has passed.
    #[error("the action's timeout has passed")]
    TimedOut,
    /// Finding, claiming or reading a disk failed.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// Streaming an image failed.
    #[error(transparent)]
    Image(image::Error),
    /// Extracting an archive failed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Sending what is on a disk failed.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// Making the HTTP client failed.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// No image of a repository is the one that is meant.
    #[error(transparent)]
    Choose(#[from] ChooseError),
    /// Finding a partition failed.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// Mounting or unmounting a filesystem failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Reading or writing a file of a mounted filesystem failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file's content cannot be decoded or made.
    #[error("making the content of {path}: {cause}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Finding the installed system's loader failed.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// Neither the boot order nor the fallback for it can start the installed system.
    #[error("{nvram}; copying the loader to the removable path instead: {fallback}")]
    Unbootable {
        /// Why the boot order could not be set.
        nvram: String,
        /// Why the loader could not be copied.
        fallback: Box<Error>,
    },
    /// Installing or configuring Bottlerocket failed.
    #[error(transparent)]
    Bottlerocket(#[from] BottlerocketError),
    /// The kernel of an installed system could not be found or loaded.
    #[error(transparent)]
    Kexec(#[from] KexecError),
    /// A filesystem could not be made.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A storage document cannot be followed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A program did not do what it was run for.
    #[error(transparent)]
    Process(ProcessError),
    /// The machine cannot be restarted or switched off from here.
    #[error(transparent)]
    Power(#[from] PowerError),
}

impl Error {
    /// Whose fault it is. For [`Error::Cancelled`] nobody's; `Internal` stands in for that.
    pub fn class(&self) -> Class {
        match self {
            Self::Cancelled => Class::Internal,
            Self::TimedOut => Class::Transient,
            Self::Disk(error) => error.class(),
            Self::Image(error) => error.class(),
            Self::Archive(error) => error.class(),
            Self::Upload(error) => error.class(),
            Self::Http(error) => error.class(),
            Self::Locate(error) => error.class(),
            Self::Mount(error) => error.class(),
            Self::File(error) => error.class(),
            Self::Choose(_) | Self::Content { .. } => Class::InvalidInput,
            Self::Loader(error) => error.class(),
            Self::Unbootable { fallback, .. } => fallback.class(),
            Self::Bottlerocket(error) => error.class(),
            Self::Kexec(error) => error.class(),
            Self::Format(error) => error.class(),
            Self::Storage(error) => error.class(),
            Self::Process(error) => error.class(),
            Self::Power(error) => error.class(),
        }
    }
}

impl From<Interrupted> for Error {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::Cancelled => Self::Cancelled,
            Interrupted::TimedOut => Self::TimedOut,
        }
    }
}

impl From<ProcessError> for Error {
    fn from(error: ProcessError) -> Self {
        match error {
            ProcessError::Interrupted(interrupted) => interrupted.into(),
            other => Self::Process(other),
        }
    }
}

impl From<image::Error> for Error {
    fn from(error: image::Error) -> Self {
        match error {
            image::Error::Interrupted(interrupted) => interrupted.into(),
            other => Self::Image(other),
        }
    }
}
