//! What tink-agent speaks: GetAction and ReportActionStatus of Tinkerbell v0.17 and later
//! (`pkg/proto` of its repository).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nibs_job::Secret;
use prost_types::Timestamp;
use tonic::transport::Channel;

use super::error::CallError;
use super::proto::action_status_request::StateType;
use super::proto::workflow_service_client::WorkflowServiceClient;
use super::proto::{
    ActionMessage, ActionRequest, ActionResponse, ActionStatusRequest, AgentAttributes,
};
use crate::tinkerbell::{Assignment, Report, State};

/// Go's zero time, the start of the year 1, which a server stores as "not yet". A time that is
/// left out it stores as 1970, and then believes that the action has run for half a century.
const NOT_YET: Timestamp = Timestamp { seconds: -62_135_596_800, nanos: 0 };

/// 2024-01-01, before which no clock of an agent that was written later can be right. A machine
/// without a clock begins in 1970, and a server that is told so never sees a workflow's global
/// timeout come.
const NO_CLOCK_BEFORE: u64 = 1_704_067_200;

/// Asks one server in this protocol.
#[derive(Debug)]
pub(super) struct AgentProtocol {
    client: WorkflowServiceClient<Channel>,
    agent: String,
    attributes: Option<AgentAttributes>,
}

impl AgentProtocol {
    pub(super) fn new(channel: Channel, agent: &str, attributes: Option<AgentAttributes>) -> Self {
        Self { client: WorkflowServiceClient::new(channel), agent: agent.to_owned(), attributes }
    }

    /// Without a deadline: a server keeps the call for a minute before it says that there is
    /// nothing to do, and only it knows how long that is.
    pub(super) async fn next(&mut self) -> Result<Assignment, CallError> {
        let agent_attributes = self.attributes.clone();
        let request = ActionRequest { agent_id: Some(self.agent.clone()), agent_attributes };
        assignment(self.client.get_action(request).await?.into_inner())
    }

    pub(super) async fn report(
        &mut self,
        assignment: &Assignment,
        report: &Report,
    ) -> Result<(), CallError> {
        self.client.report_action_status(status(assignment, report, &self.agent)).await?;
        Ok(())
    }
}

/// The action that an answer names.
fn assignment(answer: ActionResponse) -> Result<Assignment, CallError> {
    let needed = |name: &str, value: Option<String>| {
        value.filter(|value| !value.is_empty()).ok_or_else(|| {
            CallError::Garbled(format!("the action has no {name}, so it could not be reported on"))
        })
    };
    let namespaces = answer.namespaces.unwrap_or_default();
    let text = |value: Option<String>| value.filter(|value| !value.is_empty());
    Ok(Assignment {
        workflow: needed("workflow_id", answer.workflow_id)?,
        task: needed("task_id", answer.task_id)?,
        agent: answer.agent_id.unwrap_or_default(),
        action: needed("action_id", answer.action_id)?,
        name: answer.name.unwrap_or_default(),
        image: answer.image.unwrap_or_default(),
        entrypoint: None,
        timeout: answer.timeout.and_then(timeout),
        command: answer.command,
        volumes: answer.volumes,
        environment: environment(&answer.environment),
        pid: text(namespaces.pid).or(text(answer.pid)),
        network: text(namespaces.network),
    })
}

/// A template without a timeout comes as 0. To take that by its word, as tink-agent does, ends the
/// action before it began, which is what nobody means who leaves it out.
pub(super) fn timeout(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// What is set by `KEY=VALUE`. A word without `=` sets nothing, as in a container; it is not
/// repeated, since it may be a secret that lost its name.
pub(super) fn environment(words: &[String]) -> BTreeMap<String, Secret> {
    let mut set = BTreeMap::new();
    for (index, word) in words.iter().enumerate() {
        match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                set.insert(key.to_owned(), Secret::new(value));
            }
            _ => tracing::warn!(
                "the action's environment: entry {} sets nothing; expected KEY=VALUE",
                index + 1
            ),
        }
    }
    set
}

