//! What a Tinkerbell server remembers, and how it decides: no network, no time.
//!
//! The rules are those observed on the real server (`tink/server/internal/grpc/grpc.go` of
//! Tinkerbell's repository).

use prost_types::Timestamp;
use tonic::Status as Refusal;

use super::proto::action_status_request::StateType;
use super::proto::{
    ActionRequest, ActionResponse, ActionStatusRequest, AgentAttributes, Namespaces,
};
use super::workflow::{Action, State, Status, Workflow};

/// Go's zero time, the start of the year 1, which is stored as none.
const GO_ZERO: i64 = -62_135_596_800;

/// Workflows, what was reported, and what should not have been sent.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) workflows: Vec<Workflow>,
    pub(super) attributes: Option<AgentAttributes>,
    /// What would have brought the real server down, or made it lie.
    pub(super) offences: Vec<String>,
}

impl Ledger {
    /// The next action for an agent.
    pub(super) fn next(&mut self, request: &ActionRequest) -> Result<ActionResponse, Refusal> {
        let agent = request.agent_id.as_deref().unwrap_or_default();
        if agent.is_empty() {
            return Err(Refusal::invalid_argument("invalid agent id"));
        }
        self.discover(request.agent_attributes.as_ref());
        let is_meant = |workflow: &&mut Workflow| {
            let current = workflow.current_task().or(workflow.tasks.last());
            current.is_some_and(|task| task.worker == agent)
        };
        let mut meant: Vec<_> = self.workflows.iter_mut().filter(is_meant).collect();
        if meant.is_empty() {
            return Err(Refusal::not_found("no Workflows found"));
        }
        let active = meant.iter_mut().find(|workflow| workflow.is_active());
        let Some(workflow) = active else {
            let why = match meant[0].state {
                State::Preparing => "Workflow is in preparing state",
                _ => "Workflow not in pending or running state",
            };
            return Err(Refusal::failed_precondition(why));
        };
        let task = workflow.current_task().ok_or_else(|| Refusal::not_found("no task"))?;
        let is_left = |action: &&Action| action.state != State::Success;
        let action = task.actions.iter().find(is_left);
        let action = action.ok_or_else(|| Refusal::not_found("no action"))?;
        let is_host = !action.network.is_empty() || !action.pid.is_empty();
        Ok(ActionResponse {
            workflow_id: Some(workflow.name.clone()),
            task_id: Some(task.id.clone()),
            agent_id: Some(agent.to_owned()),
            action_id: Some(action.id.clone()),
            name: Some(action.name.clone()),
            image: Some(action.image.clone()),
            timeout: Some(action.timeout),
            command: action.command.clone(),
            volumes: action.volumes.clone(),
            environment: action.environment.iter().map(|(k, v)| format!("{k}={v}")).collect(),
            pid: Some(action.pid.clone()),
            namespaces: is_host.then(|| Namespaces {
                network: Some(action.network.clone()),
                pid: Some(action.pid.clone()),
            }),
        })
    }

    /// Takes a report.
    pub(super) fn report(&mut self, report: &ActionStatusRequest) -> Result<(), Refusal> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        for (name, value) in [
            ("workflow", &report.workflow_id),
            ("task", &report.task_id),
            ("action", &report.action_id),
        ] {
            if text(value).is_empty() {
                return Err(Refusal::invalid_argument(format!("invalid {name} id")));
            }
        }
        if report.execution_start.is_none() || report.execution_stop.is_none() {
            let name = text(&report.action_name);
            self.offences.push(format!("a report on {name} leaves a time out: stored as 1970"));
        }
        let name = text(&report.workflow_id);
        let workflow = self.workflows.iter_mut().find(|workflow| workflow.name == name);
        let workflow = workflow.ok_or_else(|| Refusal::internal("workflow not found"))?;
        let agent = text(&report.agent_id);
        let action = text(&report.action_id);
        let state = state(report.action_state());
        let status = Status {
            start: report.execution_start.and_then(stored),
            stop: report.execution_stop.and_then(stored),
            duration: text(&report.execution_duration),
            message: report.message.clone().and_then(|message| message.message).unwrap_or_default(),
        };
        let is_meant = |found: &Action| found.id == action;
        note(workflow, &agent, is_meant, state, status)
            .then_some(())
            .ok_or_else(|| Refusal::not_found("action not found"))
    }

    /// A server with auto-discovery makes disks of blocks: by their name, if they have a size.
    fn discover(&mut self, attributes: Option<&AgentAttributes>) {
        let Some(attributes) = attributes else { return };
        for block in &attributes.block {
            if block.size.is_some() && block.name.is_none() {
                self.offences.push(format!("a block has a size and no name: {block:?}"));
            }
        }
        self.attributes = Some(attributes.clone());
    }
}

