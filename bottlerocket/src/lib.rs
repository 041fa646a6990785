//! Bottlerocket's formats, as pure functions over bytes.
//!
//! - [`partitions`]: how a metal image is divided, and where an installer's files belong.
//! - [`diagnostic`]: what a check of a file finds, and where.
//! - [`bootconfig`]: the file that gives the kernel its extra parameters.

pub mod bootconfig;
pub mod diagnostic;
pub mod partitions;
