//! Lists of actions as messages of NATS (the core of it, without JetStream), and events back.
//!
//! ```text
//! STREAM.AGENT.ACTIONS  ── a list of actions in YAML ──> agent
//! STREAM.AGENT.EVENTS   <── action: {…}, message: …, state: running|success|failure|timeout
//! ```
//!
//! Nobody keeps such messages: a list that is sent while no agent listens is lost, and so is an
//! event that nobody listens to.
//!
//! While the server is away the client keeps what it is given, so an event is given to it once, and
//! only waited for by later tries. It is given anew where a connection that may have taken it broke.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::{Client, ConnectOptions, Subscriber, connection};
use async_trait::async_trait;
use futures_core::Stream;
use prost_types::Timestamp;

use super::{Error, Transport, list};
use crate::net::resolver::Resolver;
use crate::tinkerbell::{Assignment, Report, State};

/// How long an event may take to be written to the server, before that is said and tried again.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);

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
    report_timeout: Duration,
    connection: Option<Connection>,
    left: VecDeque<Assignment>,
}

#[derive(Debug)]
struct Connection {
    client: Client,
    lists: Subscriber,
    /// The event that the client has and may not have written yet.
    queued: Option<Queued>,
}

/// An event that was given to the client.
#[derive(Debug)]
struct Queued {
    action: String,
    state: State,
    message: String,
    /// How many events the client had taken up before it.
    before: u64,
    /// Which connection of the client it goes by: one that was made after it does not have it.
    by: u64,
}

