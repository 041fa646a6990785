//! `nibs agent`: jobs from a control plane, one after the other.
//!
//! ```text
//! ask for a job ─ run it ─ last report acknowledged ─┬─ restart or switch off, if the job says so
//!       ▲                                            │
//!       └────────────────────────────────────────────┘ else
//! ```

use std::io::stdout;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use nibs_actions::{PowerChange, power};
use nibs_job::wire::{Hello, Offer};
use nibs_job::{DEFAULT_REPORT_TIMEOUT, Job, Outcome, Span};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::here::Here;
use super::signals::cancelled_by_signals;
use super::{Exit, Usage};
use crate::cli::AgentArgs;
use crate::control::{self, Client, Endpoint, RunningJob, StateFile};
use crate::executor::{Ended, Executor, Limits, refuse};
use crate::journal::{Journal, Outlet};
use crate::net::{self, Keeper};
use crate::reporter::{Flushed, Pace, Reporter};
use crate::syslog::Syslog;
use crate::view::{self, JsonLines, SyslogLines};

/// How long the end of a cancelled job is offered to the control plane: whoever cancels waits.
const CANCELLED_REPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after an offer that cannot even be refused.
const BAD_OFFER_PAUSE: Duration = Duration::from_secs(30);

/// An agent at work.
struct Agent {
    client: Client,
    executor: Executor,
    cancel: CancellationToken,
    json: bool,
    syslog: Option<Arc<Syslog>>,
    state: Option<PathBuf>,
}

/// `nibs agent`
pub(super) async fn agent(
    args: AgentArgs,
    ca: Option<PathBuf>,
    json: bool,
) -> anyhow::Result<Exit> {
    let here = Here::look(ca);
    let syslog = here.syslog();
    here.warn();
    let endpoint = endpoint(args.control.as_deref(), &here)?;
    let cancel = cancelled_by_signals()?;
    // Kept to the end: it renews the lease.
    let network = match args.network {
        true => tokio::select! {
            keeper = net::up(here.network()) => Some(keeper),
            () = cancel.cancelled() => return Ok(Exit::Done),
        },
        false => None,
    };
    let leased = network.as_ref().and_then(Keeper::network).map(|network| network.mac);
    let machine = here.machine_id(args.id, leased)?;
    here.open_syslog(syslog.as_ref(), &machine);
    let mut runner = here.runner()?;
    if let Some(keeper) = &network {
        runner = runner.leased(keeper.watch());
    }
    let agent = Agent {
        client: Client::new(here.http()?, endpoint, machine),
        executor: Executor::new(Arc::new(runner), Limits::default(), cancel.clone()),
        cancel,
        json,
        syslog,
        state: args.state,
    };
    loop {
        let hello = Hello {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            facts: here.facts_and_inventory(),
        };
        let offer = tokio::select! {
            offer = control::next_job(&agent.client, &hello) => offer,
            () = agent.cancel.cancelled() => return Ok(Exit::Done),
        };
        let Some(ended) = agent.take(offer).await else { continue };
        if let Some(change) = ended.then {
            info!("the job is done, and asks for: {change}");
            let Err(error) = power::perform(change);
            return Err(error.into());
        }
        if let Some(exit) = agent.end(&ended, args.once)? {
            return Ok(exit);
        }
    }
}

fn endpoint(given: Option<&str>, here: &Here) -> Result<Endpoint, Usage> {
    match given {
        Some(url) => url.parse().map_err(|e: control::EndpointError| Usage(e.to_string())),
        None => here.control().ok_or_else(|| {
            Usage(
                "no control plane is named; expected --control URL, NIBS_CONTROL, or \
                 nibs.control=URL on the kernel command line (or grpc_authority=HOST:PORT there \
                 for a Tinkerbell server)"
                    .into(),
            )
        }),
    }
}