/// A report as the server wants it.
fn status(assignment: &Assignment, report: &Report, agent: &str) -> ActionStatusRequest {
    let state = match report.state {
        State::Running => StateType::Running,
        State::Success => StateType::Success,
        State::Failed => StateType::Failed,
        State::Timeout => StateType::Timeout,
    };
    // The server looks the action up by the id that it was handed out under.
    let agent = if assignment.agent.is_empty() { agent } else { &assignment.agent };
    ActionStatusRequest {
        workflow_id: Some(assignment.workflow.clone()),
        agent_id: Some(agent.to_owned()),
        task_id: Some(assignment.task.clone()),
        action_id: Some(assignment.action.clone()),
        action_name: Some(assignment.name.clone()),
        action_state: Some(state.into()),
        execution_start: Some(time(report.started)),
        execution_stop: Some(report.stopped.map_or(NOT_YET, time)),
        execution_duration: Some(
            report.stopped.map_or(String::new(), |stopped| duration(report.started, stopped)),
        ),
        message: Some(ActionMessage { message: Some(report.message.clone()) }),
    }
}

/// A time as the server wants it: one of a machine that does not know what time it is, is not yet.
fn time(time: SystemTime) -> Timestamp {
    let known = time.duration_since(UNIX_EPOCH).is_ok_and(|age| age.as_secs() >= NO_CLOCK_BEFORE);
    if known { time.into() } else { NOT_YET }
}

