//! The agent's loop: what is assigned is done and reported on, one action after the other.
//!
//! ```text
//!   next ── running ── do it ── success, failed, timeout ─┬─ restart or switch off, if it asks to
//!    ▲                                                    │
//!    └────────────────────────────────────────────────────┘ else
//! ```
//!
//! - The same action comes again until its end is reported, also after the machine was restarted in
//!   the middle of it. It is then done again, from its start.
//! - The end of an action is told until the server takes it, however long that is: what nobody
//!   knows to be done is done again by the next boot. Only when the server says that it will never
//!   take it, the agent ends.
//! - After a failure the server decides what follows, so it is asked.
//! - Beside an action that does not stop, and may still be writing, nothing else is done: the agent
//!   ends once its end is told, and whoever started it sees to the rest.
//! - The machine is never restarted before the server has acknowledged the action that asks for it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nibs_actions::PowerChange;
use nibs_job::{Action, DEFAULT_REPORT_TIMEOUT, Job, Outcome, Span, Task};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::builtin::{self, BadInput, Inputs};
use super::transport::{Error, Transport};
use super::{Assignment, Report, State};
use crate::backoff::{Backoff, Policy};
use crate::executor::{self, Executor};
use crate::journal::{Journal, Outlet};

/// The first wait after a call that failed.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The shortest that the longest wait may be set to: no server is asked in a tight loop.
const LEAST_WAIT: Duration = Duration::from_millis(50);

/// How long the end of an action is still offered to the server by an agent that is told to stop:
/// less than who stops a container waits before he kills it.
const LAST_REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest message of a report, in bytes: a server keeps those of all actions in one object.
const MAX_MESSAGE: usize = 4096;

/// What the server is told while an action runs, and when it has reached its goal; the words of
/// tink-agent.
const RUNNING: &str = "running action";
const COMPLETED: &str = "action completed";

/// Where the events of an action go.
pub type Outlets = Box<dyn Fn() -> Vec<Arc<dyn Outlet>> + Send + Sync>;

/// What does an action of an image that is not known by name.
pub type Fallback = Box<dyn Fn(&Assignment) -> Result<Task, BadInput> + Send + Sync>;

/// Does what a transport assigns.
pub struct Worker {
    /// Runs the actions; it must be made with the same `cancel`.
    pub executor: Executor,
    /// Ends the loop, and what runs.
    pub cancel: CancellationToken,
    /// The longest wait between calls that fail.
    pub backoff_max: Duration,
    /// Makes a set of outlets for each action.
    pub outlets: Outlets,
    /// Asked about images that are no built-in action.
    pub fallback: Fallback,
}

/// Why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// It was told to.
    Told,
    /// The server does not take the end of an action and never will; this is what it says.
    Refused(String),
    /// An action asks for it, and the server knows that this action is done.
    Power(PowerChange),
    /// An action did not stop when it was told to, and may still be writing; this is what the
    /// server was told. The process has to end.
    Abandoned(String),
}

/// How an action ended.
struct Ended {
    state: State,
    message: String,
    then: Option<PowerChange>,
    abandoned: bool,
}

/// The agent was told to stop.
struct Told;

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("executor", &self.executor)
            .field("backoff_max", &self.backoff_max)
            .finish_non_exhaustive()
    }
}

/// The fallback of an agent that runs no containers.
pub fn no_containers(assignment: &Assignment) -> Result<Task, BadInput> {
    let known: Vec<_> = builtin::names().collect();
    let image = &assignment.image;
    Err(BadInput(format!(
        "image {image:?} is no action that is built in, and containers are not run here; expected \
         an image whose name ends in one of: {}",
        known.join(", ")
    )))
}

impl Worker {
    /// Asks for actions, does them and reports on them, until something ends that.
    pub async fn run(&self, transport: &mut dyn Transport) -> Stopped {
        let mut backoff = self.backoff();
        loop {
            let Ok(assignment) = self.next(transport, &mut backoff).await else {
                return Stopped::Told;
            };
            let started = SystemTime::now();
            let running =
                Report { state: State::Running, started, stopped: None, message: RUNNING.into() };
            let told = tokio::select! {
                told = transport.report(&assignment, &running) => told,
                () = self.cancel.cancelled() => return Stopped::Told,
            };
            if let Err(error) = told {
                // The server hands out again what it does not know to run.
                let wait = backoff.next_wait();
                warn!("{error}; asking anew in {:.1} s", wait.as_secs_f64());
                if self.wait(wait).await.is_err() {
                    return Stopped::Told;
                }
                continue;
            }
            let Some(ended) = self.perform(&assignment).await else {
                return Stopped::Told;
            };
            let Ended { state, message, then, abandoned } = ended;
            let stopped = Some(SystemTime::now());
            let report = Report { state, started, stopped, message };
            let delivered = self.deliver(transport, &assignment, &report).await;
            if abandoned {
                // Whatever the server says to it: what goes on writing is the graver matter.
                return Stopped::Abandoned(format!("{}: {}", assignment.name, report.message));
            }
            if let Err(stopped) = delivered {
                return stopped;
            }
            if let Some(change) = then {
                return Stopped::Power(change);
            }
            backoff.reset();
        }
    }

