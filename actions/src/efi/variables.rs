//! The firmware's variables behind a trait, and whose fault it is when it refuses.

use std::fmt;
use std::io;

use nibs_job::Class;
use uuid::Uuid;

use super::{GLOBAL_VENDOR, IMAGE_SECURITY_VENDOR};

/// `EFI_VARIABLE_*` attribute bits (UEFI §8.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// Kept without power, seen by boot services and by the running system: what every boot
    /// variable has.
    pub const BOOT_VARIABLE: Self = Self(0b111);

    /// The same, and written with a time and a signature before the data: what Secure Boot's
    /// variables have (`EFI_VARIABLE_TIME_BASED_AUTHENTICATED_WRITE_ACCESS`).
    pub const AUTHENTICATED: Self = Self(0b10_0111);
}

/// The vendor GUID of a variable that the UEFI specification defines: no name is of two vendors.
pub(super) fn vendor(name: &str) -> Uuid {
    match name {
        "db" | "dbx" | "dbt" | "dbr" => IMAGE_SECURITY_VENDOR,
        _ => GLOBAL_VENDOR,
    }
}

/// A variable's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Attribute bits.
    pub attributes: Attributes,
    /// The bytes.
    pub data: Vec<u8>,
}

/// The EFI variables that the UEFI specification defines, of [`GLOBAL_VENDOR`] and
/// [`IMAGE_SECURITY_VENDOR`].
pub trait Variables: fmt::Debug {
    /// Reads a variable; `None` if there is none of that name.
    fn read(&self, name: &str) -> Result<Option<Variable>, VariableError>;
    /// Makes or replaces a variable, whole or not at all.
    fn write(&mut self, name: &str, variable: &Variable) -> Result<(), VariableError>;
    /// Removes a variable; one that is not there is no error.
    fn delete(&mut self, name: &str) -> Result<(), VariableError>;
    /// Names of all variables, in order.
    fn list(&self) -> Result<Vec<String>, VariableError>;
}

/// An EFI variable could not be read, written or removed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} EFI variable {name}: {fault} ({cause})")]
pub struct VariableError {
    /// What was being done, in the gerund.
    pub operation: &'static str,
    /// The variable, or `*` for all.
    pub name: String,
    /// What the matter is.
    pub fault: VariableFault,
    /// The kernel's word.
    pub cause: io::Error,
}

/// What the matter is with the variable store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableFault {
    /// No room is left.
    Full,
    /// It can be read only.
    ReadOnly,
    /// The firmware, or the kernel for it, does not accept this change.
    Refused,
    /// The firmware reports a fault of its own or its storage.
    Device,
}

impl fmt::Display for VariableFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the firmware's NVRAM is full; remove old boot entries in its setup",
            Self::ReadOnly => "the firmware's NVRAM is read-only here",
            Self::Refused => "the firmware refuses it",
            Self::Device => "the firmware failed",
        })
    }
}

impl VariableError {
    /// Says what the kernel's `cause` means for `name` while `operation` was being done.
    pub fn new(operation: &'static str, name: &str, cause: io::Error) -> Self {
        // The kernel maps EFI status codes to these (drivers/firmware/efi/vars.c and efi.c).
        let fault = match cause.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => VariableFault::Full,
            Some(libc::EROFS) => VariableFault::ReadOnly,
            Some(libc::EPERM | libc::EACCES | libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP) => {
                VariableFault::Refused
            }
            _ => VariableFault::Device,
        };
        Self { operation, name: name.to_owned(), fault, cause }
    }

    /// Always this machine's.
    pub fn class(&self) -> Class {
        Class::Environment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_word_tells_what_the_matter_is() {
        let fault = |errno| {
            VariableError::new("writing", "Boot0001", io::Error::from_raw_os_error(errno)).fault
        };
        assert_eq!(fault(libc::ENOSPC), VariableFault::Full);
        assert_eq!(fault(libc::EROFS), VariableFault::ReadOnly);
        assert_eq!(fault(libc::EPERM), VariableFault::Refused);
        assert_eq!(fault(libc::EINVAL), VariableFault::Refused);
        assert_eq!(fault(libc::EIO), VariableFault::Device);
    }

    #[test]
    fn an_error_names_the_variable() {
        let error =
            VariableError::new("writing", "BootOrder", io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(error.to_string().starts_with("writing EFI variable BootOrder: "), "{error}");
    }
}
