//! The agent as a Tinkerbell agent, against a server that behaves like the real one: real gRPC over
//! loopback, the real worker and executor, and a stand-in only for the machine.

mod agent;
mod door;
mod lists;
mod way;

use std::thread;
use std::time::{Duration, Instant};

use agent::{Agent, LONGER_THAN_A_TEST, Machine, PATIENCE};
use lab::tinkerbell::{Action, Fake, Fault, Heard, Options, Speaks, State, Workflow};
use nibs_actions::PowerChange;
use nibs_agent::net::resolver::Resolver;
use nibs_agent::tinkerbell::transport::proto::{AgentAttributes, Block};
use nibs_agent::tinkerbell::transport::{self, Protocol};
use nibs_agent::tinkerbell::worker::Stopped;
use tonic::Code;

const WORKFLOW: &str = "tink/install";
const AGENT: &str = "52:54:00:12:34:56";

fn fake() -> Fake {
    Fake::start(Options::impatient()).unwrap()
}

fn workflow(images: &[&str]) -> Workflow {
    let named = |(i, image): (usize, &&str)| Action::new(&format!("{image}-{i}"), image);
    Workflow::of(WORKFLOW, AGENT, images.iter().enumerate().map(named))
}

fn options(fake: &Fake) -> transport::Options {
    transport::Options { server: fake.server(), agent: AGENT.into(), ..Default::default() }
}

fn agent(fake: &Fake) -> Agent {
    Agent::start(options(fake), Machine::default())
}

/// What was reported of each action, in order.
fn told(fake: &Fake) -> Vec<String> {
    let heard = fake.heard().into_iter();
    heard
        .filter_map(|(_, heard)| match heard {
            Heard::Told { action, state } => Some(format!("{action} {state}")),
            Heard::Asked => None,
        })
        .collect()
}

fn message(workflow: &Workflow) -> &str {
    &workflow.tasks[0].actions[0].status.message
}

#[test]
fn ten_actions_without_work_are_done_and_told_well_within_a_second() {
    let fake = fake();
    fake.add(workflow(&["noop"; 10]));
    let began = Instant::now();
    let agent = agent(&fake);
    let done = fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(done.states(), [State::Success; 10]);
    for action in done.actions() {
        let status = &action.status;
        let (start, stop) = (status.start.unwrap(), status.stop.unwrap());
        assert!(start.seconds > 1_700_000_000, "{start:?}");
        assert!((start.seconds, start.nanos) <= (stop.seconds, stop.nanos), "{status:?}");
        assert_eq!(status.message, "action completed");
    }
    assert_eq!(told(&fake).len(), 20);
    assert_eq!(agent.stop(), Stopped::Told);
}

#[test]
fn a_running_action_has_begun_and_not_ended() {
    let fake = fake();
    fake.add(workflow(&["wait"]));
    let agent = agent(&fake);
    let running = fake.wait_for(WORKFLOW, State::Running, PATIENCE).unwrap();
    let status = &running.tasks[0].actions[0].status;
    assert!(status.start.unwrap().seconds > 1_700_000_000, "{status:?}");
    assert_eq!((status.stop, &status.duration[..]), (None, ""));
    assert_eq!(status.message, "running action");
    agent.stop();
}

#[test]
fn a_server_that_is_restarted_in_the_middle_of_a_report_is_told_again() {
    let mut fake = fake();
    fake.add(workflow(&["noop", "noop"]));
    // The first end is taken note of, but not acknowledged before the server goes down.
    fake.spoil_reports([Fault::Late(Duration::ZERO), Fault::Late(LONGER_THAN_A_TEST)]);
    let agent = agent(&fake);
    agent::wait_until(|| told(&fake).len() == 2);
    fake.stop();
    thread::sleep(Duration::from_millis(300));
    fake.start_again().unwrap();
    let done = fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    assert_eq!(done.states(), [State::Success; 2]);
    // Told twice, done once.
    assert_eq!(told(&fake)[1..3], ["noop-0 Success", "noop-0 Success"]);
    assert_eq!(agent.machine.runs(), ["noop", "noop"]);
    agent.stop();
}

#[test]
fn an_agent_waits_for_a_server_that_is_not_there_yet() {
    let mut fake = fake();
    fake.stop();
    fake.add(workflow(&["noop"]));
    let agent = agent(&fake);
    thread::sleep(Duration::from_millis(200));
    assert!(!agent.has_ended());
    fake.start_again().unwrap();
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    agent.stop();
}

#[test]
fn three_codes_for_the_last_report_end_the_agent() {
    for code in [Code::NotFound, Code::InvalidArgument, Code::FailedPrecondition] {
        let fake = fake();
        fake.add(workflow(&["noop"]));
        fake.spoil_reports([Fault::Late(Duration::ZERO), Fault::Refuse(code, "no such action")]);
        match agent(&fake).ended() {
            Stopped::Refused(why) => {
                assert!(why.contains("no such action") && why.contains(&fake.server()), "{why}");
            }
            other => panic!("{code:?}: {other:?}"),
        }
        assert_eq!(told(&fake), ["noop-0 Running", "noop-0 Success"]);
    }
}

