//! What tink-worker spoke: workflow contexts and lists of actions, up to tink v0.12
//! (`internal/proto/workflow.proto` of its repository).
//!
//! tink-worker walks through a list of actions by itself. Here the server is asked anew after each,
//! which comes to the same: it keeps the place.

use std::time::{Duration, SystemTime};

use tonic::transport::Channel;

use self::proto::workflow_service_client::WorkflowServiceClient;
use self::proto::{
    State as WireState, WorkflowAction, WorkflowActionStatus, WorkflowActionsRequest,
    WorkflowContext, WorkflowContextRequest,
};
use super::agent_protocol::{environment, timeout};
use super::error::CallError;
use crate::tinkerbell::{Assignment, Report, State};

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/tink-worker/proto.rs"));
}

/// How long an action may take of which the template does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Where tink-worker shows the files of a workflow to its actions.
const WORKFLOW_FILES: &str = "/workflow";
const FILES_OF_WORKFLOWS: &str = "/worker";

/// Asks one server in this protocol.
#[derive(Debug)]
pub(super) struct TinkWorkerProtocol {
    client: WorkflowServiceClient<Channel>,
    worker: String,
    /// Goes before the names of images.
    registry: Option<String>,
    /// Whether the server has it that the action it handed out runs already.
    runs_already: bool,
}

/// Where a workflow goes on.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    index: usize,
    runs_already: bool,
}

impl TinkWorkerProtocol {
    pub(super) fn new(channel: Channel, worker: &str, registry: Option<String>) -> Self {
        Self {
            client: WorkflowServiceClient::new(channel),
            worker: worker.to_owned(),
            registry: registry.filter(|registry| !registry.is_empty()),
            runs_already: false,
        }
    }

    /// The next action of the first workflow that has one for this machine; none if there is none.
    pub(super) async fn next(&mut self) -> Result<Option<Assignment>, CallError> {
        let request = WorkflowContextRequest { worker_id: self.worker.clone() };
        let mut contexts = self.client.get_workflow_contexts(request).await?.into_inner();
        while let Some(context) = contexts.message().await? {
            if context.workflow_id.is_empty() {
                return Err(CallError::Garbled("a workflow context has no workflow_id".into()));
            }
            let request = WorkflowActionsRequest { workflow_id: context.workflow_id.clone() };
            let actions = self.client.get_workflow_actions(request).await?.into_inner().action_list;
            let Some(place) = place(&context, &actions) else { continue };
            let action = actions.into_iter().nth(place.index);
            if let Some(action) = action.filter(|action| action.worker_id == self.worker) {
                self.runs_already = place.runs_already;
                return Ok(Some(self.assignment(context.workflow_id, action)));
            }
        }
        Ok(None)
    }

    pub(super) async fn report(
        &mut self,
        assignment: &Assignment,
        report: &Report,
    ) -> Result<(), CallError> {
        if report.state == State::Running && std::mem::take(&mut self.runs_already) {
            return Ok(());
        }
        self.client.report_action_status(status(assignment, report)).await?;
        Ok(())
    }

    fn assignment(&self, workflow: String, action: WorkflowAction) -> Assignment {
        if !action.on_timeout.is_empty() || !action.on_failure.is_empty() {
            let name = &action.name;
            tracing::warn!("action {name}: its on-timeout and on-failure commands are not run");
        }
        let image = match &self.registry {
            Some(registry) => format!("{}/{}", registry.trim_end_matches('/'), action.image),
            None => action.image,
        };
        let mut volumes = action.volumes;
        volumes.push(format!("{FILES_OF_WORKFLOWS}/{workflow}:{WORKFLOW_FILES}"));
        Assignment {
            workflow,
            task: action.task_name,
            agent: self.worker.clone(),
            // This protocol has no ids of actions: their names are unique in a task.
            action: action.name.clone(),
            name: action.name,
            image,
            entrypoint: None,
            timeout: Some(timeout(action.timeout).unwrap_or(DEFAULT_TIMEOUT)),
            command: action.command,
            volumes,
            environment: environment(&action.environment),
            pid: Some(action.pid).filter(|pid| !pid.is_empty()),
            network: None,
        }
    }
}

/// Where a workflow goes on, if it does.
fn place(context: &WorkflowContext, actions: &[WorkflowAction]) -> Option<Place> {
    let current = usize::try_from(context.current_action_index).unwrap_or_default();
    let index = if context.current_action.is_empty() {
        0
    } else {
        match context.current_action_state() {
            WireState::Success => current + 1,
            WireState::Failed | WireState::Timeout => return None,
            WireState::Pending | WireState::Running => current,
        }
    };
    let runs_already = context.current_action_state() == WireState::Running;
    (index < actions.len()).then_some(Place { index, runs_already })
}

