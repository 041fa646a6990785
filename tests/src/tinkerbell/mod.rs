//! A Tinkerbell server for tests: what an agent sees of one, without Kubernetes.
//!
//! ```text
//! agent ── gRPC ── agent_protocol or tink_worker_protocol ── desk ── ledger ── workflows
//! ```
//!
//! - [`Workflow`]: what is to be done, from values or the YAML of a rendered template.
//! - `ledger`: the real server's rules: what is handed out, what a report changes, what is refused.
//! - `desk`: holds refusals back for a minute as the real one does, and goes wrong when asked to.
//! - [`Fake`]: the server, which can be stopped and started again like a real one.
//!
//! What would bring the real server down fails the test, when the fake is dropped.

mod agent_protocol;
mod certificates;
mod desk;
mod ledger;
pub mod proto;
mod tink_worker_protocol;
mod workflow;

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use self::agent_protocol::AgentProtocol;
pub use self::certificates::{Authority, Pair};
use self::desk::Desk;
pub use self::desk::{Fault, Heard};
use self::proto::AgentAttributes;
use self::proto::tink_worker::workflow_service_server::WorkflowServiceServer as TinkWorkerServer;
use self::proto::workflow_service_server::WorkflowServiceServer as AgentServer;
use self::tink_worker_protocol::TinkWorkerProtocol;
pub use self::workflow::{Action, State, Status, Task, Workflow};

/// How long the real server keeps a call that it will refuse.
pub const HOLD: Duration = Duration::from_secs(59);

/// How long one does of which a test cannot wait for that.
const SHORT_HOLD: Duration = Duration::from_millis(100);

/// Between two looks at what a test waits for.
const POLL: Duration = Duration::from_millis(5);

/// How long the tasks of a server may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speaks {
    /// The protocol of tink-agent.
    #[default]
    Agent,
    /// That of tink-worker.
    TinkWorker,
}

/// How a server is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 is any that is free.
    pub address: SocketAddr,
    /// How long a refusal is kept back.
    pub hold: Duration,
    /// What it speaks.
    pub speaks: Speaks,
    /// By what it proves itself; none is plain text.
    pub tls: Option<Pair>,
    /// PEM of the authority that agents must be certified by.
    pub client_ca: Option<String>,
}

impl Default for Options {
    /// On any port of loopback, in plain text, as patient as the real one.
    fn default() -> Self {
        Self {
            address: ([127, 0, 0, 1], 0).into(),
            hold: HOLD,
            speaks: Speaks::default(),
            tls: None,
            client_ca: None,
        }
    }
}

impl Options {
    /// The same, but with less patience, for tests that see a refusal.
    pub fn impatient() -> Self {
        Self { hold: SHORT_HOLD, ..Self::default() }
    }
}

/// A server. What it remembers outlives its restarts.
#[derive(Debug)]
pub struct Fake {
    options: Options,
    desk: Desk,
    /// None while it is stopped.
    runtime: Option<Runtime>,
}

impl Fake {
    /// Starts one.
    pub fn start(options: Options) -> Result<Self> {
        let desk = Desk::new(options.hold);
        let mut fake = Self { options, desk, runtime: None };
        fake.start_again()?;
        Ok(fake)
    }

    /// `HOST:PORT`
    pub fn server(&self) -> String {
        self.options.address.to_string()
    }

    /// Ends it at once: every connection breaks.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // In a thread of its own, since a test that is async may not wait.
            let stopped = thread::spawn(move || runtime.shutdown_timeout(STOP_PATIENCE));
            let _ = stopped.join();
        }
    }

    /// Starts it again at the same address.
    pub fn start_again(&mut self) -> Result<()> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = TcpListener::bind(self.options.address)
            .with_context(|| format!("listening on {}", self.options.address))?;
        self.options.address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let mut server = Server::builder();
        if let Some(Pair { certificate, key }) = &self.options.tls {
            let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
            if let Some(ca) = &self.options.client_ca {
                tls = tls.client_ca_root(Certificate::from_pem(ca));
            }
            server = server.tls_config(tls).context("preparing TLS")?;
        }
        let desk = self.desk.clone();
        let router = match self.options.speaks {
            Speaks::Agent => server.add_service(AgentServer::new(AgentProtocol(desk))),
            Speaks::TinkWorker => {
                server.add_service(TinkWorkerServer::new(TinkWorkerProtocol(desk)))
            }
        };
        let inside = runtime.enter();
        let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener)?);
        drop(inside);
        runtime.spawn(router.serve_with_incoming(incoming));
        self.runtime = Some(runtime);
        Ok(())
    }

    /// Ends it and starts it with another protocol, as an upgrade would.
    pub fn restart_speaking(&mut self, speaks: Speaks) -> Result<()> {
        self.stop();
        self.options.speaks = speaks;
        self.start_again()
    }

    /// Gives it a workflow.
    pub fn add(&self, workflow: Workflow) {
        self.desk.lock().ledger.workflows.push(workflow);
    }

    /// Takes a workflow away.
    pub fn remove(&self, name: &str) {
        self.desk.lock().ledger.workflows.retain(|workflow| workflow.name != name);
    }

    /// A workflow as it is now.
    pub fn workflow(&self, name: &str) -> Result<Workflow> {
        let shared = self.desk.lock();
        let found = shared.ledger.workflows.iter().find(|workflow| workflow.name == name);
        found.cloned().with_context(|| format!("there is no workflow {name}"))
    }

    /// Waits until a workflow is in this state.
    pub fn wait_for(&self, name: &str, state: State, patience: Duration) -> Result<Workflow> {
        let deadline = Instant::now() + patience;
        loop {
            let workflow = self.workflow(name)?;
            if workflow.state == state {
                return Ok(workflow);
            }
            if Instant::now() > deadline {
                bail!("workflow {name} is not {state:?} after {patience:?}, but {workflow:#?}");
            }
            thread::sleep(POLL);
        }
    }

    /// What goes wrong with the next questions for an action.
    pub fn spoil_questions(&self, faults: impl IntoIterator<Item = Fault>) {
        self.desk.lock().questions.extend(faults);
    }

    /// What goes wrong with the next reports.
    pub fn spoil_reports(&self, faults: impl IntoIterator<Item = Fault>) {
        self.desk.lock().reports.extend(faults);
    }

    /// What came in, and when.
    pub fn heard(&self) -> Vec<(Instant, Heard)> {
        self.desk.lock().heard.clone()
    }

    /// What the last agent told of its machine.
    pub fn attributes(&self) -> Option<AgentAttributes> {
        self.desk.lock().ledger.attributes.clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
        let offences = std::mem::take(&mut self.desk.lock().ledger.offences);
        assert!(
            thread::panicking() || offences.is_empty(),
            "a real server would suffer: {offences:#?}"
        );
    }
}
