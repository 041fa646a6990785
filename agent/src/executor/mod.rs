//! Runs a job's actions in order and says what happens.
//!
//! An action is blocking code on a thread of its own; the executor watches it from outside:
//!
//! ```text
//! action-started ─ progress, warning, log … ─┬─ action-finished ─ next action, or job-finished
//!        ▲                                   │
//!        └── backoff ── attempt-failed ◄─────┘ only a transient failure, `retries` times
//! ```
//!
//! The first action that fails ends the job. A machine is never restarted from here: what is to
//! be done to its power is handed back, and the caller does it once the last report is stored.

mod machine;
mod memory;
mod notes;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nibs_actions::{Done, PowerChange};
use nibs_job::{Action, Class, EventKind, Job, Outcome, Span, Task};
use tokio_util::sync::CancellationToken;

pub use self::machine::ThisMachine;
pub use self::notes::Notes;
use crate::backoff::{Backoff, Policy};
use crate::journal::Journal;

/// Does one attempt at a task: the machine itself, or a test's stand-in. Blocking.
pub trait Runner: Send + Sync + 'static {
    /// Makes the attempt. Should stop soon after `attempt.cancel`; a panic is caught.
    fn run(&self, task: &Task, attempt: Attempt) -> Result<Done, Failure>;
}

/// What an attempt is given.
#[derive(Debug)]
pub struct Attempt {
    /// Told to stop: the job was cancelled, or the deadline is over.
    pub cancel: CancellationToken,
    /// When the action's `timeout` is over.
    pub deadline: Option<Instant>,
    /// Where it says how it goes.
    pub notes: Notes,
    /// The disk that an earlier action of this job installed to.
    pub installed_disk: Option<PathBuf>,
}

/// Why an attempt did not reach its goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It failed by itself.
    Failed {
        /// Whose fault it is.
        class: Class,
        /// What was being done, to what, what was expected and found.
        message: String,
    },
    /// It ended because the action's `timeout` was over.
    TimedOut,
    /// It stopped because it was told to.
    Cancelled,
    /// It was told to stop and did not: it was left behind, and may still be writing.
    Abandoned {
        /// Whether it was told to because the action's `timeout` was over.
        timed_out: bool,
    },
}

/// The times an executor keeps. Tests use shorter ones; the agent uses the default.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Waits between attempts.
    pub retry: Policy,
    /// How long an action may take to stop once it was told to. One that does not is given up,
    /// and the job with it, since it may still be writing.
    pub stop_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            retry: Policy { base: Duration::from_secs(2), cap: Duration::from_secs(60) },
            stop_grace: Duration::from_secs(30),
        }
    }
}

/// How a job ended.
#[derive(Debug)]
pub struct Ended {
    /// Its outcome, as in its `job-finished` event.
    pub outcome: Outcome,
    /// What is to be done to the machine's power once that event is acknowledged.
    pub then: Option<PowerChange>,
    /// Whether it failed because an action did not end within its timeout.
    pub timed_out: bool,
    /// Whether an action was left behind that did not stop. It may still be writing, so nothing
    /// must be run beside it: this process has to end.
    pub abandoned: bool,
}

/// Runs jobs.
pub struct Executor {
    runner: Arc<dyn Runner>,
    limits: Limits,
    cancel: CancellationToken,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Why an action did not reach its goal, after all its attempts.
enum Stopped {
    Failed { class: Class, message: String, timed_out: bool, abandoned: bool },
    Cancelled,
}

/// What the actions of a job leave to those after them, and to its end.
#[derive(Default)]
struct Legacy {
    installed_disk: Option<PathBuf>,
    reasons: Vec<String>,
    then: Option<PowerChange>,
    timed_out: bool,
    abandoned: bool,
}

impl Executor {
    /// An executor whose jobs end early when `cancel` is cancelled.
    pub fn new(runner: Arc<dyn Runner>, limits: Limits, cancel: CancellationToken) -> Self {
        Self { runner, limits, cancel }
    }

