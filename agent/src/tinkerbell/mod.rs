//! Nibs as a Tinkerbell agent: the actions of a Tinkerbell workflow, done without Docker.
//!
//! ```text
//! transport ── Assignment ──> builtin (or a container) ── Task ──> executor ── outcome ──> transport
//! ```
//!
//! - [`assignment`]: one action of a workflow as a server hands it out, and the report on it.
//! - [`transport`]: where assignments come from and reports go to.
//! - [`worker`]: the loop between them.
//! - [`builtin`]: the standard actions, by the name of their image, as tasks of our own.

pub mod assignment;
pub mod builtin;
pub mod transport;
pub mod worker;

pub use assignment::{Assignment, Report, State};
