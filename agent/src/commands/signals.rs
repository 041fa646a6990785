//! Ctrl-C and SIGTERM: once to stop in order, twice to stop at once.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Exit;

/// A token that the first of those signals cancels; the second ends the process.
pub(super) fn cancelled_by_signals() -> anyhow::Result<CancellationToken> {
    let listen = |kind| signal(kind).context("listening for signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    tokio::spawn(async move {
        any_of(&mut interrupt, &mut terminate).await;
        warn!("told to stop: ending what runs; once more stops at once");
        token.cancel();
        any_of(&mut interrupt, &mut terminate).await;
        std::process::exit(Exit::Failed as i32);
    });
    Ok(cancel)
}

async fn any_of(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