/// Notes how far an action is; false if the workflow does not have it for this agent.
pub(super) fn note(
    workflow: &mut Workflow,
    agent: &str,
    is_meant: impl Fn(&Action) -> bool,
    state: State,
    status: Status,
) -> bool {
    let of_agent = workflow.tasks.iter_mut().filter(|task| task.worker == agent);
    let mut actions = of_agent.flat_map(|task| &mut task.actions);
    let Some(action) = actions.find(|action| is_meant(action)) else { return false };
    action.state = state;
    action.status = status;
    // The real server says POST here, and its controller makes that of it.
    let is_done = workflow.current_task().is_none();
    match state {
        State::Success if is_done => workflow.state = State::Success,
        State::Success => {}
        state => workflow.state = state,
    }
    true
}

fn stored(time: Timestamp) -> Option<Timestamp> {
    (time.seconds != GO_ZERO).then_some(time)
}

fn state(wire: StateType) -> State {
    match wire {
        StateType::Running => State::Running,
        StateType::Failed => State::Failed,
        StateType::Timeout => State::Timeout,
        StateType::Success => State::Success,
        StateType::Unspecified | StateType::Pending => State::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tinkerbell::proto::Block;
    use tonic::Code;

    fn request(agent: &str) -> ActionRequest {
        ActionRequest { agent_id: Some(agent.into()), agent_attributes: None }
    }

    fn report(action: &ActionResponse, state: StateType) -> ActionStatusRequest {
        ActionStatusRequest {
            workflow_id: action.workflow_id.clone(),
            agent_id: action.agent_id.clone(),
            task_id: action.task_id.clone(),
            action_id: action.action_id.clone(),
            action_state: Some(state.into()),
            execution_start: Some(Timestamp { seconds: 1, nanos: 0 }),
            execution_stop: Some(Timestamp { seconds: GO_ZERO, nanos: 0 }),
            ..ActionStatusRequest::default()
        }
    }

    fn ledger() -> Ledger {
        let actions = [Action::new("one", "x"), Action::new("two", "x")];
        Ledger { workflows: vec![Workflow::of("n/w", "a", actions)], ..Ledger::default() }
    }

    #[test]
    fn an_action_is_served_until_it_succeeds_and_then_the_next() {
        let mut ledger = ledger();
        let first = ledger.next(&request("a")).unwrap();
        ledger.report(&report(&first, StateType::Running)).unwrap();
        assert_eq!(ledger.next(&request("a")).unwrap(), first);
        ledger.report(&report(&first, StateType::Success)).unwrap();
        // Told twice is told.
        ledger.report(&report(&first, StateType::Success)).unwrap();
        let second = ledger.next(&request("a")).unwrap();
        assert_eq!(second.name.as_deref(), Some("two"));
        ledger.report(&report(&second, StateType::Success)).unwrap();
        assert_eq!(ledger.workflows[0].state, State::Success);
        let stop = ledger.workflows[0].tasks[0].actions[0].status.stop;
        assert_eq!(stop, None);
        let over = ledger.next(&request("a")).unwrap_err();
        assert_eq!(over.code(), Code::FailedPrecondition);
    }

    #[test]
    fn what_is_not_known_is_refused_with_the_codes_of_the_real_server() {
        let mut ledger = ledger();
        assert_eq!(ledger.next(&request("")).unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(ledger.next(&request("b")).unwrap_err().code(), Code::NotFound);
        let action = ledger.next(&request("a")).unwrap();
        let mut bad = report(&action, StateType::Running);
        bad.action_id = Some("other".into());
        assert_eq!(ledger.report(&bad).unwrap_err().code(), Code::NotFound);
        bad.task_id = None;
        assert_eq!(ledger.report(&bad).unwrap_err().code(), Code::InvalidArgument);
        bad = report(&action, StateType::Running);
        bad.workflow_id = Some("n/gone".into());
        assert_eq!(ledger.report(&bad).unwrap_err().code(), Code::Internal);
        ledger.workflows[0].state = State::Preparing;
        assert_eq!(ledger.next(&request("a")).unwrap_err().code(), Code::FailedPrecondition);
    }

    #[test]
    fn what_would_harm_the_real_server_is_noted() {
        let mut ledger = ledger();
        let block = Block { size: Some("1GB".into()), ..Block::default() };
        let attributes = AgentAttributes { block: vec![block], ..AgentAttributes::default() };
        let asks = ActionRequest { agent_attributes: Some(attributes), ..request("a") };
        let action = ledger.next(&asks).unwrap();
        let mut bad = report(&action, StateType::Running);
        bad.execution_stop = None;
        ledger.report(&bad).unwrap();
        assert_eq!(ledger.offences.len(), 2, "{:?}", ledger.offences);
    }
}