impl Agent {
    /// Runs an offered job to its acknowledged end; none if it cannot even be refused.
    async fn take(&self, offer: Offer<Value>) -> Option<Ended> {
        let Offer { job, first_sequence } = offer;
        let Some(id) = job.get("id").and_then(Value::as_str).map(str::to_owned) else {
            let endpoint = self.client.endpoint();
            warn!("{endpoint} offers a job without an id, which can be neither run nor refused");
            tokio::select! {
                () = tokio::time::sleep(BAD_OFFER_PAUSE) => {}
                () = self.cancel.cancelled() => {}
            }
            return None;
        };
        let reporter = Arc::new(Reporter::start(self.client.clone(), &id, Pace::default()));
        let state = self.state.as_deref().map(|path| self.note(path, &id, first_sequence));
        let mut outlets: Vec<Arc<dyn Outlet>> = Vec::new();
        outlets.extend(state.clone().map(|state| state as Arc<dyn Outlet>));
        outlets.push(match self.json {
            true => Arc::new(JsonLines::new(stdout())),
            false => view::for_people(),
        });
        let syslog = self.syslog.clone().map(SyslogLines::new);
        outlets.extend(syslog.map(|lines| Arc::new(lines) as Arc<dyn Outlet>));
        outlets.push(Arc::clone(&reporter) as Arc<dyn Outlet>);
        let journal = Arc::new(Journal::new(&id, first_sequence, outlets));

        let (mut ended, report_timeout) = match Job::from_value(job) {
            Ok(job) => (self.executor.run(&job, &journal).await, job.report_timeout.0),
            Err(error) => {
                let outcome = refuse(&journal, format!("the job is not valid: {error}"));
                (ended(outcome, None), DEFAULT_REPORT_TIMEOUT.0)
            }
        };
        let flushed = self.deliver(&reporter, &ended, report_timeout).await;
        if flushed != Flushed::Acknowledged && self.cancel.is_cancelled() {
            // Whoever stops the agent has not asked for a restart that nobody knows the reason of.
            ended.then = None;
        }
        if let Some(state) = state {
            state.clear();
        }
        Some(ended)
    }

    /// Whether the process ends after a job that leaves the machine's power as it is, and how.
    fn end(&self, ended: &Ended, once: bool) -> anyhow::Result<Option<Exit>> {
        if ended.abandoned {
            bail!(
                "ending the agent, since no job may run beside an action that goes on: {}",
                ended.outcome
            );
        }
        let exit = if ended.outcome.is_success() { Exit::Done } else { Exit::Failed };
        Ok((once || self.cancel.is_cancelled()).then_some(exit))
    }

    fn note(&self, path: &Path, job: &str, next_sequence: u64) -> Arc<StateFile> {
        let running = RunningJob {
            job: job.to_owned(),
            machine: self.client.machine().to_owned(),
            control: self.client.endpoint().expose().to_owned(),
            next_sequence,
        };
        Arc::new(StateFile::create(path, running))
    }

    /// Waits for the acknowledgement of the job's end.
    ///
    /// A machine that is to be restarted does not wait longer than the job's `report-timeout`:
    /// its new system may be what brings the control plane back. Nor does one where an action goes
    /// on, which may be writing meanwhile. Any other has nothing better to do.
    async fn deliver(
        &self,
        reporter: &Reporter,
        ended: &Ended,
        report_timeout: Duration,
    ) -> Flushed {
        let limit = match (&ended.outcome, ended.then) {
            (Outcome::Cancelled, _) => Some(CANCELLED_REPORT_TIMEOUT),
            (_, Some(_)) => Some(report_timeout),
            _ if ended.abandoned => Some(report_timeout),
            _ => None,
        };
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let endpoint = self.client.endpoint();
        let at_most = limit.map_or(String::new(), |limit| format!(", for at most {}", Span(limit)));
        info!("telling {endpoint} how the job ended{at_most}");
        let flushed = tokio::select! {
            flushed = reporter.flush(deadline) => flushed,
            () = self.cancelled_for(CANCELLED_REPORT_TIMEOUT) => Flushed::TimedOut,
        };
        match flushed {
            Flushed::Acknowledged => info!("{endpoint} has acknowledged the end of the job"),
            Flushed::JobLost => error!(
                "THE END OF THE JOB IS NOT REPORTED: {endpoint} answers that it does not have it; \
                 going on without"
            ),
            Flushed::TimedOut => error!(
                "THE END OF THE JOB IS NOT REPORTED: {endpoint} did not acknowledge it in time; \
                 going on without"
            ),
        }
        flushed
    }

    /// Ends that long after a signal to stop; never without one.
    async fn cancelled_for(&self, time: Duration) {
        self.cancel.cancelled().await;
        tokio::time::sleep(time).await;
    }
}

