//! The disks of a machine: which there are, which one is meant, what keeps one busy, how it is
//! claimed, and its partitions.
//!
//! All is read from sysfs, so it works without udev; links made by udev are used where they are.

mod busy;
mod claim;
mod clear;
mod error;
mod identity;
mod list;
mod new_table;
mod partitions;
mod release;
mod select;
mod settle;
mod udev;
mod wipe;

pub use busy::{Use, UseKind, busy};
pub use claim::{Claim, claim};
pub use clear::clear_table;
pub use error::{Error, Result};
#[cfg(test)]
pub(crate) use list::tests::FakeMachine;
pub use list::{Disk, list, open_named, open_place};
pub use new_table::{NewPartition, NewTable, check_table, write_table};
pub use partitions::{Partition, partition_path, partitions, split_partition_path};
pub use release::{Step, release, release_steps};
pub use select::{SelectError, find, find_place, select, unmet};
pub use settle::settle;
pub use udev::{UdevIdentity, udev_identity};
pub use wipe::wipe;