#[test]
fn any_other_code_for_the_last_report_is_asked_to_think_again() {
    let fake = fake();
    fake.add(workflow(&["noop"]));
    let other = [Code::Unknown, Code::Internal, Code::Unavailable, Code::Unimplemented];
    let refused = other.map(|code| Fault::Refuse(code, "not now"));
    fake.spoil_reports([Fault::Late(Duration::ZERO)].into_iter().chain(refused));
    let agent = agent(&fake);
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    assert_eq!(told(&fake).len(), 6);
    assert_eq!(agent.machine.runs(), ["noop"]);
    agent.stop();
}

#[test]
fn an_action_that_the_server_does_not_know_to_run_is_not_done() {
    let fake = fake();
    fake.add(workflow(&["noop"]));
    // Not even by a code that would end the agent at the end of an action.
    let refused = [Code::Unavailable, Code::NotFound];
    fake.spoil_reports(refused.map(|code| Fault::Refuse(code, "not now")));
    let agent = agent(&fake);
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    let running = "noop-0 Running";
    assert_eq!(told(&fake), [running, running, running, "noop-0 Success"]);
    assert_eq!(agent.machine.runs(), ["noop"]);
    agent.stop();
}

#[test]
fn questions_that_fail_are_asked_again_whatever_the_code() {
    let fake = fake();
    fake.add(workflow(&["noop"]));
    let codes = [Code::InvalidArgument, Code::PermissionDenied, Code::NotFound];
    fake.spoil_questions(codes.map(|code| Fault::Refuse(code, "what?")));
    let agent = agent(&fake);
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    agent.stop();
}

#[test]
fn an_answer_that_lacks_what_a_report_needs_is_not_worked_on() {
    let fake = fake();
    fake.add(workflow(&["noop"]));
    fake.spoil_questions([
        Fault::Lie(|answer| answer.workflow_id = None),
        Fault::Lie(|answer| answer.action_id = Some(String::new())),
    ]);
    let agent = agent(&fake);
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    assert_eq!(agent.machine.runs(), ["noop"]);
    agent.stop();
}

#[test]
fn what_was_running_when_the_machine_went_down_is_done_again() {
    let fake = fake();
    fake.add(workflow(&["wait", "noop"]));
    let first = agent(&fake);
    fake.wait_for(WORKFLOW, State::Running, PATIENCE).unwrap();
    agent::wait_until(|| first.machine.runs().len() == 1);
    assert_eq!(first.stop(), Stopped::Told);
    // Whoever stops an agent has not said that the action failed.
    assert_eq!(told(&fake), ["wait-0 Running"]);

    let machine = Machine::default();
    machine.release();
    let second = Agent::start(options(&fake), machine);
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    assert_eq!(second.machine.runs(), ["wait", "noop"]);
    second.stop();
}

#[test]
fn an_action_out_of_time_is_a_timeout_and_the_agent_asks_on() {
    let fake = fake();
    let mut slow = workflow(&["wait"]);
    slow.tasks[0].actions[0].timeout = 1;
    fake.add(slow);
    let agent = agent(&fake);
    let ended = fake.wait_for(WORKFLOW, State::Timeout, PATIENCE).unwrap();
    assert_eq!(ended.states(), [State::Timeout]);
    assert!(message(&ended).contains("timeout of 1s"), "{}", message(&ended));
    fake.remove(WORKFLOW);
    fake.add(workflow(&["noop"]));
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    agent.stop();
}

