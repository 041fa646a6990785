//! The service that tink-workers ask: the other protocol, of tink up to v0.12. It holds nothing.

use async_trait::async_trait;
use tokio_stream::Iter;
use tonic::{Request, Response, Status};

use super::desk::{Desk, Heard};
use super::ledger::note;
use super::proto::tink_worker::workflow_service_server::WorkflowService;
use super::proto::tink_worker::{
    Empty, State as WireState, WorkflowAction, WorkflowActionList, WorkflowActionStatus,
    WorkflowActionsRequest, WorkflowContext, WorkflowContextRequest,
};
use super::workflow::{self, State, Workflow};

pub(super) struct TinkWorkerProtocol(pub(super) Desk);

#[async_trait]
impl WorkflowService for TinkWorkerProtocol {
    type GetWorkflowContextsStream = Iter<std::vec::IntoIter<Result<WorkflowContext, Status>>>;

    async fn get_workflow_contexts(
        &self,
        request: Request<WorkflowContextRequest>,
    ) -> Result<Response<Self::GetWorkflowContextsStream>, Status> {
        let Self(desk) = self;
        let worker = request.into_inner().worker_id;
        desk.hear(Heard::Asked);
        let shared = desk.lock();
        let is_meant = |workflow: &&Workflow| {
            workflow.is_active() && workflow.tasks.iter().any(|task| task.worker == worker)
        };
        let contexts: Vec<_> =
            shared.ledger.workflows.iter().filter(is_meant).map(|w| Ok(context(w))).collect();
        Ok(Response::new(tokio_stream::iter(contexts)))
    }

    async fn get_workflow_actions(
        &self,
        request: Request<WorkflowActionsRequest>,
    ) -> Result<Response<WorkflowActionList>, Status> {
        let Self(desk) = self;
        let name = request.into_inner().workflow_id;
        let shared = desk.lock();
        let workflow = shared.ledger.workflows.iter().find(|workflow| workflow.name == name);
        let workflow = workflow.ok_or_else(|| Status::invalid_argument("no such workflow"))?;
        let action_list = workflow
            .tasks
            .iter()
            .flat_map(|task| task.actions.iter().map(move |action| (task, action)))
            .map(|(task, action)| WorkflowAction {
                task_name: task.name.clone(),
                name: action.name.clone(),
                image: action.image.clone(),
                timeout: action.timeout,
                command: action.command.clone(),
                worker_id: task.worker.clone(),
                volumes: action.volumes.clone(),
                environment: action.environment.iter().map(|(k, v)| format!("{k}={v}")).collect(),
                pid: action.pid.clone(),
                ..WorkflowAction::default()
            })
            .collect();
        Ok(Response::new(WorkflowActionList { action_list }))
    }

    async fn report_action_status(
        &self,
        request: Request<WorkflowActionStatus>,
    ) -> Result<Response<Empty>, Status> {
        let Self(desk) = self;
        let report = request.into_inner();
        let state = format!("{:?}", report.action_status());
        desk.hear(Heard::Told { action: report.action_name.clone(), state });
        let fault = desk.fault_of_a_report();
        desk.suffer(fault.as_ref()).await?;
        let mut shared = desk.lock();
        let mut workflows = shared.ledger.workflows.iter_mut();
        let workflow = workflows.find(|workflow| workflow.name == report.workflow_id);
        let workflow = workflow.ok_or_else(|| Status::invalid_argument("no such workflow"))?;
        let status = workflow::Status {
            start: report.created_at,
            stop: None,
            duration: format!("{}s", report.seconds),
            message: report.message.clone(),
        };
        let is_meant = |action: &workflow::Action| action.name == report.action_name;
        let state = state_of(report.action_status());
        match note(workflow, &report.worker_id, is_meant, state, status) {
            true => Ok(Response::new(Empty {})),
            false => Err(Status::failed_precondition("no such action")),
        }
    }
}

/// Where a workflow is: at its last action that was begun.
fn context(workflow: &Workflow) -> WorkflowContext {
    let begun = |&(_, action): &(usize, &workflow::Action)| action.state != State::Pending;
    let current = workflow.actions().enumerate().filter(begun).last();
    let (index, name, state) =
        current.map_or((0, String::new(), State::Pending), |(i, a)| (i, a.name.clone(), a.state));
    let wire = match state {
        State::Preparing | State::Pending => WireState::Pending,
        State::Running => WireState::Running,
        State::Success => WireState::Success,
        State::Failed => WireState::Failed,
        State::Timeout => WireState::Timeout,
    };
    WorkflowContext {
        workflow_id: workflow.name.clone(),
        current_action: name,
        current_action_index: i64::try_from(index).unwrap_or(i64::MAX),
        current_action_state: wire.into(),
        total_number_of_actions: i64::try_from(workflow.actions().count()).unwrap_or(i64::MAX),
        ..WorkflowContext::default()
    }
}

fn state_of(wire: WireState) -> State {
    match wire {
        WireState::Pending => State::Pending,
        WireState::Running => State::Running,
        WireState::Failed => State::Failed,
        WireState::Timeout => State::Timeout,
        WireState::Success => State::Success,
    }
}
