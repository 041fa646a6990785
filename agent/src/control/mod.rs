//! The control plane as the agent sees it: where it is, what can be asked of it, and how it is
//! asked for ever.

mod client;
mod endpoint;
mod error;
mod poll;
mod state;

pub use client::Client;
pub use endpoint::{Endpoint, EndpointError};
pub use error::CallError;
pub use poll::next_job;
pub use state::{RunningJob, StateFile};