    /// Asks until there is something to do.
    async fn next(
        &self,
        transport: &mut dyn Transport,
        backoff: &mut Backoff,
    ) -> Result<Assignment, Told> {
        let mut said = None;
        loop {
            let asked = tokio::select! {
                asked = transport.next() => asked,
                () = self.cancel.cancelled() => return Err(Told),
            };
            let error = match asked {
                Ok(assignment) => return Ok(assignment),
                Err(error) => error,
            };
            let wait = backoff.next_wait();
            match &error {
                // Told once: an idle machine asks for years.
                Error::NothingToDo(_) if said.as_ref() == Some(&error) => {}
                Error::NothingToDo(why) => info!("nothing to do: {why}; asking on"),
                _ => warn!("{error}; trying again in {:.1} s, for ever", wait.as_secs_f64()),
            }
            said = Some(error);
            self.wait(wait).await?;
        }
    }

    /// Does an action; none if it was stopped.
    async fn perform(&self, assignment: &Assignment) -> Option<Ended> {
        let Assignment { name, image, .. } = assignment;
        info!("action {name} of workflow {}: {image}", assignment.workflow);
        if assignment.timeout.is_none() {
            warn!("action {name} has no timeout, so nothing ends it if it hangs");
        }
        let task = match self.task(assignment) {
            Ok(task) => task,
            Err(BadInput(message)) => {
                error!("action {name} cannot be done: {message}");
                let (state, message) = (State::Failed, short(message));
                return Some(Ended { state, message, then: None, abandoned: false });
            }
        };
        let action =
            Action { name: name.clone(), task, timeout: assignment.timeout.map(Span), retries: 0 };
        let job = Job {
            id: assignment.action.clone(),
            name: name.clone(),
            report_timeout: DEFAULT_REPORT_TIMEOUT,
            actions: vec![action],
        };
        let journal = Arc::new(Journal::new(&job.id, 1, (self.outlets)()));
        let ended = self.executor.run(&job, &journal).await;
        let executor::Ended { outcome, then, timed_out, abandoned } = ended;
        let (state, message) = match outcome {
            Outcome::Cancelled if self.cancel.is_cancelled() => return None,
            Outcome::Succeeded => (State::Success, COMPLETED.to_owned()),
            Outcome::Degraded { reasons } => {
                (State::Success, format!("{COMPLETED}, but: {}", reasons.join("; ")))
            }
            Outcome::Failed { message, .. } => {
                let state = if timed_out { State::Timeout } else { State::Failed };
                // There is but one action, which the report names anyway.
                let place = executor::place(0, &job.actions[0]);
                (state, message.strip_prefix(&place).unwrap_or(&message).to_owned())
            }
            Outcome::Cancelled | Outcome::Unknown => (State::Failed, outcome.to_string()),
        };
        Some(Ended { state, message: short(message), then, abandoned })
    }

    fn task(&self, assignment: &Assignment) -> Result<Task, BadInput> {
        match builtin::find(builtin::name_of(&assignment.image)) {
            Some(translate) => translate(Inputs {
                environment: &assignment.environment,
                command: &assignment.command,
            }),
            None => (self.fallback)(assignment),
        }
    }

    /// Tells how an action ended until that is acknowledged, or never will be.
    async fn deliver(
        &self,
        transport: &mut dyn Transport,
        assignment: &Assignment,
        report: &Report,
    ) -> Result<(), Stopped> {
        let name = &assignment.name;
        let mut backoff = self.backoff();
        let told = async {
            loop {
                match transport.report(assignment, report).await {
                    Ok(()) => return Ok(()),
                    Err(Error::Terminal(why)) => return Err(why),
                    Err(error) => {
                        let wait = backoff.next_wait();
                        let seconds = wait.as_secs_f64();
                        warn!("{error}; telling it again in {seconds:.1} s, for ever");
                        tokio::time::sleep(wait).await;
                    }
                }
            }
        };
        let last_chance = async {
            self.cancel.cancelled().await;
            tokio::time::sleep(LAST_REPORT_TIMEOUT).await;
        };
        let told = tokio::select! {
            told = told => told,
            () = last_chance => {
                error!("THE END OF ACTION {name} IS NOT REPORTED: the agent is told to stop");
                return Err(Stopped::Told);
            }
        };
        told.map_err(|why| {
            error!("THE END OF ACTION {name} IS REFUSED: {why}");
            Stopped::Refused(why)
        })?;
        info!("the server knows how action {name} ended: {:?}", report.state);
        Ok(())
    }

    fn backoff(&self) -> Backoff {
        let cap = self.backoff_max.max(LEAST_WAIT);
        Backoff::new(Policy { base: FIRST_WAIT.min(cap), cap })
    }

    async fn wait(&self, time: Duration) -> Result<(), Told> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.cancel.cancelled() => Err(Told),
        }
    }
}

/// A message that fits a report: of one that is too long, its beginning.
fn short(mut message: String) -> String {
    const CUT: &str = " […]";
    if message.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE - CUT.len();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push_str(CUT);
    }
    message
}
