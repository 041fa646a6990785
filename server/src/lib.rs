//! The embedded control plane of Nibs: it boots machines, hands them jobs and keeps what they say.
//!
//! ```text
//!            data directory                      machines
//!   jobs/*  matches/*      state.redb      iPXE          agent
//!      └──┬───┘               │              │             │
//!      catalog ──► control ◄─ store          │             │
//!                     └────────── http ◄─────┴─────────────┘
//! ```
//!
//! - [`catalog`]: what the operator wrote, jobs and which machine gets which. Files, re-read when
//!   they change; a broken one is a named fault and stops nobody else's work by a guess.
//! - [`store`]: what happened: machines, runs, events. Durable before it is acknowledged.
//! - [`control`]: both together: what is this machine to do now?
//! - [`http`]: the protocol of [`nibs_job::wire`], the boot scripts of [`ipxe`] and the assets.
//! - [`client`] and [`view`]: how the command line looks at a running server.

pub mod catalog;
pub mod client;
pub mod control;
pub mod http;
pub mod ipxe;
mod machine;
pub mod store;
mod timestamp;
pub mod view;

pub use machine::{Labels, MachineId};
pub use timestamp::Timestamp;
