//! What the firmware boots: EFI variables, load options, device paths and `BOOT.CSV`.
//!
//! - [`Variables`]: the variable store as a trait; [`Efivarfs`] is the kernel's, [`MemoryVariables`]
//!   its twin in memory for tests, with faults.
//! - [`LoadOption`]: the content of a `Boot####` variable; [`DevicePath`]: where its loader is.
//! - [`BootEntries`]: all load options and their order, read in one go.
//! - [`boot_csv`]: an image's own word on its loader and label.
//! - [`secure_boot`]: whose programs the firmware starts.
//!
//! Own code and no crate: the one crate that keeps unknown nodes has its efivarfs path compiled in.
//!
//! Formats: UEFI specification 2.10, §3.1.3 (load options), §3.3 (variables), §10 (device paths),
//! §8.2 and §32 (Secure Boot).

pub mod boot_csv;
mod boot_entries;
mod device_path;
mod efivarfs;
mod load_option;
mod memory;
pub mod secure_boot;
mod utf16;
mod variables;

pub use boot_entries::{BootEntries, BootEntry, entry_name};
pub use device_path::{DevicePath, HardDrive, Node};
pub use efivarfs::Efivarfs;
pub use load_option::LoadOption;
pub use memory::MemoryVariables;
pub use variables::{Attributes, Variable, VariableError, VariableFault, Variables};

use uuid::{Uuid, uuid};

/// Vendor GUID of the variables that the UEFI specification defines (`EFI_GLOBAL_VARIABLE`).
pub const GLOBAL_VENDOR: Uuid = uuid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");

/// Vendor GUID of the signature databases (`EFI_IMAGE_SECURITY_DATABASE_GUID`, UEFI §32.6.1).
pub const IMAGE_SECURITY_VENDOR: Uuid = uuid!("d719b2cb-3d3a-4596-a3bc-dad00e67656f");

/// GPT partition type of an EFI System Partition.
pub const ESP_TYPE: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");

/// Bytes that do not follow the format they are said to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}: expected {expected}, found {found} bytes")]
pub struct Malformed {
    /// Which part of the format.
    pub what: &'static str,
    /// Where it begins, in bytes from the start.
    pub offset: usize,
    /// What has to be there.
    pub expected: &'static str,
    /// How many bytes are there, or how many the bytes themselves claim.
    pub found: usize,
}