    /// Runs a job to its end, which is always told: the last event is its `job-finished`.
    pub async fn run(&self, job: &Job, journal: &Arc<Journal>) -> Ended {
        let begun = Instant::now();
        journal.record(EventKind::JobStarted {
            name: job.name.clone(),
            actions: job.actions.len(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
        });
        let mut legacy = Legacy::default();
        let mut stopped = bad_files(job, journal);
        let actions = if stopped.is_none() { &job.actions[..] } else { &[] };
        for (index, action) in actions.iter().enumerate() {
            match self.action(index, action, journal, &mut legacy).await {
                Outcome::Succeeded | Outcome::Degraded { .. } => {}
                Outcome::Failed { class, message } => {
                    let message = format!("{}{message}", place(index, action));
                    stopped = Some(Outcome::Failed { class, message });
                }
                ended => stopped = Some(ended),
            }
            if stopped.is_some() {
                break;
            }
        }
        let then = if stopped.is_none() { legacy.then } else { None };
        let outcome = stopped.unwrap_or_else(|| outcome_of(legacy.reasons));
        finish(journal, outcome.clone(), begun);
        let Legacy { timed_out, abandoned, .. } = legacy;
        Ended { outcome, then, timed_out, abandoned }
    }

    /// All attempts at one action, told from its start to its end.
    async fn action(
        &self,
        index: usize,
        action: &Action,
        journal: &Arc<Journal>,
        legacy: &mut Legacy,
    ) -> Outcome {
        let begun = Instant::now();
        let outcome = match self.attempts(index, action, journal, legacy).await {
            Ok(done) => {
                legacy.installed_disk = done.installed_disk.or(legacy.installed_disk.take());
                legacy.then = done.then;
                legacy.reasons.extend(done.degraded.iter().cloned());
                outcome_of(done.degraded)
            }
            Err(Stopped::Failed { class, message, timed_out, abandoned }) => {
                legacy.timed_out = timed_out;
                legacy.abandoned = abandoned;
                Outcome::Failed { class, message }
            }
            Err(Stopped::Cancelled) => Outcome::Cancelled,
        };
        let seconds = begun.elapsed().as_secs_f64();
        journal.record(EventKind::ActionFinished {
            action: index,
            outcome: outcome.clone(),
            seconds,
        });
        outcome
    }

    async fn attempts(
        &self,
        index: usize,
        action: &Action,
        journal: &Arc<Journal>,
        legacy: &Legacy,
    ) -> Result<Done, Stopped> {
        let mut backoff = Backoff::new(self.limits.retry);
        let mut attempt = 1;
        loop {
            journal.record(EventKind::ActionStarted {
                action: index,
                name: action.name.clone(),
                uses: action.task.uses().to_owned(),
                attempt,
            });
            let failure = match self.attempt(index, action, journal, legacy).await {
                Ok(done) => return Ok(done),
                Err(Failure::Cancelled) => return Err(Stopped::Cancelled),
                Err(failure) => failure,
            };
            let abandoned = matches!(failure, Failure::Abandoned { .. });
            let timed_out =
                matches!(failure, Failure::TimedOut | Failure::Abandoned { timed_out: true });
            let (class, message) = match failure {
                Failure::Failed { class, message } => (class, message),
                Failure::Abandoned { .. } => (Class::Internal, self.left_behind(action, timed_out)),
                _ => (Class::Transient, out_of_time(action)),
            };
            let retry = class.is_retryable() && attempt <= action.retries;
            let wait = retry.then(|| backoff.next_wait());
            journal.record(EventKind::AttemptFailed {
                action: index,
                attempt,
                class,
                message: message.clone(),
                retry_in_seconds: wait.map(|wait| wait.as_secs_f64()),
            });
            let Some(wait) = wait else {
                return Err(Stopped::Failed { class, message, timed_out, abandoned });
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.cancel.cancelled() => return Err(Stopped::Cancelled),
            }
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        index: usize,
        action: &Action,
        journal: &Arc<Journal>,
        legacy: &Legacy,
    ) -> Result<Done, Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        let notes = Notes::new(Arc::clone(journal), index);
        let timeout = action.timeout.map(|timeout| timeout.0);
        let cancel = self.cancel.child_token();
        let attempt = Attempt {
            cancel: cancel.clone(),
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            notes: notes.clone(),
            installed_disk: legacy.installed_disk.clone(),
        };
        let (runner, task) = (Arc::clone(&self.runner), action.task.clone());
        let work = move || runner.run(&task, attempt);
        let result = watch::watch(work, timeout, &cancel, self.limits.stop_grace).await;
        notes.close();
        result
    }

    /// What is said of an action that did not stop.
    fn left_behind(&self, action: &Action, timed_out: bool) -> String {
        let why = if timed_out { format!("{}; ", out_of_time(action)) } else { String::new() };
        let grace = Span(self.limits.stop_grace);
        format!(
            "{why}it was told to stop and had not done so {grace} later; it may still be writing: \
             restart this machine before it is given another job"
        )
    }
}

/// Looks into the files that a job writes, before it touches a disk: why nothing of it may run.
fn bad_files(job: &Job, journal: &Journal) -> Option<Outcome> {
    let findings = nibs_precheck::check(job);
    let (errors, warnings): (Vec<_>, Vec<_>) =
        findings.iter().partition(|finding| finding.diagnostic.is_error());
    // That action warns itself, and of what it fetches as well.
    let warns = |action: &Action| matches!(action.task, Task::Bottlerocket(_));
    if !job.actions.iter().any(warns) {
        for warning in warnings {
            let message = warning.to_string();
            journal.record(EventKind::Warning { action: None, message });
        }
    }
    if errors.is_empty() {
        return None;
    }
    let errors: Vec<_> = errors.into_iter().map(ToString::to_string).collect();
    let message = format!("the job is not valid: {}", errors.join("; "));
    Some(Outcome::Failed { class: Class::InvalidInput, message })
}

/// Tells the end of a job that nothing was run of, such as one that does not decode.
pub fn refuse(journal: &Journal, message: String) -> Outcome {
    let outcome = Outcome::Failed { class: Class::InvalidInput, message };
    finish(journal, outcome.clone(), Instant::now());
    outcome
}

/// How a job's failure begins: at which of its actions.
pub(crate) fn place(index: usize, action: &Action) -> String {
    format!("action {} ({}): ", index + 1, action.name)
}

fn out_of_time(action: &Action) -> String {
    let timeout = action.timeout.map(|timeout| format!(" of {timeout}")).unwrap_or_default();
    format!("it did not end within its timeout{timeout}")
}

fn finish(journal: &Journal, outcome: Outcome, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    let peak_memory = memory::peak();
    journal.record(EventKind::JobFinished { outcome, seconds, peak_memory });
}

fn outcome_of(reasons: Vec<String>) -> Outcome {
    if reasons.is_empty() { Outcome::Succeeded } else { Outcome::Degraded { reasons } }
}