#[test]
fn an_action_that_does_not_stop_at_its_timeout_is_told_and_nothing_is_done_beside_it() {
    let fake = fake();
    let mut hanging = workflow(&["deaf"]);
    hanging.tasks[0].actions[0].timeout = 1;
    fake.add(hanging);
    let agent = agent(&fake);
    let ended = fake.wait_for(WORKFLOW, State::Timeout, PATIENCE).unwrap();
    assert!(message(&ended).contains("may still be writing"), "{}", message(&ended));
    // It would be given this one now, if it asked.
    fake.remove(WORKFLOW);
    fake.add(workflow(&["noop"]));
    let machine = agent.machine.clone();
    match agent.ended() {
        Stopped::Abandoned(why) => assert!(why.starts_with("deaf-0: it did not end"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(machine.runs(), ["deaf"]);
    machine.release();
}

#[test]
fn an_action_that_does_not_stop_ends_the_agent_also_when_its_report_is_refused() {
    let fake = fake();
    let mut hanging = workflow(&["deaf"]);
    hanging.tasks[0].actions[0].timeout = 1;
    fake.add(hanging);
    let refused = Fault::Refuse(Code::NotFound, "no such action");
    fake.spoil_reports([Fault::Late(Duration::ZERO), refused]);
    assert!(matches!(agent(&fake).ended(), Stopped::Abandoned(_)));
}

#[test]
fn a_timeout_of_zero_is_no_limit() {
    let fake = fake();
    let mut patient = workflow(&["nap"]);
    patient.tasks[0].actions[0].timeout = 0;
    fake.add(patient);
    let agent = agent(&fake);
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    agent.stop();
}

#[test]
fn a_failure_is_told_in_its_own_words_and_the_agent_asks_on() {
    let fake = fake();
    fake.add(workflow(&["fail"]));
    let agent = agent(&fake);
    let failed = fake.wait_for(WORKFLOW, State::Failed, PATIENCE).unwrap();
    assert_eq!(message(&failed), "opening /dev/sdz: no such disk");
    fake.remove(WORKFLOW);
    fake.add(workflow(&["degrade"]));
    let done = fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    assert_eq!(message(&done), "action completed, but: the boot order is as before");
    agent.stop();
}

#[test]
fn an_image_that_nobody_knows_fails_with_its_name() {
    let fake = fake();
    fake.add(workflow(&["quay.io/acme/coffee:latest"]));
    let agent = agent(&fake);
    let failed = fake.wait_for(WORKFLOW, State::Failed, PATIENCE).unwrap();
    assert!(message(&failed).contains("quay.io/acme/coffee:latest"), "{}", message(&failed));
    assert!(message(&failed).contains("built in"), "{}", message(&failed));
    let states: Vec<_> =
        told(&fake).iter().map(|t| t.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(states, ["Running", "Failed"]);
    agent.stop();
}

#[test]
fn a_message_of_any_length_arrives_in_part() {
    let fake = fake();
    fake.add(workflow(&["ramble"]));
    let agent = agent(&fake);
    let failed = fake.wait_for(WORKFLOW, State::Failed, PATIENCE).unwrap();
    let said = message(&failed);
    assert!(
        said.len() <= 4096 && said.starts_with("ääää") && said.ends_with("[…]"),
        "{}",
        said.len()
    );
    agent.stop();
}

#[test]
fn the_machine_is_restarted_only_when_the_server_knows_why() {
    let fake = fake();
    fake.add(workflow(&["noop", "restart"]));
    let late = Duration::from_millis(700);
    let at_once = || Fault::Late(Duration::ZERO);
    // The last report is refused, and then acknowledged late.
    let refused = Fault::Refuse(Code::Unavailable, "leader election");
    fake.spoil_reports([at_once(), at_once(), at_once(), refused, Fault::Late(late)]);
    let agent = agent(&fake);
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    let known = Instant::now();
    assert!(!agent.has_ended());
    assert_eq!(agent.ended(), Stopped::Power(PowerChange::Reboot));
    assert!(known.elapsed() >= late / 2, "{:?}", known.elapsed());
    let last = told(&fake).pop();
    assert_eq!(last.as_deref(), Some("restart-1 Success"));
}

#[test]
fn a_restart_that_the_server_refuses_to_know_of_does_not_happen() {
    let fake = fake();
    fake.add(workflow(&["restart"]));
    let refused = Fault::Refuse(Code::NotFound, "action not found");
    fake.spoil_reports([Fault::Late(Duration::ZERO), refused]);
    assert!(matches!(agent(&fake).ended(), Stopped::Refused(_)));
}

#[test]
fn an_agent_that_is_told_to_stop_does_so_while_the_server_hangs() {
    let fake = fake();
    fake.spoil_questions([Fault::Hang]);
    let agent = agent(&fake);
    agent::wait_until(|| !fake.heard().is_empty());
    let began = Instant::now();
    assert_eq!(agent.stop(), Stopped::Told);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn an_end_that_is_known_when_the_agent_is_told_to_stop_is_still_told() {
    let fake = fake();
    fake.add(workflow(&["noop"]));
    let slow = Fault::Late(Duration::from_millis(400));
    fake.spoil_reports([Fault::Late(Duration::ZERO), Fault::Refuse(Code::Unavailable, ""), slow]);
    let agent = agent(&fake);
    agent::wait_until(|| told(&fake).len() == 2);
    assert_eq!(agent.stop(), Stopped::Told);
    assert_eq!(fake.workflow(WORKFLOW).unwrap().state, State::Success);
}

#[test]
fn a_call_that_is_held_is_waited_out_and_work_comes_as_soon_as_it_is_there() {
    let fake = Fake::start(Options::default()).unwrap();
    let agent = agent(&fake);
    agent::wait_until(|| !fake.heard().is_empty());
    thread::sleep(Duration::from_millis(300));
    fake.add(workflow(&["noop"]));
    let added = Instant::now();
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    assert!(added.elapsed() < Duration::from_secs(2), "{:?}", added.elapsed());
    let asked = fake.heard().iter().filter(|(_, heard)| *heard == Heard::Asked).count();
    assert!(asked <= 2, "{asked} questions");
    agent.stop();
}

#[test]
fn the_machine_tells_of_itself_with_every_question() {
    let fake = fake();
    let block = Block { name: Some("sda".into()), size: Some("239GB".into()), ..Block::default() };
    let attributes = AgentAttributes { block: vec![block], ..AgentAttributes::default() };
    let options = transport::Options { attributes: Some(attributes), ..options(&fake) };
    let agent = Agent::start(options, Machine::default());
    agent::wait_until(|| fake.attributes().is_some());
    let known = fake.attributes().unwrap();
    assert_eq!(known.block[0].name.as_deref(), Some("sda"));
    assert_eq!(known.block[0].size.as_deref(), Some("239GB"));
    agent.stop();
}

#[test]
fn an_action_comes_with_all_that_its_template_says() {
    let fake = fake();
    let yaml = format!(
        "name: t
tasks:
- name: install
  worker: {AGENT}
  volumes: [/dev:/dev]
  environment: {{WHO: task, A: b=c}}
  actions:
  - {{name: one, image: registry:5000/noop:v1, timeout: 5, command: [x, y], volumes: ['/lib:/lib:ro'],
     environment: {{WHO: action}}, namespaces: {{network: host, pid: host}}}}
"
    );
    fake.add(Workflow::from_template(WORKFLOW, &yaml).unwrap());
    let agent = agent(&fake);
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    let seen = agent.machine.assignments();
    let one = &seen[0];
    assert_eq!((&one.name[..], &one.agent[..], &one.workflow[..]), ("one", AGENT, WORKFLOW));
    assert_eq!(
        (one.timeout, &one.command[..]),
        (Some(Duration::from_secs(5)), &["x".into(), "y".into()][..])
    );
    assert_eq!(one.volumes, ["/dev:/dev", "/lib:/lib:ro"]);
    assert_eq!((one.pid.as_deref(), one.network.as_deref()), (Some("host"), Some("host")));
    let environment: Vec<_> = one.environment.iter().map(|(k, v)| (&k[..], v.expose())).collect();
    assert_eq!(environment, [("A", "b=c"), ("WHO", "action")]);
    agent.stop();
}

#[test]
fn a_server_of_old_is_spoken_to_in_its_own_words() {
    let speaks = Speaks::TinkWorker;
    for protocol in [Protocol::Agent, Protocol::TinkWorker] {
        let fake = Fake::start(Options { speaks, ..Options::impatient() }).unwrap();
        let mut workflow = workflow(&["noop", "noop", "fail"]);
        workflow.tasks[0].actions[0].timeout = 0;
        fake.add(workflow);
        let registry = Some("registry.example/mirror".into());
        let options = transport::Options { protocol, registry, ..options(&fake) };
        let agent = Agent::start(options, Machine::default());
        let failed = fake.wait_for(WORKFLOW, State::Failed, PATIENCE).unwrap();
        assert_eq!(failed.states(), [State::Success, State::Success, State::Failed]);
        let last = &failed.tasks[0].actions[2].status.message;
        assert_eq!(last, "opening /dev/sdz: no such disk");
        let first = &agent.machine.assignments()[0];
        assert_eq!(first.timeout, Some(Duration::from_secs(3600)));
        assert_eq!(first.image, "registry.example/mirror/noop");
        assert_eq!(first.volumes, [format!("/worker/{WORKFLOW}:/workflow")]);
        agent.stop();
    }
}

#[test]
fn a_server_that_changes_its_protocol_is_followed_both_ways() {
    let mut fake = fake();
    let agent = agent(&fake);
    for speaks in [Speaks::TinkWorker, Speaks::Agent, Speaks::TinkWorker] {
        fake.restart_speaking(speaks).unwrap();
        fake.add(workflow(&["noop", "noop"]));
        fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
        fake.remove(WORKFLOW);
    }
    agent.stop();
}

#[test]
fn names_are_looked_up_without_the_c_library() {
    let fake = fake();
    fake.add(workflow(&["noop"]));
    let etc = tempfile::tempdir().unwrap();
    std::fs::write(etc.path().join("hosts"), "127.0.0.1 tinkerbell.test\n").unwrap();
    let port = fake.server().rsplit_once(':').unwrap().1.to_owned();
    let options = transport::Options {
        server: format!("tinkerbell.test:{port}"),
        resolver: Resolver::new(etc.path()),
        ..options(&fake)
    };
    let agent = Agent::start(options, Machine::default());
    fake.wait_for(WORKFLOW, State::Success, PATIENCE).unwrap();
    agent.stop();
}
