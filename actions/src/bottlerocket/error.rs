//! Why Bottlerocket could not be installed or configured.

use std::path::PathBuf;

use nibs_bottlerocket::net_toml;
use nibs_job::Class;

use super::udev_name::Unnamed;
use crate::efi::secure_boot;

/// Why the action `bottlerocket` failed, where it is not for its image, disk or filesystem.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be had.
    #[error("reading {file} from {place}: {cause}")]
    Read {
        /// Its name on the private partition.
        file: &'static str,
        /// Where it was to be read, without what may be secret in it.
        place: String,
        /// What is wrong.
        cause: String,
        /// Whose fault it is.
        class: Class,
    },
    /// A file in the job cannot be decoded.
    #[error("decoding {file}: {cause}")]
    Content {
        /// Its name on the private partition.
        file: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// An interface is not described as one can be.
    #[error("reading net.interfaces[{index}]: {cause}")]
    Interface {
        /// Which of them, from 0.
        index: usize,
        /// What is wrong.
        cause: String,
    },
    /// A card that has to be named cannot be.
    #[error(
        "making net.toml: a member is given by its address {mac}, which is {here} here, but what \
         the installed system will call it is not known: {cause}; give the member by its name there"
    )]
    Unnamed {
        /// The card's address.
        mac: String,
        /// Its name on this system.
        here: String,
        /// Why.
        cause: Unnamed,
    },
    /// The description makes no file.
    #[error(transparent)]
    Render(#[from] net_toml::Error),
    /// There is no lease.
    #[error(
        "making net.toml from the lease: this machine has no DHCP lease of the agent's own; the \
         agent takes one where it brings up the network itself (nibs agent --network), so describe \
         the interfaces instead (net.interfaces)"
    )]
    NoLease,
    /// The files would not work.
    #[error("proving the files: nothing was written, for: {}", findings.join("; "))]
    Refused {
        /// What is wrong, as `file:line:column: severity: key: message`.
        findings: Vec<String>,
    },
    /// Other disks carry a Bottlerocket.
    #[error(
        "looking for other disks with a Bottlerocket: it mounts some of its partitions by label and \
         could take theirs: {}; nothing was written; pull those disks, or set duplicates to wipe or \
         warn", disks.join("; ")
    )]
    Duplicates {
        /// The disks and their partitions.
        disks: Vec<String>,
    },
    /// The filesystem cannot be used.
    #[error(
        "opening the private partition {}: its ext4 is damaged or missing ({cause}); nothing was \
         written to it; recreate = true makes it anew, and loses what it holds", device.display()
    )]
    Damaged {
        /// The partition.
        device: PathBuf,
        /// What the kernel, or the library that looks at it, said.
        cause: String,
    },
    /// The partition has a size that no filesystem is made for.
    #[error(
        "making a filesystem on the private partition {}: it has {size} bytes, expected {min} to \
         {max}; write the image anew instead", device.display()
    )]
    Size {
        /// The partition.
        device: PathBuf,
        /// Its bytes.
        size: u64,
        /// The least bytes.
        min: u64,
        /// The most bytes.
        max: u64,
    },
    /// The system refused.
    #[error("{doing} {}: {cause}", path.display())]
    Io {
        /// What was being done, in the gerund.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The firmware cannot be asked.
    #[error(
        "enrolling Secure Boot keys: no EFI variables are to be seen in {}; the machine was not \
         started by UEFI, or efivarfs is not mounted there", root.display()
    )]
    NoVariables {
        /// Where they would be.
        root: PathBuf,
    },
    /// The image was not built for Secure Boot.
    #[error(
        "enrolling Secure Boot keys: there is no EFI/BOOT/db.cer on the EFI system partition {}; an \
         image that is built for Secure Boot has one", esp.display()
    )]
    NoCertificate {
        /// The partition.
        esp: PathBuf,
    },
    /// The firmware has no place for the keys, or they are not what they should be.
    #[error(transparent)]
    SecureBoot(#[from] secure_boot::Error),
    /// The files do not fit.
    #[error(
        "writing the files to {}: they need {needed} bytes, {free} are free; nothing was written; \
         make them smaller (user data may be gzip)", device.display()
    )]
    Full {
        /// The partition.
        device: PathBuf,
        /// Bytes that the files take, in whole blocks.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Read { class, .. } => *class,
            Self::Content { .. } | Self::Interface { .. } | Self::Refused { .. } => {
                Class::InvalidInput
            }
            Self::Render(net_toml::Error::UnknownCard { .. } | net_toml::Error::BadName { .. }) => {
                Class::Environment
            }
            Self::Render(_) | Self::NoCertificate { .. } => Class::InvalidInput,
            Self::SecureBoot(error) => error.class(),
            Self::Unnamed { .. }
            | Self::NoLease
            | Self::NoVariables { .. }
            | Self::Duplicates { .. }
            | Self::Damaged { .. }
            | Self::Size { .. }
            | Self::Io { .. }
            | Self::Full { .. } => Class::Environment,
        }
    }
}
