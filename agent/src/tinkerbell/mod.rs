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
//! - [`container`]: any other image, as a task that runs it.
//! - [`settings`]: what an agent is told before it begins, whoever tells it.
//! - [`door`]: Tinkerbell's own flags and environment, under its agents' names.
//! - [`go`]: values as Tinkerbell's programs read them.

pub mod assignment;
pub mod builtin;
pub mod container;
pub mod door;
pub mod go;
pub mod settings;
pub mod transport;
pub mod worker;

pub use assignment::{Assignment, Report, State};
pub use container::Registries;
pub use settings::Settings;
