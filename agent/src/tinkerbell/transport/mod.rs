//! Where assignments come from, and where reports on them go.
//!
//! - [`Server`]: a Tinkerbell server over gRPC, in the protocol of today or that of tink-worker,
//!   whichever it answers to; `connect` has the way there (names, proxy, TLS).
//! - [`File`]: a list of actions in a file.
//! - [`Nats`]: such lists as messages.

use async_trait::async_trait;

use super::{Assignment, Report};

mod agent_protocol;
mod attributes;
mod connect;
mod error;
mod fault;
mod file;
mod list;
mod nats;
mod options;
pub mod proto;
mod server;
mod tink_worker_protocol;
mod tls;

pub use self::connect::SetupError;
pub use self::error::Error;
pub use self::file::{File, ListError};
pub use self::nats::{Nats, Subjects};
pub use self::options::{Options, Protocol};
pub use self::server::Server;

/// Somewhere that hands out actions and takes reports on them.
#[async_trait]
pub trait Transport: Send {
    /// The next action. Waits as long as whoever is asked does: for a server about a minute, for
    /// a file that has been done, for ever.
    ///
    /// The same action comes again until a report has ended it.
    async fn next(&mut self) -> Result<Assignment, Error>;

    /// Tells how far an action of this transport is. `Ok` means that it was taken note of.
    async fn report(&mut self, assignment: &Assignment, report: &Report) -> Result<(), Error>;
}
