//! What each command does.

mod check;
mod events;
mod machines;
mod retry;
mod serve;
mod text;

pub(crate) use check::check;
pub(crate) use events::events;
pub(crate) use machines::machines;
pub(crate) use retry::retry;
pub(crate) use serve::serve;

use anyhow::{Context, Result};

/// Runs a command that only talks to a server.
fn wait_for<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?
        .block_on(work)
}
