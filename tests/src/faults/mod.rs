//! Faults of a real machine's disk: power that goes, sectors that fail; with the real agent, the
//! lab's kernel and a virtio disk.
//!
//! ```text
//!  reference ── what the disk held before, what it has to hold after, and which of them it holds
//!      │
//!  site ────── a machine that boots the agent straight from memory, and what the server has of it
//!      │
//!      ├── cuts     QEMU killed at random moments, then a run on the same disk
//!      └── replay   one run, logged: every state that a lost cache could have left
//! ```
//!
//! A killed QEMU loses what the machine had not handed to it, and what it was just handing to the
//! host; what it had handed over stays, flushed or not. A disk with a cache of its own loses more,
//! in any order, and that is what [`replay`] is for.

pub mod cuts;
mod random;
pub mod reference;
pub mod replay;
pub mod site;
mod table;
mod write_log;

pub use random::Random;

/// Programs that make what a disk may hold, and look at one.
pub const PROGRAMS: [&str; 3] = ["lz4", "sgdisk", "debugfs"];
