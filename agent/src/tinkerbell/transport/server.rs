//! A Tinkerbell server over gRPC, in whichever protocol it answers to.

use async_trait::async_trait;
use tonic::{Code, Status};

use super::agent_protocol::AgentProtocol;
use super::connect::{self, SetupError};
use super::error::{CallError, Error};
use super::fault::Fault;
use super::tink_worker_protocol::TinkWorkerProtocol;
use super::{Options, Protocol, Transport};
use crate::tinkerbell::{Assignment, Report};

/// How a server marks, inside a status of any code, that it has just nothing to do
/// (`PreconditionFailureViolation` of Tinkerbell's `get_action_response.proto`, as the type of a
/// violation of google.rpc.PreconditionFailure).
const NO_ACTION: &[u8] = b"PRECONDITION_FAILURE_VIOLATION_NO_ACTION_AVAILABLE";

/// A server and what it was found to speak.
#[derive(Debug)]
pub struct Server {
    at: String,
    fault: Fault,
    speaks: Protocol,
    agent: AgentProtocol,
    tink_worker: TinkWorkerProtocol,
}

impl Server {
    /// Prepares the way to a server. Nothing is sent yet. Needs a tokio runtime around it.
    pub fn new(options: Options) -> Result<Self, SetupError> {
        if options.agent.is_empty() {
            return Err(SetupError::NoAgent);
        }
        let (channel, fault) = connect::channel(&options)?;
        let Options { server, agent, attributes, protocol, registry, .. } = options;
        Ok(Self {
            at: server,
            fault,
            speaks: protocol,
            agent: AgentProtocol::new(channel.clone(), &agent, attributes),
            tink_worker: TinkWorkerProtocol::new(channel, &agent, registry),
        })
    }

    async fn ask(&mut self) -> Result<Option<Assignment>, CallError> {
        match self.speaks {
            Protocol::Agent => self.agent.next().await.map(Some),
            Protocol::TinkWorker => self.tink_worker.next().await,
        }
    }

    fn at(&self, what: &str, error: &CallError) -> String {
        format!("{what} {}: {}", self.at, error.explain(&self.fault))
    }
}

#[async_trait]
impl Transport for Server {
    async fn next(&mut self) -> Result<Assignment, Error> {
        const ASKING: &str = "asking the Tinkerbell server at";
        let mut answer = self.ask().await;
        if answer.as_ref().is_err_and(CallError::is_unimplemented) {
            let (known, other) = (self.speaks, other(self.speaks));
            self.speaks = other;
            answer = self.ask().await;
            match &answer {
                Err(error) if error.is_unimplemented() => self.speaks = known,
                _ => tracing::info!(
                    "the server at {} does not speak {}, so it is spoken to in {}",
                    self.at,
                    name(known),
                    name(other)
                ),
            }
        }
        match answer {
            Ok(Some(assignment)) => Ok(assignment),
            Ok(None) => {
                Err(Error::NothingToDo(format!("{} has no workflow for this machine", self.at)))
            }
            Err(CallError::Status(status)) if is_nothing_to_do(&status) => {
                Err(Error::NothingToDo(format!("{} says: {}", self.at, status.message())))
            }
            Err(error) => Err(Error::TryAgain(self.at(ASKING, &error))),
        }
    }

    async fn report(&mut self, assignment: &Assignment, report: &Report) -> Result<(), Error> {
        const REPORTING: &str = "reporting to the Tinkerbell server at";
        let told = match self.speaks {
            Protocol::Agent => self.agent.report(assignment, report).await,
            Protocol::TinkWorker => self.tink_worker.report(assignment, report).await,
        };
        told.map_err(|error| {
            let text = self.at(REPORTING, &error);
            match error {
                CallError::Status(status) if is_terminal(&status) => Error::Terminal(text),
                _ => Error::TryAgain(text),
            }
        })
    }
}

fn other(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Agent => Protocol::TinkWorker,
        Protocol::TinkWorker => Protocol::Agent,
    }
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Agent => "the protocol of tink-agent",
        Protocol::TinkWorker => "the protocol of tink-worker",
    }
}

/// Whether a server that was asked for an action says that all is well and there is none.
fn is_nothing_to_do(status: &Status) -> bool {
    is_of_the_server(status) && matches!(status.code(), Code::NotFound | Code::FailedPrecondition)
        || status.details().windows(NO_ACTION.len()).any(|words| words == NO_ACTION)
}

/// Whether a report would be refused however often it is sent.
fn is_terminal(status: &Status) -> bool {
    let refused = [Code::NotFound, Code::InvalidArgument, Code::FailedPrecondition];
    is_of_the_server(status) && refused.contains(&status.code())
}

/// Whether the server said it. A connection that breaks is a status too, and whatever code that
/// may get, it has a cause.
fn is_of_the_server(status: &Status) -> bool {
    std::error::Error::source(status).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_do_is_told_by_code_or_by_detail() {
        let detail = [b"\x0a\x32".as_slice(), NO_ACTION, b"\x12\x00"].concat();
        let marked = Status::with_details(Code::Unavailable, "later", detail.into());
        assert!(is_nothing_to_do(&marked));
        assert!(is_nothing_to_do(&Status::not_found("no Workflows found")));
        assert!(is_nothing_to_do(&Status::failed_precondition("preparing")));
        assert!(!is_nothing_to_do(&Status::unavailable("NO_ACTION_AVAILABLE")));
    }

    #[test]
    fn three_codes_end_a_report_and_no_other_does() {
        let terminal: Vec<_> = (0..=16)
            .map(Code::from_i32)
            .filter(|&code| is_terminal(&Status::new(code, "")))
            .collect();
        assert_eq!(terminal, [Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition]);
    }

    #[tokio::test]
    async fn an_agent_without_an_id_is_refused() {
        let options = Options { server: "h:1".into(), ..Options::default() };
        let error = Server::new(options).unwrap_err().to_string();
        assert!(error.contains("no id") && error.contains("MAC"), "{error}");
    }
}