fn status(assignment: &Assignment, report: &Report) -> WorkflowActionStatus {
    let state = match report.state {
        State::Running => WireState::Running,
        State::Success => WireState::Success,
        State::Failed => WireState::Failed,
        State::Timeout => WireState::Timeout,
    };
    let took = report.stopped.and_then(|stopped| stopped.duration_since(report.started).ok());
    let seconds = took.unwrap_or_default().as_secs();
    WorkflowActionStatus {
        workflow_id: assignment.workflow.clone(),
        task_name: assignment.task.clone(),
        action_name: assignment.name.clone(),
        action_status: state.into(),
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        message: report.message.clone(),
        created_at: Some(SystemTime::now().into()),
        worker_id: assignment.agent.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn context(current: &str, index: i64, state: i32) -> WorkflowContext {
        WorkflowContext {
            workflow_id: "w".into(),
            current_action: current.into(),
            current_action_index: index,
            current_action_state: state,
            ..WorkflowContext::default()
        }
    }

    #[test]
    fn a_workflow_goes_on_after_what_is_done_and_with_what_is_not() {
        let two = [WorkflowAction::default(), WorkflowAction::default()];
        let at = |index, runs_already| Some(Place { index, runs_already });
        let (pending, running, failed, timeout, success, unknown) = (0, 1, 2, 3, 4, 77);
        for (context, expected) in [
            (context("", 0, pending), at(0, false)),
            (context("a", 0, pending), at(0, false)),
            (context("a", 0, running), at(0, true)),
            (context("a", 0, success), at(1, false)),
            (context("b", 1, success), None),
            (context("a", 0, failed), None),
            (context("a", 0, timeout), None),
            // What a server may not say at all.
            (context("a", 0, unknown), at(0, false)),
            (context("a", -5, running), at(0, true)),
            (context("a", 9, running), None),
        ] {
            assert_eq!(place(&context, &two), expected, "{context:?}");
        }
        assert_eq!(place(&context("", 0, pending), &[]), None);
    }

    /// Numbered by hand after `internal/proto/workflow.proto` of tink v0.12.
    #[test]
    fn every_field_has_the_number_that_tink_gives_it() {
        let id = |id: &str| id.to_owned();
        let contexts = WorkflowContextRequest { worker_id: id("m") };
        assert_eq!(contexts.encode_to_vec(), b"\x0a\x01m");
        let actions = WorkflowActionsRequest { workflow_id: id("w") };
        assert_eq!(actions.encode_to_vec(), b"\x0a\x01w");

        let context = b"\x0a\x01w\x12\x01m\x1a\x01t\x22\x01a\x28\x02\x30\x04\x38\x07";
        let expected = WorkflowContext {
            workflow_id: id("w"),
            current_worker: id("m"),
            current_task: id("t"),
            current_action: id("a"),
            current_action_index: 2,
            current_action_state: WireState::Success.into(),
            total_number_of_actions: 7,
        };
        assert_eq!(WorkflowContext::decode(&context[..]).unwrap(), expected);

        let action = b"\x0a\x01t\x12\x01n\x1a\x01i\x20\x05\x2a\x01c\x32\x01x\x3a\x01f\
                       \x42\x01m\x4a\x01v\x52\x01e\x5a\x01p";
        let list = [&[0x0a, u8::try_from(action.len()).unwrap()], &action[..]].concat();
        let expected = WorkflowAction {
            task_name: id("t"),
            name: id("n"),
            image: id("i"),
            timeout: 5,
            command: vec![id("c")],
            on_timeout: vec![id("x")],
            on_failure: vec![id("f")],
            worker_id: id("m"),
            volumes: vec![id("v")],
            environment: vec![id("e")],
            pid: id("p"),
        };
        let decoded = super::proto::WorkflowActionList::decode(&list[..]).unwrap();
        assert_eq!(decoded.action_list, [expected]);
    }

    #[test]
    fn a_report_is_the_bytes_that_tink_reads() {
        let assignment = Assignment {
            workflow: "w".into(),
            task: "t".into(),
            name: "n".into(),
            agent: "m".into(),
            ..Assignment::default()
        };
        let started = SystemTime::UNIX_EPOCH;
        for (state, number) in
            [(State::Running, 1), (State::Failed, 2), (State::Timeout, 3), (State::Success, 4)]
        {
            let stopped = Some(started + Duration::from_secs(7));
            let report = Report { state, started, stopped, message: "x".into() };
            let mut ours = status(&assignment, &report);
            ours.created_at = Some(prost_types::Timestamp { seconds: 9, nanos: 0 });
            let mut expected = b"\x0a\x01w\x12\x01t\x1a\x01n\x20?\x28\x07\x32\x01x\
                                 \x3a\x02\x08\x09\x42\x01m"
                .to_vec();
            expected[10] = number;
            assert_eq!(ours.encode_to_vec(), expected);
        }
    }
}
