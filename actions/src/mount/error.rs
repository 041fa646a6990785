//! What can go wrong with a filesystem and the files in it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nibs_job::{Class, Size};

/// A filesystem could not be found, mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel made no device node.
    #[error(
        "waiting for {}: no such block device after {} s; is the partition in the kernel's view \
         of the disk?",
        device.display(), waited.as_secs()
    )]
    NoNode {
        /// The node waited for.
        device: PathBuf,
        /// How long.
        waited: Duration,
    },
    /// The device could not be read.
    #[error("looking for a filesystem on {}: {cause}", device.display())]
    Probe {
        /// The device.
        device: PathBuf,
        /// The library's word.
        cause: blkid::BlkIdError,
    },
    /// Signatures of more than one filesystem are there.
    #[error(
        "looking for a filesystem on {}: it carries the marks of several; wipe it and install anew",
        device.display()
    )]
    Ambiguous {
        /// The device.
        device: PathBuf,
    },
    /// Something else than a filesystem that files can be written into, or nothing.
    #[error(
        "mounting {}: expected {expected}, found {}", device.display(),
        found.as_deref().unwrap_or("no filesystem")
    )]
    WrongFilesystem {
        /// The device.
        device: PathBuf,
        /// What would do.
        expected: &'static str,
        /// The type that libblkid names.
        found: Option<String>,
    },
    /// The running kernel has no driver.
    #[error(
        "mounting {}: this kernel has no {filesystem}; use a kernel with it built in or load its \
         module",
        device.display()
    )]
    NoDriver {
        /// The device.
        device: PathBuf,
        /// The driver.
        filesystem: &'static str,
    },
    /// The kernel did not mount it.
    #[error("mounting {} as {filesystem}: {cause}", device.display())]
    Mount {
        /// The device.
        device: PathBuf,
        /// The driver.
        filesystem: &'static str,
        /// The kernel's word.
        cause: io::Error,
    },
    /// What the programs of an installed system need could not be put in its place.
    #[error("preparing the system on {} to run its programs: {what}: {cause}", device.display())]
    System {
        /// The device.
        device: PathBuf,
        /// What was being done, in the gerund, to what.
        what: String,
        /// The kernel's word.
        cause: io::Error,
    },
    /// The place to mount it could not be made private.
    #[error("making a private mount namespace, {step}: {cause}; this needs CAP_SYS_ADMIN")]
    Namespace {
        /// What failed.
        step: &'static str,
        /// The kernel's word.
        cause: io::Error,
    },
    /// What was written may not be on the disk.
    #[error("unmounting {}: {cause}; what was written may not be whole", device.display())]
    Unmount {
        /// The device.
        device: PathBuf,
        /// The kernel's word.
        cause: io::Error,
    },
}

impl MountError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        Class::Environment
    }
}

/// A file of a mounted filesystem could not be read, written or proven. Never tells its content.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A directory has the file's name.
    #[error("writing {}: a directory is there; expected a file or nothing", path.display())]
    IsDirectory {
        /// The file.
        path: PathBuf,
    },
    /// A device, socket or pipe has the file's name.
    #[error("writing {}: a special file is there; expected a regular file or nothing", path.display())]
    IsSpecial {
        /// The file.
        path: PathBuf,
    },
    /// Something else than a directory is on the way to the file.
    #[error("writing {}: {} is no directory", path.display(), parent.display())]
    NoDirectory {
        /// The file.
        path: PathBuf,
        /// What is no directory.
        parent: PathBuf,
    },
    /// A symbolic link on the way to the file leads nowhere inside the filesystem.
    #[error(
        "writing {}: {} is a symbolic link to nothing inside this filesystem", path.display(),
        link.display()
    )]
    DanglingLink {
        /// The file.
        path: PathBuf,
        /// The link.
        link: PathBuf,
    },
    /// The filesystem has no room.
    #[error(
        "writing {}: the filesystem is full: needs {}, has {} ({free} bytes) and {free_inodes} \
         inodes free",
        path.display(), Size(*needed), Size(*free)
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// Inodes free; 0 on a filesystem that has none.
        free_inodes: u64,
    },
    /// The file on the disk is not what was written.
    #[error("verifying {}: {what} on the disk differ from what was written", path.display())]
    Differs {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// The kernel refused.
    #[error("{operation} {}: {cause}", path.display())]
    Io {
        /// What was being done, in the gerund.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's word.
        cause: io::Error,
    },
}

impl FileError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::IsDirectory { .. }
            | Self::IsSpecial { .. }
            | Self::NoDirectory { .. }
            | Self::DanglingLink { .. } => Class::InvalidInput,
            Self::Full { .. } | Self::Differs { .. } | Self::Io { .. } => Class::Environment,
        }
    }
}
