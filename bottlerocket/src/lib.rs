//! Bottlerocket's formats, as pure functions over bytes.
//!
//! - [`partitions`]: how a metal image is divided, and where an installer's files belong.
//! - [`diagnostic`]: what a check of a file finds, and where.
//! - [`bootconfig`]: the file that gives the kernel its extra parameters.
//! - [`tuf`]: which target of a TUF repository is the disk image.
//! - [`net_toml`]: the network configuration: checked as the OS reads it, and made.
//! - [`user_data`]: the settings: checked before the OS reads them, once, at its first boot.
//! - [`check`]: the three files of a machine together, before they are written.

pub mod bootconfig;
pub mod check;
pub mod diagnostic;
pub mod net_toml;
pub mod partitions;
mod toml_1_0;
pub mod tuf;
pub mod user_data;
