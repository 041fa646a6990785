//! Delivers a job's events to the control plane: at least once, in order, until acknowledged.
//!
//! The job never waits for the network: events go into a bounded `queue` and one
//! task sends them in batches. An event leaves the queue when the control plane has said that it
//! is stored, so one that restarts loses nothing, and one that answers into a dead connection
//! gets the batch again and drops what it has by the sequence numbers.
//!
//! A control plane that says it does not have the job (404, 409, 410: its data is gone, or an
//! operator took the job back) is told again and again all the same, and the job goes on: half an
//! installed machine helps nobody. Only a [`Reporter::flush`] that would else wait for ever gives
//! it up, after [`LOST_JOB_PATIENCE`].

mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nibs_job::Event;
use nibs_job::wire::Report;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use self::queue::Queue;
use crate::backoff::{Backoff, Policy};
use crate::control::{CallError, Client};
use crate::journal::Outlet;

/// How long a control plane that says it does not have the job is asked to think again before a
/// [`Reporter::flush`] without a deadline gives up on it.
pub const LOST_JOB_PATIENCE: Duration = Duration::from_secs(30);

/// How the deliveries are spaced. Tests use shorter times; the agent uses the default.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Waits after a delivery that failed.
    pub retry: Policy,
    /// Progress and log lines are gathered for this long; anything else goes out at once.
    pub gather: Duration,
    /// See [`LOST_JOB_PATIENCE`].
    pub lost_job_patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            retry: Policy { base: Duration::from_millis(500), cap: Duration::from_secs(15) },
            gather: Duration::from_secs(1),
            lost_job_patience: LOST_JOB_PATIENCE,
        }
    }
}

/// Most events in one delivery.
const BATCH_EVENTS: usize = 256;

/// Most bytes of events in one delivery, about.
const BATCH_BYTES: usize = 128 * 1024;

/// How the wait for the last acknowledgement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Every event is stored by the control plane.
    Acknowledged,
    /// The time ran out, and the control plane answers that it does not have this job.
    JobLost,
    /// The time ran out without a usable answer.
    TimedOut,
}

/// The delivery of one job's events. Dropping it stops it, whatever still waits.
#[derive(Debug)]
pub struct Reporter {
    shared: Arc<Shared>,
    sender: JoinHandle<()>,
    pace: Pace,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    came: Notify,
    standing: watch::Sender<Standing>,
}

/// What `flush` watches.
#[derive(Debug, Clone, Copy)]
struct Standing {
    all_stored: bool,
    job_lost_since: Option<Instant>,
}

impl Reporter {
    /// Starts delivering the events of the job with this id. Needs a tokio runtime.
    pub fn start(client: Client, job: &str, pace: Pace) -> Self {
        let standing = Standing { all_stored: true, job_lost_since: None };
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            came: Notify::new(),
            standing: watch::Sender::new(standing),
        });
        let mut sender = Sender {
            shared: Arc::clone(&shared),
            client,
            job: job.to_owned(),
            pace,
            batch_events: BATCH_EVENTS,
            is_away: false,
        };
        let sender = tokio::spawn(async move { sender.run().await });
        Self { shared, sender, pace }
    }

    /// Waits until everything taken so far is stored, or `deadline`. Without one it waits for
    /// ever, unless the control plane keeps on saying that it does not have the job.
    ///
    /// That word does not cut a deadline short: it may come from what stands in for a control
    /// plane that is away, such as a proxy.
    pub async fn flush(&self, deadline: Option<Instant>) -> Flushed {
        let mut standing = self.shared.standing.subscribe();
        let began = Instant::now();
        loop {
            let now = *standing.borrow_and_update();
            if now.all_stored {
                return Flushed::Acknowledged;
            }
            // It gets the whole patience from here on: it may have found the job since it was
            // asked last.
            let patience =
                now.job_lost_since.map(|since| since.max(began) + self.pace.lost_job_patience);
            let Some(end) = deadline.or(patience) else {
                // The channel cannot close while `self` holds its sender.
                let _ = standing.changed().await;
                continue;
            };
            if tokio::time::timeout_at(end, standing.changed()).await.is_err() {
                let lost = patience.is_some();
                return if lost { Flushed::JobLost } else { Flushed::TimedOut };
            }
        }
    }
}