/// How long it took, in the two largest units that there is something of: `1m3s`, `3s250ms`.
fn duration(started: SystemTime, stopped: SystemTime) -> String {
    // A clock that was set meanwhile makes it 0.
    let took = stopped.duration_since(started).unwrap_or_default();
    let seconds = took.as_secs();
    let units = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(took.subsec_millis()), "ms"),
    ];
    let from_largest = units.iter().skip_while(|(count, _)| *count == 0).take(2);
    let text: String = from_largest
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tinkerbell::transport::proto::Namespaces;
    use prost::Message;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn a_request_is_the_bytes_that_tink_agent_sends() {
        let request = ActionRequest { agent_id: Some("aa:bb".into()), agent_attributes: None };
        assert_eq!(request.encode_to_vec(), bytes("0a0561613a6262"));
    }

    #[test]
    fn the_bytes_of_a_real_answer_are_an_assignment_without_a_limit() {
        let answer = bytes("0a0874696e6b2f776634120274341a026464220261342a016e32016938005a00");
        let answer = ActionResponse::decode(&answer[..]).unwrap();
        assert_eq!((answer.timeout, answer.pid.as_deref()), (Some(0), Some("")));
        let expected = Assignment {
            workflow: "tink/wf4".into(),
            task: "t4".into(),
            agent: "dd".into(),
            action: "a4".into(),
            name: "n".into(),
            image: "i".into(),
            ..Assignment::default()
        };
        assert_eq!(assignment(answer).unwrap(), expected);
    }

    /// What tink-agent sends of an action that runs.
    const RUNNING: &str = "0a056e732f7766120561613a62621a01542201412a016e30023a0b088092b8c398feff\
                           ffff01420b088092b8c398feffffff014a0052100a0e72756e6e696e6720616374696f6e";

    fn running() -> (Assignment, Report) {
        let assignment = Assignment {
            workflow: "ns/wf".into(),
            task: "T".into(),
            agent: "aa:bb".into(),
            action: "A".into(),
            name: "n".into(),
            ..Assignment::default()
        };
        let started = UNIX_EPOCH + Duration::from_millis(1_800_000_000_250);
        let message = "running action".to_owned();
        (assignment, Report { state: State::Running, started, stopped: None, message })
    }

    #[test]
    fn a_report_is_the_bytes_of_tink_agent_but_for_the_time_it_began() {
        let (assignment, report) = running();
        let mut ours = status(&assignment, &report, "other");
        let start = Timestamp { seconds: 1_800_000_000, nanos: 250_000_000 };
        assert_eq!(ours.execution_start, Some(start));
        // tink-agent does not know yet when it began.
        ours.execution_start = Some(NOT_YET);
        assert_eq!(ours.encode_to_vec(), bytes(RUNNING));
    }

    #[test]
    fn no_report_leaves_a_time_out() {
        let (assignment, mut report) = running();
        for stopped in [None, Some(report.started + Duration::from_secs(63))] {
            report.stopped = stopped;
            let ours = status(&assignment, &report, "a");
            assert!(ours.execution_start.is_some() && ours.execution_stop.is_some());
            let took = ours.execution_duration.unwrap();
            assert_eq!(took, if stopped.is_some() { "1m3s" } else { "" });
        }
    }

    #[test]
    fn a_machine_without_a_clock_tells_no_time_but_how_long_it_took() {
        let (assignment, mut report) = running();
        let new_year = UNIX_EPOCH + Duration::from_secs(NO_CLOCK_BEFORE);
        let second = Duration::from_secs(1);
        for (started, told) in [
            (UNIX_EPOCH, [NOT_YET, NOT_YET]),
            (UNIX_EPOCH - second, [NOT_YET, NOT_YET]),
            (new_year - second * 2, [NOT_YET, NOT_YET]),
            // A clock that was set meanwhile.
            (new_year - second, [NOT_YET, new_year.into()]),
            (new_year, [new_year.into(), (new_year + second).into()]),
        ] {
            (report.started, report.stopped) = (started, Some(started + second));
            let ours = status(&assignment, &report, "a");
            let times = [ours.execution_start.unwrap(), ours.execution_stop.unwrap()];
            assert_eq!((times, ours.execution_duration.as_deref()), (told, Some("1s")));
        }
    }

    #[test]
    fn namespaces_are_the_twelfth_field_of_an_answer() {
        // workflow_id, task_id and action_id; then pid; then namespaces of network and pid.
        let answer = bytes("0a0177120174220161").into_iter().chain(bytes("5a0170"));
        let answer = answer.chain(bytes("620a0a036e65741203706964")).collect::<Vec<_>>();
        let answer = ActionResponse::decode(&answer[..]).unwrap();
        assert_eq!(answer.pid.as_deref(), Some("p"));
        let namespaces = answer.namespaces.unwrap();
        assert_eq!(namespaces.network.as_deref(), Some("net"));
        assert_eq!(namespaces.pid.as_deref(), Some("pid"));
    }

    #[test]
    fn a_duration_has_its_two_largest_units() {
        for (millis, text) in [
            (0, "0s"),
            (7, "7ms"),
            (3_250, "3s250ms"),
            (63_000, "1m3s"),
            (63_999, "1m3s"),
            (60_400, "1m"),
            (3_600_000, "1h"),
            (7_384_000, "2h3m"),
        ] {
            assert_eq!(duration(UNIX_EPOCH, UNIX_EPOCH + Duration::from_millis(millis)), text);
        }
        assert_eq!(duration(UNIX_EPOCH + Duration::from_secs(1), UNIX_EPOCH), "0s");
    }

    #[test]
    fn an_answer_that_could_not_be_reported_on_is_none() {
        let whole = || ActionResponse {
            workflow_id: Some("w".into()),
            task_id: Some("t".into()),
            action_id: Some("a".into()),
            ..ActionResponse::default()
        };
        assignment(whole()).unwrap();
        for (name, answer) in [
            ("workflow_id", ActionResponse { workflow_id: None, ..whole() }),
            ("task_id", ActionResponse { task_id: Some(String::new()), ..whole() }),
            ("action_id", ActionResponse { action_id: None, ..whole() }),
        ] {
            let error = format!("{:?}", assignment(answer).unwrap_err());
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn namespaces_go_before_the_deprecated_pid() {
        let answer = |pid: &str, namespaces| ActionResponse {
            workflow_id: Some("w".into()),
            task_id: Some("t".into()),
            action_id: Some("a".into()),
            pid: Some(pid.into()),
            namespaces,
            ..ActionResponse::default()
        };
        let old = assignment(answer("host", None)).unwrap();
        assert_eq!((old.pid.as_deref(), old.network), (Some("host"), None));
        let network = Some("host".into());
        let both = Namespaces { network, pid: Some("container:x".into()) };
        let new = assignment(answer("host", Some(both))).unwrap();
        assert_eq!(new.pid.as_deref(), Some("container:x"));
        assert_eq!(new.network.as_deref(), Some("host"));
    }

    #[test]
    fn a_timeout_of_nothing_or_less_is_no_limit() {
        assert_eq!((timeout(0), timeout(-1), timeout(i64::MIN)), (None, None, None));
        assert_eq!(timeout(90), Some(Duration::from_secs(90)));
    }

    #[test]
    fn only_words_with_a_key_set_something() {
        let words = ["A=1", "B=x=y", "C=", "hunter2", "=no"].map(str::to_owned);
        let set = environment(&words);
        let shown: Vec<_> = set.iter().map(|(k, v)| (k.as_str(), v.expose())).collect();
        assert_eq!(shown, [("A", "1"), ("B", "x=y"), ("C", "")]);
    }
}
