//! Bottlerocket's formats, as pure functions over bytes.
//!
//! - [`partitions`]: how a metal image is divided, and where an installer's files belong.
//! - [`bootconfig`]: the file that gives the kernel its extra parameters.

pub mod bootconfig;
pub mod partitions;
