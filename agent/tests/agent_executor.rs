//! The executor with a stand-in for the machine: retries, timeouts, panics, cancellation.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nibs_actions::{Done, PowerChange};
use nibs_agent::backoff::Policy;
use nibs_agent::executor::{Attempt, Ended, Executor, Failure, Limits, Runner, refuse};
use nibs_agent::journal::{Journal, Outlet};
use nibs_job::{Class, Event, EventKind, Job, LogLevel, Outcome, Progress, Task};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// What the stand-in does for one attempt.
enum Act {
    Do(Done),
    Fail(Class),
    Panic,
    /// Blocks until it is told to stop.
    Obey,
    /// Blocks and does not care what it is told.
    Ignore,
    /// Says something of each kind.
    Talk,
}

#[derive(Default)]
struct Fake {
    acts: Mutex<VecDeque<Act>>,
    /// The disk that each attempt was told of.
    disks: Mutex<Vec<Option<PathBuf>>>,
}

impl Runner for Fake {
    fn run(&self, _: &Task, attempt: Attempt) -> Result<Done, Failure> {
        self.disks.lock().unwrap().push(attempt.installed_disk.clone());
        let act = self.acts.lock().unwrap().pop_front().expect("an attempt that was not expected");
        match act {
            Act::Do(done) => Ok(done),
            Act::Fail(class) => Err(Failure::Failed { class, message: "it is broken".into() }),
            Act::Panic => panic!("out of cheese"),
            Act::Obey => {
                while !attempt.cancel.is_cancelled() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(Failure::Cancelled)
            }
            Act::Ignore => {
                std::thread::sleep(Duration::from_millis(700));
                attempt.notes.warning("a word from the dead".into());
                Ok(Done::default())
            }
            Act::Talk => {
                for bytes_out in 0..1000 {
                    attempt.notes.progress(Progress { bytes_out, ..Progress::default() });
                }
                attempt.notes.warning("careful".into());
                attempt.notes.log(LogLevel::Info, "by the way".into());
                Ok(Done::default())
            }
        }
    }
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Outlet for Recorder {
    fn take(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

struct Run {
    ended: Ended,
    events: Vec<Event>,
    disks: Vec<Option<PathBuf>>,
    /// Whether every act was played.
    all_played: bool,
}

impl Run {
    /// The names of the events, without the first and the last.
    fn plot(&self) -> Vec<String> {
        let names = self.events.iter().map(|event| {
            serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned()
        });
        let mut names: Vec<String> = names.collect();
        assert_eq!(names.remove(0), "job-started");
        assert_eq!(names.pop().unwrap(), "job-finished");
        names
    }

    fn failure(&self) -> (Class, &str) {
        match &self.ended.outcome {
            Outcome::Failed { class, message } => (*class, message),
            other => panic!("{other:?}"),
        }
    }
}

fn job(actions: &Value) -> Job {
    Job::from_value(json!({"id": "j", "name": "test", "actions": actions})).unwrap()
}

/// A job with this many actions, of which only their order matters to the stand-in.
fn plain(actions: usize, retries: u32) -> Job {
    let disk = json!({"path": "/dev/vda"});
    let with = json!({"image": {"url": "/image"}, "disk": disk});
    let action = json!({"uses": "stream-image", "with": with, "retries": retries});
    job(&json!(vec![action; actions]))
}

fn with_timeout(mut job: Job, timeout: &str) -> Job {
    job.actions[0].timeout = Some(timeout.parse().unwrap());
    job
}

async fn run(job: &Job, acts: Vec<Act>) -> Run {
    run_with(job, acts, CancellationToken::new(), LIMITS).await
}

const LIMITS: Limits = Limits {
    retry: Policy { base: Duration::from_millis(10), cap: Duration::from_millis(40) },
    stop_grace: Duration::from_millis(300),
};

async fn run_with(job: &Job, acts: Vec<Act>, cancel: CancellationToken, limits: Limits) -> Run {
    let fake = Arc::new(Fake { acts: Mutex::new(acts.into()), ..Fake::default() });
    let recorder = Arc::new(Recorder::default());
    let outlets = vec![Arc::clone(&recorder) as Arc<dyn Outlet>];
    let journal = Arc::new(Journal::new(&job.id, 5, outlets));
    let runner = Arc::clone(&fake) as Arc<dyn Runner>;
    let ended = Executor::new(runner, limits, cancel).run(job, &journal).await;
    let events = recorder.0.lock().unwrap().clone();
    let sequences: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (5..5 + events.len() as u64).collect::<Vec<_>>());
    let Some(Event { kind: EventKind::JobFinished { outcome, .. }, .. }) = events.last() else {
        panic!("the last event is {:?}", events.last());
    };
    assert_eq!(*outcome, ended.outcome);
    let disks = fake.disks.lock().unwrap().clone();
    let all_played = fake.acts.lock().unwrap().is_empty();
    Run { ended, events, disks, all_played }
}

#[tokio::test]
async fn actions_run_in_order_and_a_power_change_is_handed_back() {
    let reboot = Done { then: Some(PowerChange::Reboot), ..Done::default() };
    let run = run(&plain(2, 0), vec![Act::Do(Done::default()), Act::Do(reboot)]).await;
    assert_eq!(run.ended.outcome, Outcome::Succeeded);
    assert_eq!(run.ended.then, Some(PowerChange::Reboot));
    let expected = ["action-started", "action-finished", "action-started", "action-finished"];
    assert_eq!(run.plot(), expected);
    let Some(EventKind::JobFinished { peak_memory, .. }) = run.events.last().map(|e| &e.kind)
    else {
        panic!()
    };
    assert!(peak_memory.is_some_and(|bytes| bytes > 0));
}

/// A job that installs, and then writes this `net.toml` onto a Bottlerocket machine.
fn with_net(net: &str) -> Job {
    let image = json!({"image": {"url": "/image"}, "disk": {"path": "/dev/vda"}});
    let files = json!({
        "partition": {"name": "BOTTLEROCKET-PRIVATE"},
        "files": [{"path": "/net.toml", "content": net}],
    });
    job(&json!([{"uses": "stream-image", "with": image}, {"uses": "write-files", "with": files}]))
}

#[tokio::test]
async fn a_job_with_files_that_the_machine_would_not_take_touches_no_disk() {
    let run = run(&with_net("version = 1\n[eno1]\ndhcp4 = 3\n"), vec![]).await;
    let (class, message) = run.failure();
    assert_eq!(class, Class::InvalidInput);
    assert!(message.contains("not valid: net.toml:3:9: error: eno1.dhcp4: "), "{message}");
    assert_eq!(run.plot(), [""; 0]);
}

#[tokio::test]
async fn what_cannot_work_in_them_is_told_before_the_first_action() {
    let acts = vec![Act::Do(Done::default()), Act::Do(Done::default())];
    let run = run(&with_net("version = 1\n"), acts).await;
    assert_eq!(run.ended.outcome, Outcome::Succeeded);
    assert_eq!(run.plot()[..2], ["warning", "action-started"]);
    let EventKind::Warning { action: None, message } = &run.events[1].kind else {
        panic!("{:?}", run.events[1])
    };
    assert!(message.starts_with("net.toml:1:11: warning: version: "), "{message}");
}

#[tokio::test]
async fn only_a_transient_failure_is_tried_again() {
    let acts = vec![Act::Fail(Class::Transient), Act::Do(Done::default())];
    let again = run(&plain(1, 1), acts).await;
    assert_eq!(again.ended.outcome, Outcome::Succeeded);
    let expected = ["action-started", "attempt-failed", "action-started", "action-finished"];
    assert_eq!(again.plot(), expected);
    let EventKind::AttemptFailed { attempt: 1, retry_in_seconds: Some(wait), .. } =
        again.events[2].kind
    else {
        panic!("{:?}", again.events[2])
    };
    assert!((0.005..=0.01).contains(&wait), "{wait}");

    for class in [Class::InvalidInput, Class::Environment, Class::Internal] {
        let run = run(&plain(1, 3), vec![Act::Fail(class)]).await;
        assert_eq!(run.failure().0, class);
        assert_eq!(run.plot(), ["action-started", "attempt-failed", "action-finished"]);
    }
}

#[tokio::test]
async fn retries_are_counted_and_the_first_failure_ends_the_job() {
    let acts = vec![Act::Fail(Class::Transient), Act::Fail(Class::Transient)];
    let run = run(&plain(3, 1), acts).await;
    let (class, message) = run.failure();
    assert_eq!(class, Class::Transient);
    assert_eq!(message, "action 1 (stream-image): it is broken");
    assert!(run.all_played);
    assert_eq!(run.plot().iter().filter(|name| *name == "action-started").count(), 2);
    assert_eq!(run.ended.then, None);
}

#[tokio::test]
async fn an_attempt_out_of_time_is_stopped_and_may_be_tried_again() {
    let job = with_timeout(plain(1, 1), "50ms");
    let acts = vec![Act::Obey, Act::Do(Done::default())];
    let again = run(&job, acts).await;
    assert_eq!(again.ended.outcome, Outcome::Succeeded);
    assert!(!again.ended.timed_out);

    let failed = run(&plain(1, 0), vec![Act::Fail(Class::Transient)]).await;
    assert!(!failed.ended.timed_out);

    let run = run(&with_timeout(plain(1, 0), "50ms"), vec![Act::Obey]).await;
    assert!(run.ended.timed_out && !run.ended.abandoned);
    let (class, message) = run.failure();
    assert_eq!(class, Class::Transient);
    assert!(message.ends_with("did not end within its timeout of 50ms"), "{message}");
}

#[tokio::test]
async fn an_attempt_that_does_not_stop_ends_the_job_and_is_not_heard_again() {
    let job = with_timeout(plain(1, 5), "50ms");
    let run = run(&job, vec![Act::Ignore]).await;
    let (class, message) = run.failure();
    assert_eq!(class, Class::Internal);
    assert!(message.contains("told to stop") && message.contains("300ms"), "{message}");
    assert!(message.contains("did not end within its timeout of 50ms"), "{message}");
    assert!(run.ended.timed_out && run.ended.abandoned, "{:?}", run.ended);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(run.plot(), ["action-started", "attempt-failed", "action-finished"]);
}

#[tokio::test]
async fn a_panic_is_a_failure_of_ours_and_not_the_end() {
    let run = run(&plain(2, 2), vec![Act::Panic]).await;
    let (class, message) = run.failure();
    assert_eq!(class, Class::Internal);
    assert!(message.contains("it panicked: out of cheese"), "{message}");
}

#[tokio::test]
async fn degraded_reasons_add_up() {
    let degraded = |reason: &str| Done { degraded: vec![reason.into()], ..Done::default() };
    let acts = vec![
        Act::Do(degraded("NVRAM is full")),
        Act::Do(Done::default()),
        Act::Do(degraded("no discard")),
    ];
    let run = run(&plain(3, 0), acts).await;
    let reasons = vec!["NVRAM is full".to_owned(), "no discard".to_owned()];
    assert_eq!(run.ended.outcome, Outcome::Degraded { reasons });
    let EventKind::ActionFinished { outcome, .. } = &run.events[4].kind else { panic!() };
    assert_eq!(*outcome, Outcome::Succeeded, "the second action is not to blame");
}

#[tokio::test]
async fn the_installed_disk_is_passed_on() {
    let disk = |path: &str| Done { installed_disk: Some(path.into()), ..Done::default() };
    let acts = vec![
        Act::Do(Done::default()),
        Act::Do(disk("/dev/vda")),
        Act::Do(Done::default()),
        Act::Do(disk("/dev/vdb")),
        Act::Do(Done::default()),
    ];
    let run = run(&plain(5, 0), acts).await;
    let path = |path: &str| Some(PathBuf::from(path));
    let expected = [None, None, path("/dev/vda"), path("/dev/vda"), path("/dev/vdb")];
    assert_eq!(run.disks, expected);
}

#[tokio::test]
async fn cancelling_stops_the_action_and_the_job() {
    let cancel = CancellationToken::new();
    let later = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        later.cancel();
    });
    let began = Instant::now();
    let run = run_with(&plain(2, 5), vec![Act::Obey], cancel, LIMITS).await;
    assert_eq!(run.ended.outcome, Outcome::Cancelled);
    assert_eq!(run.plot(), ["action-started", "action-finished"]);
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn an_action_that_does_not_stop_when_it_is_cancelled_is_left_behind_but_no_timeout() {
    let cancel = CancellationToken::new();
    let later = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        later.cancel();
    });
    let run = run_with(&plain(2, 5), vec![Act::Ignore], cancel, LIMITS).await;
    assert!(run.ended.abandoned && !run.ended.timed_out, "{:?}", run.ended);
    let message = run.failure().1;
    assert!(message.contains("told to stop") && !message.contains("timeout"), "{message}");
}

