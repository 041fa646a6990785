//! The service that tink-agents ask.

use async_trait::async_trait;
use tonic::{Request, Response, Status};

use super::desk::{Desk, Fault, Heard};
use super::proto::workflow_service_server::WorkflowService;
use super::proto::{ActionRequest, ActionResponse, ActionStatusRequest, ActionStatusResponse};

pub(super) struct AgentProtocol(pub(super) Desk);

#[async_trait]
impl WorkflowService for AgentProtocol {
    async fn get_action(
        &self,
        request: Request<ActionRequest>,
    ) -> Result<Response<ActionResponse>, Status> {
        let Self(desk) = self;
        let request = request.into_inner();
        desk.hear(Heard::Asked);
        let lie = match desk.fault_of_a_question() {
            Some(Fault::Lie(lie)) => Some(lie),
            fault => {
                desk.suffer(fault.as_ref()).await?;
                None
            }
        };
        let mut answer = desk.hold(|ledger| ledger.next(&request)).await?;
        if let Some(lie) = lie {
            lie(&mut answer);
        }
        Ok(Response::new(answer))
    }

    async fn report_action_status(
        &self,
        request: Request<ActionStatusRequest>,
    ) -> Result<Response<ActionStatusResponse>, Status> {
        let Self(desk) = self;
        let report = request.into_inner();
        desk.hear(Heard::Told {
            action: report.action_name.clone().unwrap_or_default(),
            state: format!("{:?}", report.action_state()),
        });
        let fault = desk.fault_of_a_report();
        if fault.as_ref().is_some_and(|fault| !matches!(fault, Fault::Late(_))) {
            desk.suffer(fault.as_ref()).await?;
        }
        desk.hold(|ledger| ledger.report(&report)).await?;
        // What is late was taken note of.
        desk.suffer(fault.as_ref()).await?;
        Ok(Response::new(ActionStatusResponse {}))
    }
}
