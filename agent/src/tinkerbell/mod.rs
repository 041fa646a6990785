//! Nibs as a Tinkerbell agent: the actions of a Tinkerbell workflow, done without Docker.
//!
//! ```text
//! transport ── Assignment ──> builtin (or a container) ── Task ──> executor ── outcome ──> transport
//! ```
//!
//! - [`assignment`]: one action of a workflow as a server hands it out, and the report on it.
//! - [`transport`]: where assignments come from and reports go to.
//! - [`builtin`]: the standard actions, by the name of their image, as tasks of our own.
//! - [`container`]: any other image, as a task that runs it.

pub mod assignment;
pub mod builtin;
pub mod container;
pub mod transport;

pub use assignment::{Assignment, Report, State};