/// A job's end of which nothing goes on.
fn ended(outcome: Outcome, then: Option<PowerChange>) -> Ended {
    Ended { outcome, then, timed_out: false, abandoned: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::{Attempt, Failure, Runner};
    use nibs_actions::Done;
    use nibs_job::Task;

    /// Asks for a restart, while somebody stops the agent.
    struct StoppedMeanwhile(CancellationToken);

    impl Runner for StoppedMeanwhile {
        fn run(&self, _: &Task, _: Attempt) -> Result<Done, Failure> {
            self.0.cancel();
            Ok(Done { then: Some(PowerChange::Reboot), ..Done::default() })
        }
    }

    /// Goes on, whatever it is told.
    struct Deaf;

    impl Runner for Deaf {
        fn run(&self, _: &Task, _: Attempt) -> Result<Done, Failure> {
            std::thread::sleep(Duration::from_secs(5));
            Ok(Done::default())
        }
    }

    /// An agent whose control plane is not there.
    fn agent(cancel: CancellationToken) -> Agent {
        let runner = Arc::new(StoppedMeanwhile(cancel.clone()));
        agent_with(runner, Limits::default(), cancel)
    }

    fn agent_with(runner: Arc<dyn Runner>, limits: Limits, cancel: CancellationToken) -> Agent {
        let http = nibs_actions::http::client(&nibs_actions::http::Options::default()).unwrap();
        // Nothing listens on the discard port of this machine.
        let client = Client::new(http, "http://127.0.0.1:9".parse().unwrap(), "m".into());
        let executor = Executor::new(runner, limits, cancel.clone());
        Agent { client, executor, cancel, json: false, syslog: None, state: None }
    }

    /// How the report of a job with this end fares where no control plane is.
    async fn delivered(
        ended: Ended,
        report_timeout: Duration,
        cancel: CancellationToken,
    ) -> (Flushed, Duration) {
        let agent = agent(cancel);
        let reporter = Arc::new(Reporter::start(agent.client.clone(), "j", Pace::default()));
        refuse(&Journal::new("j", 1, vec![Arc::clone(&reporter) as _]), "x".into());
        let began = Instant::now();
        (agent.deliver(&reporter, &ended, report_timeout).await, began.elapsed())
    }

    #[tokio::test]
    async fn a_restart_waits_for_the_acknowledgement_only_for_so_long() {
        let then = Some(PowerChange::Reboot);
        let ended = ended(Outcome::Succeeded, then);
        let timeout = Duration::from_millis(300);
        let (flushed, took) = delivered(ended, timeout, CancellationToken::new()).await;
        assert_eq!(flushed, Flushed::TimedOut);
        assert!(took >= timeout && took < timeout * 10, "{took:?}");
    }

    #[tokio::test]
    async fn without_a_restart_the_wait_has_no_end_of_its_own() {
        let ended = ended(Outcome::Succeeded, None);
        let wait = delivered(ended, Duration::from_millis(10), CancellationToken::new());
        let waited = tokio::time::timeout(Duration::from_millis(400), wait).await;
        assert!(waited.is_err(), "{waited:?}");
    }

    #[tokio::test]
    async fn an_agent_that_is_told_to_stop_restarts_no_machine_unreported() {
        let job = serde_json::json!({
            "id": "j", "name": "j", "report-timeout": "100ms", "actions": [{"uses": "reboot"}],
        });
        let agent = agent(CancellationToken::new());
        let ended = agent.take(Offer { job, first_sequence: 1 }).await.unwrap();
        assert_eq!((ended.outcome, ended.then), (Outcome::Succeeded, None));
    }

    #[tokio::test]
    async fn an_agent_ends_after_an_action_that_does_not_stop() {
        let job = serde_json::json!({
            "id": "j", "name": "j", "report-timeout": "100ms",
            "actions": [{"uses": "reboot", "timeout": "50ms"}],
        });
        let limits = Limits { stop_grace: Duration::from_millis(50), ..Limits::default() };
        let agent = agent_with(Arc::new(Deaf), limits, CancellationToken::new());
        let left = agent.take(Offer { job, first_sequence: 1 }).await.unwrap();
        let error = agent.end(&left, false).unwrap_err().to_string();
        assert!(error.contains("ending the agent") && error.contains("50ms"), "{error}");
        let other = ended(Outcome::Cancelled, None);
        assert_eq!(agent.end(&other, false).unwrap(), None, "it asks for the next job");
        assert_eq!(agent.end(&other, true).unwrap(), Some(Exit::Failed));
    }
}
