//! Lists of actions as messages of NATS (the core of it, without JetStream), and events back.
//!
//! ```text
//! STREAM.AGENT.ACTIONS  ── a list of actions in YAML ──> agent
//! STREAM.AGENT.EVENTS   <── action: {…}, message: …, state: running|success|failure|timeout
//! ```
//!
//! Nobody keeps such messages: a list that is sent while no agent listens is lost, and so is an
//! event that nobody listens to.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{Client, ConnectOptions, Subscriber};
use async_trait::async_trait;
use futures_core::Stream;
use prost_types::Timestamp;

use super::{Error, Transport, list};
use crate::net::resolver::Resolver;
use crate::tinkerbell::{Assignment, Report, State};

/// How long an event may take to be written to the server.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// The words that subjects are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    /// The first of them all, `--nats-stream`.
    pub stream: String,
    /// The last of what lists come under, `--nats-actions`.
    pub actions: String,
    /// The last of what events go to, `--nats-events`.
    pub events: String,
}

impl Default for Subjects {
    fn default() -> Self {
        Self {
            stream: "tinkerbell".into(),
            actions: "workflow_actions".into(),
            events: "workflow_status".into(),
        }
    }
}

/// A NATS server that lists come from.
#[derive(Debug)]
pub struct Nats {
    server: String,
    agent: String,
    subjects: Subjects,
    resolver: Resolver,
    connection: Option<Connection>,
    left: VecDeque<Assignment>,
}

#[derive(Debug)]
struct Connection {
    client: Client,
    lists: Subscriber,
}

impl Nats {
    /// `server` is `HOST:PORT`. It is connected to when it is first asked.
    pub fn new(server: &str, agent: &str, subjects: Subjects, resolver: Resolver) -> Self {
        Self {
            server: server.to_owned(),
            agent: agent.to_owned(),
            subjects,
            resolver,
            connection: None,
            left: VecDeque::new(),
        }
    }

    fn subject(&self, last: &str) -> String {
        format!("{}.{}.{last}", self.subjects.stream, self.agent)
    }

    /// Connects, once: from then on the client itself comes back to the server, for ever.
    async fn connection(&mut self) -> Result<&mut Connection, Error> {
        let again = |why: String| {
            Error::TryAgain(format!("connecting to the NATS server at {}: {why}", self.server))
        };
        if self.connection.is_none() {
            let address = self.address().await.map_err(again)?;
            let options = ConnectOptions::new().name(&self.agent).max_reconnects(None);
            let client = options
                .connect(format!("nats://{address}"))
                .await
                .map_err(|e| again(e.to_string()))?;
            let subject = self.subject(&self.subjects.actions);
            let lists =
                client.subscribe(subject.clone()).await.map_err(|e| again(e.to_string()))?;
            // Else a list could be sent before the server knows that somebody wants it.
            client.flush().await.map_err(|e| again(e.to_string()))?;
            tracing::info!("listening to {subject} at the NATS server {}", self.server);
            self.connection = Some(Connection { client, lists });
        }
        self.connection.as_mut().ok_or_else(|| Error::TryAgain("not connected".into()))
    }

    /// The server's address, looked up here: the client would ask the C library.
    async fn address(&self) -> Result<SocketAddr, String> {
        let expected = || "expected HOST:PORT".to_owned();
        let (host, port) = self.server.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse().map_err(|_| expected())?;
        let host = host.trim_matches(['[', ']']);
        let addresses = self.resolver.lookup(host).await.map_err(|e| e.to_string())?;
        let address = addresses.first().ok_or_else(|| "it has no address".to_owned())?;
        Ok(SocketAddr::new(*address, port))
    }
}

#[async_trait]
impl Transport for Nats {
    async fn next(&mut self) -> Result<Assignment, Error> {
        loop {
            if let Some(assignment) = self.left.front() {
                return Ok(assignment.clone());
            }
            let lists = &mut self.connection().await?.lists;
            let Some(message) = poll_fn(|task| Pin::new(&mut *lists).poll_next(task)).await else {
                self.connection = None;
                return Err(Error::TryAgain(format!("the NATS server {} is gone", self.server)));
            };
            let text = String::from_utf8_lossy(&message.payload);
            match list::parse(&text, &self.agent) {
                Ok(list) => self.left.extend(list),
                Err(why) => tracing::warn!("passing over a message on {}: {why}", message.subject),
            }
        }
    }

