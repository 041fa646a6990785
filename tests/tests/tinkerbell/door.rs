//! The binary under the name of Tinkerbell's agent, against the server. Skipped with a reason where
//! it is not built (`./build.sh build`).

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use lab::artefacts::Artefacts;
use lab::tinkerbell::{Action, Fake, Fault, Options, State, Workflow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::Code;

use crate::agent::{PATIENCE, wait_until};
use crate::{AGENT, WORKFLOW, message};

/// What can be no image, so that nobody is asked for it.
const NO_IMAGE: &str = "registry.lab/No Such Action";

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

#[test]
fn a_last_report_that_is_refused_for_good_ends_the_agent_with_0() {
    let fake = fake();
    let refused = Fault::Refuse(Code::NotFound, "action not found");
    fake.spoil_reports([Fault::Late(Duration::ZERO), refused]);
    let Some(mut agent) = Process::start(&fake) else { return };
    assert_eq!(agent.end().code(), Some(0));
}
