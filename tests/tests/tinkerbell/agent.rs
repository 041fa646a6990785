//! An agent at work in a thread of its own, on a machine that does what the names of images say.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nibs_actions::{Done, PowerChange};
use nibs_agent::backoff::Policy;
use nibs_agent::executor::{Attempt, Executor, Failure, Limits, Runner};
use nibs_agent::tinkerbell::transport::{self, Server, Transport};
use nibs_agent::tinkerbell::worker::{Stopped, Worker, no_containers};
use nibs_agent::tinkerbell::{Assignment, builtin};
use nibs_job::{Class, Task};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what should be there in a moment.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// For what is not meant to come about.
pub(super) const LONGER_THAN_A_TEST: Duration = Duration::from_secs(600);

/// Waits between calls that fail: a test has no 5 s.
const BACKOFF_MAX: Duration = Duration::from_millis(100);

/// What a machine can do, by the names of images.
const KNOWN: [&str; 8] = ["noop", "nap", "wait", "deaf", "fail", "degrade", "ramble", "restart"];

/// A stand-in for a machine. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    assignments: Mutex<Vec<Assignment>>,
    runs: Mutex<Vec<String>>,
    released: Mutex<bool>,
    release: Condvar,
}

impl Machine {
    /// What was run, by the names of images.
    pub(super) fn runs(&self) -> Vec<String> {
        self.shared.runs.lock().unwrap().clone()
    }

    /// What was assigned.
    pub(super) fn assignments(&self) -> Vec<Assignment> {
        self.shared.assignments.lock().unwrap().clone()
    }

    /// Lets `wait` and `deaf` end; `deaf` ends by nothing else.
    pub(super) fn release(&self) {
        *self.shared.released.lock().unwrap() = true;
        self.shared.release.notify_all();
    }

    /// A task for the executor; what is meant by it is looked up when it runs.
    fn task(&self, assignment: &Assignment) -> Result<Task, builtin::BadInput> {
        if !KNOWN.contains(&builtin::name_of(&assignment.image)) {
            return no_containers(assignment);
        }
        self.shared.assignments.lock().unwrap().push(assignment.clone());
        Ok(Task::decode("reboot", json!({})).unwrap())
    }
}

impl Runner for Machine {
    fn run(&self, _: &Task, attempt: Attempt) -> Result<Done, Failure> {
        let assignment = self.assignments().pop().unwrap();
        let what = builtin::name_of(&assignment.image).to_owned();
        self.shared.runs.lock().unwrap().push(what.clone());
        let failed = |message: String| Err(Failure::Failed { class: Class::Environment, message });
        match &what[..] {
            "nap" => thread::sleep(Duration::from_millis(300)),
            "fail" => return failed("opening /dev/sdz: no such disk".into()),
            "ramble" => return failed("ä".repeat(10_000)),
            "degrade" => {
                let degraded = vec!["the boot order is as before".into()];
                return Ok(Done { degraded, ..Done::default() });
            }
            "restart" => return Ok(Done { then: Some(PowerChange::Reboot), ..Done::default() }),
            "wait" | "deaf" => {
                let mut released = self.shared.released.lock().unwrap();
                while !*released {
                    if what == "wait" && attempt.cancel.is_cancelled() {
                        return Err(Failure::Cancelled);
                    }
                    let tick = Duration::from_millis(5);
                    released = self.shared.release.wait_timeout(released, tick).unwrap().0;
                }
            }
            _ => {}
        }
        Ok(Done::default())
    }
}

/// An agent at work.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) machine: Machine,
    cancel: CancellationToken,
    thread: Option<JoinHandle<Stopped>>,
}

impl Agent {
    /// One that asks a server.
    pub(super) fn start(options: transport::Options, machine: Machine) -> Self {
        Self::on(move || Box::new(Server::new(options).unwrap()), machine)
    }

    /// One that asks a transport, which is made where it is used.
    pub(super) fn on(
        transport: impl FnOnce() -> Box<dyn Transport> + Send + 'static,
        machine: Machine,
    ) -> Self {
        let cancel = CancellationToken::new();
        let retry = Policy { base: Duration::from_millis(1), cap: Duration::from_millis(1) };
        let limits = Limits { retry, stop_grace: Duration::from_secs(2) };
        let known = machine.clone();
        let worker = Worker {
            executor: Executor::new(Arc::new(machine.clone()), limits, cancel.clone()),
            cancel: cancel.clone(),
            backoff_max: BACKOFF_MAX,
            outlets: Box::new(Vec::new),
            fallback: Box::new(move |assignment| known.task(assignment)),
        };
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let stopped = runtime.block_on(async { worker.run(&mut *transport()).await });
            runtime.shutdown_background();
            stopped
        });
        Self { machine, cancel, thread: Some(thread) }
    }

    /// Tells it to stop, and waits until it has.
    pub(super) fn stop(mut self) -> Stopped {
        self.cancel.cancel();
        self.join()
    }

    /// Waits until it ends by itself.
    pub(super) fn ended(mut self) -> Stopped {
        wait_until(|| self.has_ended());
        self.join()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn join(&mut self) -> Stopped {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

pub(super) fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "what was waited for did not come");
        thread::sleep(Duration::from_millis(5));
    }
}
