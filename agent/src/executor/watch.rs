//! Watches blocking work from outside: its time, its panic, and whether it stops when told to.

use std::any::Any;
use std::thread;
use std::time::Duration;

use nibs_actions::Done;
use nibs_job::Class;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Failure;

/// Runs `work` on a thread of its own and waits for it.
///
/// After `timeout` the work is told to stop by `cancel`; it has failed for now, unless it was done
/// all the same. If it does not stop within `stop_grace` it is left behind.
pub(super) async fn watch(
    work: impl FnOnce() -> Result<Done, Failure> + Send + 'static,
    timeout: Option<Duration>,
    cancel: &CancellationToken,
    stop_grace: Duration,
) -> Result<Done, Failure> {
    let (says, mut said) = oneshot::channel();
    let spawned = thread::Builder::new().name("action".into()).spawn(move || {
        // The receiver is gone if the work was left behind.
        let _ = says.send(work());
    });
    let thread = match spawned {
        Ok(thread) => thread,
        Err(error) => return Err(internal(format!("starting a thread for the action: {error}"))),
    };
    let time_is_over = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let timed_out = tokio::select! {
        biased;
        result = &mut said => return result.unwrap_or_else(|_| Err(panicked(thread))),
        () = time_is_over => true,
        () = cancel.cancelled() => false,
    };
    cancel.cancel();
    match tokio::time::timeout(stop_grace, said).await {
        // Work that was done in spite of being told to stop is done.
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(_))) if timed_out => Err(Failure::TimedOut),
        Ok(Ok(Err(_))) => Err(Failure::Cancelled),
        Ok(Err(_)) => Err(panicked(thread)),
        Err(_) => Err(Failure::Abandoned { timed_out }),
    }
}

fn panicked(thread: thread::JoinHandle<()>) -> Failure {
    let message = match thread.join() {
        Ok(()) => "it ended without a result".to_owned(),
        Err(payload) => format!("it panicked: {}", text_of(&*payload)),
    };
    internal(format!("{message}; this is a fault of Nibs, please report it"))
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

fn internal(message: String) -> Failure {
    Failure::Failed { class: Class::Internal, message }
}