impl Nats {
    /// `server` is `HOST:PORT`. It is connected to when it is first asked.
    pub fn new(server: &str, agent: &str, subjects: Subjects, resolver: Resolver) -> Self {
        Self {
            server: server.to_owned(),
            agent: agent.to_owned(),
            subjects,
            resolver,
            report_timeout: REPORT_TIMEOUT,
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
            self.connection = Some(Connection { client, lists, queued: None });
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

impl Connection {
    /// Gives an event to the client, unless it has it already, and waits until it is written.
    async fn tell(
        &mut self,
        subject: String,
        assignment: &Assignment,
        report: &Report,
    ) -> Result<(), String> {
        let has_it = self
            .queued
            .as_ref()
            .is_some_and(|queued| queued.is_of(assignment, report) && self.connects() <= queued.by);
        if !has_it {
            let mut queued = Queued {
                action: assignment.action.clone(),
                state: report.state,
                message: report.message.clone(),
                before: self.taken_up(),
                by: self.connects(),
            };
            if self.client.connection_state() != connection::State::Connected {
                queued.by += 1;
            }
            let event = event(assignment, report).into();
            self.client.publish(subject, event).await.map_err(|e| e.to_string())?;
            self.queued = Some(queued);
        }
        self.client.flush().await.map_err(|e| e.to_string())?;
        self.queued = None;
        Ok(())
    }

    /// What the client has not taken up by now waits for the connection that it is just making.
    fn note_the_way(&mut self) {
        let (taken_up, connects) = (self.taken_up(), self.connects());
        if let Some(queued) = self.queued.as_mut().filter(|queued| taken_up == queued.before) {
            queued.by = connects + 1;
        }
    }

    /// How many connections the client has made.
    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// How many events the client has taken up to write them.
    fn taken_up(&self) -> u64 {
        self.client.statistics().out_messages.load(Ordering::Relaxed)
    }
}

impl Queued {
    /// Whether it tells this; when it was begun may differ.
    fn is_of(&self, assignment: &Assignment, report: &Report) -> bool {
        self.action == assignment.action
            && self.state == report.state
            && self.message == report.message
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
        let (server, limit) = (self.server.clone(), self.report_timeout);
        let connection = self.connection().await?;
        let told = tokio::time::timeout(limit, connection.tell(subject, assignment, report)).await;
        told.unwrap_or_else(|_| {
            connection.note_the_way();
            Err("it does not take the event".into())
        })
        .map_err(|why| {
            Error::TryAgain(format!("reporting to the NATS server at {server}: {why}"))
        })?;
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
    use std::fs;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

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

    /// Longer than anything here should take on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A real server that says in its log what it is told. Ended with the test.
    struct NatsServer(Child);

    impl NatsServer {
        fn start(port: u16, log: &Path) -> Self {
            let log = fs::File::create(log).unwrap();
            let mut command = Command::new("nats-server");
            command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-DV"]);
            Self(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
        }
    }

    impl Drop for NatsServer {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    async fn told(nats: &mut Nats, report: &Report, id: &str) -> Result<(), Error> {
        nats.report(&Assignment { action: id.into(), ..Assignment::default() }, report).await
    }

    #[tokio::test]
    async fn an_outage_of_the_server_ends_with_each_event_told_once() {
        if Command::new("nats-server").arg("-v").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: needs nats-server");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let log = |name| folder.path().join(name);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = format!("127.0.0.1:{port}");
        let mut nats = Nats::new(&server, "m", Subjects::default(), Resolver::default());
        nats.report_timeout = Duration::from_millis(100);
        let daemon = NatsServer::start(port, &log("first"));
        let began = Instant::now();
        while nats.connection().await.is_err() {
            assert!(began.elapsed() < PATIENCE, "nats-server does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let report = |state| Report {
            state,
            started: SystemTime::now(),
            stopped: None,
            message: "m".into(),
        };
        told(&mut nats, &report(State::Running), "a1").await.unwrap();
        drop(daemon);
        let client = nats.connection.as_ref().unwrap().client.clone();
        while client.connection_state() == connection::State::Connected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for _ in 0..5 {
            let error = told(&mut nats, &report(State::Success), "a1").await.unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&server) && text.contains("does not take"), "{text}");
        }
        let _daemon = NatsServer::start(port, &log("second"));
        let began = Instant::now();
        while told(&mut nats, &report(State::Success), "a1").await.is_err() {
            assert!(began.elapsed() < PATIENCE, "nats-server does not start again");
        }
        // What was told is told again where it happens again, and as it was before the outage.
        for (state, id) in [(State::Running, "a2"), (State::Success, "a2"), (State::Success, "a2")]
        {
            told(&mut nats, &report(state), id).await.unwrap();
        }
        let last = Report { message: "the last".into(), ..report(State::Success) };
        told(&mut nats, &last, "a3").await.unwrap();
        let began = Instant::now();
        let heard = loop {
            let text = fs::read_to_string(log("second")).unwrap();
            if text.contains("message: the last") {
                break text;
            }
            assert!(began.elapsed() < PATIENCE, "{text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let events = heard.matches("[PUB tinkerbell.m.workflow_status").count();
        assert_eq!(events, 5, "{heard}");
    }

    #[tokio::test]
    async fn an_event_that_a_broken_connection_may_have_taken_is_given_anew() {
        let queued = |by| Queued {
            action: "a".into(),
            state: State::Success,
            message: "m".into(),
            before: 0,
            by,
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        let (sender, receiver) = std::sync::mpsc::channel();
        // A server in a few words, to see what it is told over one connection.
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"INFO {\"max_payload\":1048576}\r\n").unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while let Some(Ok(line)) = lines.next() {
                if line == "PING" {
                    stream.write_all(b"PONG\r\n").unwrap();
                }
                let _ = sender.send(line);
            }
        });
        let mut nats = Nats::new(&server, "m", Subjects::default(), Resolver::default());
        let report = Report {
            state: State::Success,
            started: SystemTime::now(),
            stopped: None,
            message: "m".into(),
        };
        // By the connection that is there, which is the first, nothing is to be told anew.
        for by in [1, 0] {
            nats.connection().await.unwrap().queued = Some(queued(by));
            told(&mut nats, &report, "a").await.unwrap();
        }
        drop(nats);
        let events = move || receiver.iter().filter(|line| line.starts_with("PUB")).count();
        assert_eq!(tokio::task::spawn_blocking(events).await.unwrap(), 1);
    }
}