impl Outlet for Reporter {
    fn take(&self, event: &Event) {
        {
            let mut queue = self.shared.lock();
            queue.push(event.clone());
            // Under the lock: an acknowledgement of this event must not be said before this.
            self.shared.standing.send_modify(|standing| standing.all_stored = false);
        }
        self.shared.came.notify_one();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that sends.
struct Sender {
    shared: Arc<Shared>,
    client: Client,
    job: String,
    pace: Pace,
    /// Shrinks when the control plane cannot take what it is sent, to find out which event.
    batch_events: usize,
    is_away: bool,
}

impl Sender {
    async fn run(&mut self) {
        let mut backoff = Backoff::new(self.pace.retry);
        loop {
            self.gather().await;
            if self.deliver().await {
                backoff.reset();
            } else {
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }

    /// Waits until there is something to send: at once if it matters, else after a while.
    async fn gather(&self) {
        let mut until = None;
        loop {
            let (is_empty, is_urgent) = {
                let queue = self.shared.lock();
                (queue.is_empty(), queue.is_urgent())
            };
            if is_urgent {
                return;
            }
            if is_empty {
                self.shared.came.notified().await;
                continue;
            }
            let until = *until.get_or_insert_with(|| Instant::now() + self.pace.gather);
            if tokio::time::timeout_at(until, self.shared.came.notified()).await.is_err() {
                return;
            }
        }
    }

    /// Sends one batch. Returns whether the control plane stored any of it.
    async fn deliver(&mut self) -> bool {
        let events = self.shared.lock().take_batch(self.batch_events, BATCH_BYTES);
        let sent = events.len();
        let report = Report { machine: self.client.machine().to_owned(), events };
        let answer = self.client.report(&self.job, &report).await;
        self.shared.lock().landed();
        match answer {
            Ok(ack) => {
                self.back();
                self.batch_events = (self.batch_events * 2).min(BATCH_EVENTS);
                self.stored(ack.acknowledged)
            }
            Err(error) => {
                self.away(&error);
                self.shared.standing.send_if_modified(|standing| {
                    let since = standing.job_lost_since;
                    standing.job_lost_since =
                        error.is_job_lost().then(|| since.unwrap_or_else(Instant::now));
                    standing.job_lost_since != since
                });
                if error.is_content_refused() {
                    self.narrow_down(sent, &error);
                }
                false
            }
        }
    }

    fn stored(&self, acknowledged: u64) -> bool {
        // The queue stays locked, so that no event comes between the look and the word.
        let mut queue = self.shared.lock();
        let stored_any = queue.acknowledge(acknowledged);
        let all_stored = queue.is_empty();
        self.shared
            .standing
            .send_modify(|standing| *standing = Standing { all_stored, job_lost_since: None });
        stored_any
    }

    /// One event that the control plane cannot read must not keep back those behind it.
    fn narrow_down(&mut self, sent: usize, error: &CallError) {
        if sent > 1 {
            self.batch_events = sent / 2;
            return;
        }
        let mut queue = self.shared.lock();
        if queue.give_up_first() {
            let all_stored = queue.is_empty();
            self.shared.standing.send_modify(|standing| standing.all_stored = all_stored);
            warn!("a line of the job's log was left out: {error}");
        }
    }

    fn away(&mut self, error: &CallError) {
        if !self.is_away {
            self.is_away = true;
            warn!("{error}; the job goes on, and its events are kept until they can be delivered");
        }
    }

    fn back(&mut self) {
        if self.is_away {
            self.is_away = false;
            let waiting = self.shared.lock().len();
            let endpoint = self.client.endpoint();
            info!("the control plane at {endpoint} takes events again, {waiting} waited for it");
        }
    }
}
