//! The contract between the Nibs agent and its control plane.
//!
//! - [`Job`]: what a machine is to do, as ordered [`Action`]s, each with a typed [`Task`].
//! - [`Event`]: what happened, as values; the same value drives consoles, reports and tests.
//! - [`Facts`]: what a machine says of itself; in it, [`inventory`]: what it is made of.
//! - [`wire`]: the envelopes in which those travel over HTTP.
//!
//! Types and validation only: nothing here does I/O. A value that decodes is valid: digests have
//! the right length, paths are absolute, a selector selects something.

pub mod decode;
pub mod dotted;
mod event;
mod facts;
mod file;
pub mod inventory;
mod job;
mod mac;
mod oci;
mod outcome;
pub mod params;
#[cfg(feature = "schema")]
pub mod schema;
mod text;
mod units;
pub mod wire;

pub use decode::DecodeError;
pub use event::{Event, EventKind, LogLevel, Progress};
pub use facts::{DiskFacts, Facts, Firmware, InterfaceFacts};
pub use file::{FileFormat, ParseError};
pub use inventory::Inventory;
pub use job::{Action, DEFAULT_REPORT_TIMEOUT, Job, Task};
pub use mac::Mac;
pub use oci::{OciReference, OciVersion};
pub use outcome::{Class, Outcome};
pub use text::{Location, Secret};
pub use units::{HexDigest, Size, Span};
