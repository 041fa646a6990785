//! The binary under the name of Tinkerbell's agent, against the server. Skipped with a reason where
//! it is not built (`./build.sh build`).

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use lab::artefacts::Artefacts;
use lab::tinkerbell::{Action, Fake, Fault, Options, State, Workflow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::Code;

use crate::agent::{PATIENCE, wait_until};
use crate::{AGENT, WORKFLOW, message};

/// What can be no image, so that nobody is asked for it.
const NO_IMAGE: &str = "registry.lab/No Such Action";

/// Resident memory that an agent without work may take, KiB.
const IDLE_AT_MOST: u64 = 20 << 10;

/// The agent as HookOS starts it.
struct Process(Child);

impl Process {
    fn start(fake: &Fake) -> Option<Self> {
        let program = Artefacts::find().agent();
        if !program.exists() {
            eprintln!("skipped: needs {}", program.display());
            return None;
        }
        let mut command = Command::new(program);
        command.arg0("/usr/bin/tink-agent").env_clear().stdout(Stdio::null());
        command.env("TINKERBELL_GRPC_AUTHORITY", fake.server()).env("TINKERBELL_TLS", "false");
        command.env("ID", AGENT).env("WORKER_ID", AGENT).env("REGISTRY_USERNAME", "");
        Some(Self(command.spawn().unwrap()))
    }

    /// Resident memory, KiB (proc_pid_status(5)).
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn end(&mut self) -> ExitStatus {
        wait_until(|| self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn fake() -> Fake {
    let fake = Fake::start(Options::impatient()).unwrap();
    fake.add(Workflow::of(WORKFLOW, AGENT, [Action::new("nothing", NO_IMAGE)]));
    fake
}

#[test]
fn what_hookos_starts_does_what_the_server_assigns_and_tells_the_error_itself() {
    let fake = fake();
    let Some(mut agent) = Process::start(&fake) else { return };
    let failed = fake.wait_for(WORKFLOW, State::Failed, PATIENCE).unwrap();
    assert!(message(&failed).contains(NO_IMAGE), "{failed:?}");
    let told = fake.attributes().unwrap().memory.unwrap().usable.unwrap();
    assert!(told.ends_with("GB"), "the machine tells what it is: {told}");
    assert!(agent.0.try_wait().unwrap().is_none(), "it asks on after a failure");
    kill(Pid::from_raw(agent.0.id().cast_signed()), Signal::SIGHUP).unwrap();
    assert_eq!(agent.end().code(), Some(0));
}

/// `rootio version` reads a document and does nothing.
#[test]
fn ten_actions_that_do_nothing_take_no_time_and_an_idle_agent_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("metadata.json");
    let storage = r#"{"metadata":{"instance":{"storage":{"disks":[],"filesystems":[]}}}}"#;
    std::fs::write(&document, storage).unwrap();
    let action = || Action {
        command: vec!["version".into()],
        ..Action::new("nothing", "quay.io/tinkerbell/actions/rootio:latest")
            .with("TEST", "1")
            .with("JSON_FILE", document.to_str().unwrap())
    };
    let fake = Fake::start(Options::impatient()).unwrap();
    let Some(agent) = Process::start(&fake) else { return };
    wait_until(|| !fake.heard().is_empty());
    fake.add(Workflow::of(WORKFLOW, AGENT, std::iter::repeat_with(action).take(10)));
    let began = Instant::now();
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    let took = began.elapsed();
    let asked = fake.heard().len();
    wait_until(|| fake.heard().len() > asked + 1);
    let resident = agent.resident();
    println!("ten actions: {took:.2?}; resident memory of an idle agent: {resident} KiB");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(resident <= IDLE_AT_MOST, "{resident} KiB");
}

#[test]
fn a_last_report_that_is_refused_for_good_ends_the_agent_with_0() {
    let fake = fake();
    let refused = Fault::Refuse(Code::NotFound, "action not found");
    fake.spoil_reports([Fault::Late(Duration::ZERO), refused]);
    let Some(mut agent) = Process::start(&fake) else { return };
    assert_eq!(agent.end().code(), Some(0));
}
