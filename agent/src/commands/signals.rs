//! Ctrl-C, SIGTERM, and SIGHUP where that is asked for: once to stop in order, twice to stop at
//! once.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Exit;

/// A token that the first of Ctrl-C and SIGTERM cancels; the second ends the process.
pub(super) fn cancelled_by_signals() -> anyhow::Result<CancellationToken> {
    cancelled_by(&[SignalKind::interrupt(), SignalKind::terminate()])
}

/// The same, with SIGHUP, which stops Tinkerbell's agents too.
pub(super) fn cancelled_by_signals_and_hangup() -> anyhow::Result<CancellationToken> {
    cancelled_by(&[SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()])
}

fn cancelled_by(kinds: &[SignalKind]) -> anyhow::Result<CancellationToken> {
    let signals: io::Result<Vec<Signal>> = kinds.iter().map(|kind| signal(*kind)).collect();
    let mut signals = signals.context("listening for signals")?;
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    tokio::spawn(async move {
        any_of(&mut signals).await;
        warn!("told to stop: ending what runs; once more stops at once");
        token.cancel();
        any_of(&mut signals).await;
        std::process::exit(Exit::Failed as i32);
    });
    Ok(cancel)
}

async fn any_of(signals: &mut [Signal]) {
    poll_fn(|context| {
        // All of them are asked, so that each can wake this task.
        let came = signals.iter_mut().map(|signal| signal.poll_recv(context).is_ready());
        if came.fold(false, |any, came| any | came) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
