//! `nibs agent` as a process, against a control plane that is away, restarts, or offers nonsense.

mod agent_support;

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use agent_support::ControlPlane;
use nibs_job::{Class, EventKind, Outcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Longer than any of these takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Agent(Child);

impl Agent {
    fn start(control: &str, more: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_nibs"))
            .args(["agent", "--control", control, "--id", "52:54:00:00:00:01"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    /// How it ended, and what it said on stdout and stderr.
    async fn end(mut self) -> (ExitStatus, String, String) {
        let since = Instant::now();
        let status = loop {
            match self.0.try_wait().unwrap() {
                Some(status) => break status,
                None if since.elapsed() > PATIENCE => {
                    self.0.kill().unwrap();
                    panic!("the agent does not end");
                }
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let (mut out, mut err) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (status, out, err)
    }
}

/// A job that fails on every machine, since nothing may really be written by a test.
fn job(id: &str) -> Value {
    let with = json!({"image": {"url": "/no/such/image"}, "disk": {"path": "/dev/no-such-disk"}});
    json!({"id": id, "name": id, "actions": [{"uses": "stream-image", "with": with}]})
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn last_outcome(plane: &ControlPlane) -> Outcome {
    match plane.store.lock().unwrap().events.last().map(|event| event.kind.clone()) {
        Some(EventKind::JobFinished { outcome, .. }) => outcome,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unreachable_control_plane_is_tried_again_and_that_is_said() {
    let mut plane = ControlPlane::start().await;
    plane.store.lock().unwrap().job = Some(job("late"));
    plane.stop().await;
    let agent = Agent::start(&plane.url(), &["--once"]);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    plane.restart().await;
    let (status, _, said) = agent.end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    let gone = format!("reaching the control plane at {}: connection refused", plane.url());
    assert!(said.contains(&gone), "{said}");
    assert!(said.contains("trying again in") && said.contains("for ever"), "{said}");
    assert!(said.contains("answers again"), "{said}");
    assert!(said.contains("has acknowledged the end of the job"), "{said}");
    assert!(matches!(last_outcome(&plane), Outcome::Failed { class: Class::Environment, .. }));
}

#[tokio::test]
async fn an_idle_agent_that_is_told_to_stop_has_not_failed() {
    let plane = ControlPlane::start().await;
    let agent = Agent::start(&plane.url(), &[]);
    until("a job is asked for", || plane.store.lock().unwrap().asked > 0).await;
    agent.signal(Signal::SIGTERM);
    let (status, _, said) = agent.end().await;
    assert_eq!(status.code(), Some(0), "{said}");
}

#[tokio::test]
async fn a_job_that_does_not_decode_is_refused_and_nothing_is_run() {
    let plane = ControlPlane::start().await;
    let mut bad = job("bad-1");
    bad["actions"][0]["uses"] = json!("steam-image");
    plane.store.lock().unwrap().job = Some(bad);
    let (status, _, said) = Agent::start(&plane.url(), &["--once"]).end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(plane.stored(), [1], "one event only");
    let Outcome::Failed { class: Class::InvalidInput, message } = last_outcome(&plane) else {
        panic!()
    };
    assert!(message.contains("actions[0].uses") && message.contains("stream-image"), "{message}");
}

#[tokio::test]
async fn jobs_come_one_after_the_other_and_events_are_json_lines_if_asked_for() {
    let plane = ControlPlane::start().await;
    plane.store.lock().unwrap().job = Some(job("first"));
    let agent = Agent::start(&plane.url(), &["--json"]);
    let finished = || plane.store.lock().unwrap().events.last().is_some_and(is_end);
    until("the first job ends", finished).await;
    until("another job is asked for", || plane.store.lock().unwrap().asked >= 2).await;
    {
        let mut store = plane.store.lock().unwrap();
        store.events.clear();
        store.job = Some(job("second"));
    }
    until("the second job ends", finished).await;
    agent.signal(Signal::SIGTERM);
    let (_, out, said) = agent.end().await;
    let events: Vec<nibs_job::Event> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ends: Vec<_> = events.iter().filter(|e| is_end(e)).map(|e| e.job.as_str()).collect();
    assert_eq!(ends, ["first", "second"], "{said}");
}

fn is_end(event: &nibs_job::Event) -> bool {
    matches!(event.kind, EventKind::JobFinished { .. })
}

#[tokio::test]
async fn the_end_of_a_job_is_kept_for_a_control_plane_that_restarts() {
    let mut plane = ControlPlane::start().await;
    {
        let mut store = plane.store.lock().unwrap();
        store.job = Some(job("kept"));
        store.moods.extend([agent_support::Mood::Refuse(503); 2]);
    }
    let agent = Agent::start(&plane.url(), &["--once"]);
    until("events are sent", || !plane.store.lock().unwrap().deliveries.is_empty()).await;
    plane.stop().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    plane.restart().await;
    let (_, _, said) = agent.end().await;
    assert!(matches!(last_outcome(&plane), Outcome::Failed { .. }));
    let stored = plane.stored();
    assert!(stored.is_sorted() && stored[0] == 1, "{stored:?}");
    assert_eq!(said.matches("the job goes on, and its events are kept").count(), 1, "{said}");
}

#[tokio::test]
async fn an_agents_death_is_reported_from_the_note_it_left() {
    let plane = ControlPlane::start().await;
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("job.json");
    let note = json!({
        "job": "died", "machine": "m", "control": plane.url(), "next-sequence": 300,
    });
    std::fs::write(&state, note.to_string()).unwrap();
    let post_mortem = |state: &str| {
        let arguments = ["post-mortem", "--reason", "killed by signal 9", "--state", state];
        tokio::process::Command::new(env!("CARGO_BIN_EXE_nibs")).args(arguments).output()
    };
    let output = post_mortem(state.to_str().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(plane.stored(), [300]);
    let Outcome::Failed { class: Class::Internal, message } = last_outcome(&plane) else {
        panic!()
    };
    assert!(message.contains("killed by signal 9"), "{message}");
    let nothing = post_mortem("/no/such/note").await.unwrap();
    assert_eq!(nothing.status.code(), Some(0), "no job was running: {nothing:?}");
}

#[tokio::test]
async fn the_note_is_there_while_a_job_runs_and_gone_after_its_end() {
    let plane = ControlPlane::start().await;
    {
        let mut store = plane.store.lock().unwrap();
        store.job = Some(job("noted"));
        store.moods.extend([agent_support::Mood::Refuse(503); 3]);
    }
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("job.json");
    let agent = Agent::start(&plane.url(), &["--once", "--state", state.to_str().unwrap()]);
    until("the note is written", || state.exists()).await;
    let note: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    assert_eq!((&note["job"], &note["machine"]), (&json!("noted"), &json!("52:54:00:00:00:01")));
    let (_, _, said) = agent.end().await;
    assert!(!state.exists(), "{said}");
}