    async fn report(&mut self, assignment: &Assignment, report: &Report) -> Result<(), Error> {
        let subject = self.subject(&self.subjects.events);
        let server = self.server.clone();
        let again = |why: String| {
            Error::TryAgain(format!("reporting to the NATS server at {server}: {why}"))
        };
        let client = self.connection().await?.client.clone();
        client
            .publish(subject, event(assignment, report).into())
            .await
            .map_err(|e| again(e.to_string()))?;
        tokio::time::timeout(FLUSH_TIMEOUT, client.flush())
            .await
            .map_err(|_| again("it does not take the event".into()))?
            .map_err(|e| again(e.to_string()))?;
        match report.state {
            State::Running => {}
            State::Success => drop(self.left.pop_front()),
            // What follows a failure is not done.
            State::Failed | State::Timeout => self.left.clear(),
        }
        Ok(())
    }
}

/// An event in the words of tink-agent: Go's way to show the value (`spec.Event` in its
/// repository), but without the values of variables, which may be secrets.
fn event(assignment: &Assignment, report: &Report) -> String {
    let state = match report.state {
        State::Running => "running",
        State::Success => "success",
        State::Failed => "failure",
        State::Timeout => "timeout",
    };
    let keys: Vec<_> = assignment.environment.keys().map(|key| format!("{{{key} …}}")).collect();
    let timeout = assignment.timeout.map_or(0, |timeout| timeout.as_secs());
    let retries = 0;
    let time = |time: SystemTime| Timestamp::from(time).to_string();
    let took = report.stopped.and_then(|stopped| stopped.duration_since(report.started).ok());
    let action = [
        assignment.agent.clone(),
        assignment.task.clone(),
        assignment.workflow.clone(),
        assignment.action.clone(),
        assignment.name.clone(),
        assignment.image.clone(),
        assignment.entrypoint.clone().unwrap_or_default(),
        format!("[{}]", assignment.command.join(" ")),
        format!("[{}]", keys.join(" ")),
        format!("[{}]", assignment.volumes.join(" ")),
        format!(
            "{{{} {}}}",
            assignment.network.as_deref().unwrap_or_default(),
            assignment.pid.as_deref().unwrap_or_default()
        ),
        format!("{retries} {timeout}"),
        time(report.started),
        time(report.stopped.unwrap_or(UNIX_EPOCH)),
        took.map_or(String::new(), |took| format!("{:.3}s", took.as_secs_f64())),
    ];
    format!("action: {{{}}}, message: {}, state: {state}", action.join(" "), report.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nibs_job::Secret;

    #[test]
    fn an_event_has_the_action_the_message_and_the_state_but_no_secret() {
        let environment = [("PASSWORD".to_owned(), Secret::new("hunter2"))].into();
        let name = "stream".to_owned();
        let assignment = Assignment { environment, name, ..Assignment::default() };
        let started = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let stopped = Some(started + Duration::from_millis(1_500));
        let report =
            Report { state: State::Failed, started, stopped, message: "the disk is gone".into() };
        let event = event(&assignment, &report);
        assert!(event.starts_with("action: {") && event.contains("stream"), "{event}");
        assert!(event.ends_with(", message: the disk is gone, state: failure"), "{event}");
        assert!(event.contains("PASSWORD") && !event.contains("hunter2"), "{event}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_tried_again() {
        // Nothing listens on the discard port of this machine.
        for (server, why) in [("127.0.0.1:9", "127.0.0.1:9"), ("127.0.0.1", "expected HOST:PORT")] {
            let mut nats = Nats::new(server, "a", Subjects::default(), Resolver::default());
            let error = nats.next().await.unwrap_err();
            assert!(matches!(&error, Error::TryAgain(text) if text.contains(why)), "{error:?}");
        }
    }
}
