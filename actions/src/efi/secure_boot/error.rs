//! Why Secure Boot could not be set up, and whose fault that is.

use std::fmt;

use nibs_job::{Class, HexDigest};

use crate::efi::{Malformed, VariableError};

/// What the firmware says of Secure Boot (UEFI §32.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It has no platform key, and takes any keys.
    Setup,
    /// It has one, and takes only keys that are signed.
    User,
    /// It does not know of Secure Boot.
    Unsupported,
}

/// Why Secure Boot is not set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The firmware does not take keys.
    #[error("enrolling Secure Boot keys: {0}; nothing was written")]
    NotInSetupMode(Mode),
    /// The image's certificate is not the one that the job names.
    #[error(
        "enrolling Secure Boot keys: the image's EFI/BOOT/db.cer has sha256 {found}, expected \
         {expected} (secure-boot.db-sha256); nothing was written"
    )]
    Digest {
        /// The job's.
        expected: HexDigest<32>,
        /// The file's.
        found: HexDigest<32>,
    },
    /// Something that should be a certificate is none.
    #[error("enrolling Secure Boot keys: reading {place}: {cause}; nothing was written")]
    Certificate {
        /// Where it is from.
        place: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// A variable that is to be added to cannot be read.
    #[error(
        "enrolling Secure Boot keys: reading EFI variable {variable}: {cause}; nothing was written; \
         clear the keys in the firmware's setup"
    )]
    Malformed {
        /// The variable.
        variable: &'static str,
        /// What is wrong.
        cause: Malformed,
    },
    /// No platform key could be made.
    #[error(
        "enrolling Secure Boot keys: making a platform key: no random numbers were to be had; \
         nothing was written"
    )]
    NoKey,
    /// The variables cannot be read.
    #[error("enrolling Secure Boot keys: {0}; nothing was written")]
    Unreadable(VariableError),
    /// The firmware did not take, or did not keep, a variable.
    #[error("enrolling Secure Boot keys: {cause}; {state}")]
    NotTaken {
        /// The variable.
        variable: &'static str,
        /// What happened.
        cause: String,
        /// How the firmware's keys are now, and what can be done.
        state: String,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Digest { .. } | Self::Certificate { .. } => Class::InvalidInput,
            Self::NotInSetupMode(_)
            | Self::Malformed { .. }
            | Self::NoKey
            | Self::Unreadable(_)
            | Self::NotTaken { .. } => Class::Environment,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setup => "the firmware is in Setup Mode",
            Self::User => {
                "the firmware is in User Mode, where it takes only keys that the owner of its \
                 platform key has signed; clear the platform key in the firmware's setup"
            }
            Self::Unsupported => {
                "the firmware does not support Secure Boot (there is no EFI variable SetupMode)"
            }
        })
    }
}