#[tokio::test]
async fn cancelling_ends_the_wait_for_a_retry() {
    let cancel = CancellationToken::new();
    let later = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        later.cancel();
    });
    let hours = Duration::from_secs(3600);
    let slow = Limits { retry: Policy { base: hours, cap: hours }, ..LIMITS };
    let run = run_with(&plain(1, 1), vec![Act::Fail(Class::Transient)], cancel, slow).await;
    assert_eq!(run.ended.outcome, Outcome::Cancelled);
    assert_eq!(run.plot(), ["action-started", "attempt-failed", "action-finished"]);
}

#[tokio::test]
async fn a_job_that_was_cancelled_before_its_start_does_nothing() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let run = run_with(&plain(2, 5), Vec::new(), cancel, LIMITS).await;
    assert_eq!(run.ended.outcome, Outcome::Cancelled);
    assert!(run.disks.is_empty(), "nothing was run");
}

#[tokio::test]
async fn what_an_action_says_is_told_and_progress_is_thinned() {
    let run = run(&plain(1, 0), vec![Act::Talk]).await;
    let plot = run.plot();
    let progress = plot.iter().filter(|name| *name == "progress").count();
    assert!((2..=10).contains(&progress), "{plot:?}");
    assert!(plot.contains(&"warning".to_owned()) && plot.contains(&"log".to_owned()));
    let last = run.events.iter().rev().find_map(|event| match event.kind {
        EventKind::Progress { progress, .. } => Some(progress.bytes_out),
        _ => None,
    });
    assert_eq!(last, Some(999), "the last figures are always told");
}

#[test]
fn a_refused_job_has_one_event() {
    let recorder = Arc::new(Recorder::default());
    let journal = Journal::new("j", 1, vec![Arc::clone(&recorder) as Arc<dyn Outlet>]);
    refuse(&journal, "actions[0].uses: not known".into());
    let events = recorder.0.lock().unwrap();
    let [Event { kind: EventKind::JobFinished { outcome, .. }, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert!(matches!(outcome, Outcome::Failed { class: Class::InvalidInput, .. }));
}
