//! The Nibs agent as a library: it decides and talks.
//!
//! - [`init`]: the duties of PID 1 in the initramfs; [`net`] brings the network up.
//! - [`cmdline`] and [`facts`]: what the kernel command line and the machine say.
//! - [`control`]: the client of the control plane, and the loop that asks it for jobs.
//! - [`executor`]: runs a job's actions in order and says what happens.
//! - [`journal`]: makes the events of a job and hands them out.
//! - [`reporter`]: delivers those events, in order, until they are acknowledged.
//! - [`memory`]: how the process allocates.
//! - [`backoff`]: how long to wait before trying again.
//! - [`syslog`]: what is said, to a receiver on the network.
//! - [`tinkerbell`]: the agent as Tinkerbell knows one.
//! - [`view`]: shows them to whoever watches.
//! - [`cli`] and [`commands`]: the command line, and one file for each command.

pub mod backoff;
pub mod cli;
pub mod cmdline;
pub mod commands;
pub mod control;
pub mod executor;
pub mod facts;
pub mod init;
pub mod journal;
pub mod memory;
pub mod net;
pub mod reporter;
pub mod syslog;
pub mod tinkerbell;
pub mod view;
