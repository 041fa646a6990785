//! What commands need to know of the machine they run on.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use nibs_actions::{Context, Machine, Sink, Stop, http};
use nibs_job::{Facts, Mac};
use reqwest::dns::Resolve;
use tokio::runtime::Handle;
use tracing::warn;

use super::{Usage, proxies};
use crate::cmdline::{Parameters, Tinkerbell};
use crate::control::Endpoint;
use crate::executor::ThisMachine;
use crate::facts;
use crate::net;
use crate::net::resolver::Resolver;
use crate::syslog::Syslog;
use crate::view;

/// Where the kernel shows its command line (proc(5)).
const KERNEL_COMMAND_LINE: &str = "/proc/cmdline";

/// This machine, as its kernel command line and the command's own arguments have it.
#[derive(Debug)]
pub(super) struct Here {
    parameters: Parameters,
    ca: Option<PathBuf>,
}

impl Here {
    /// Reads the kernel command line. `ca` goes before what that says.
    pub(super) fn look(ca: Option<PathBuf>) -> Self {
        let text = fs::read_to_string(KERNEL_COMMAND_LINE).unwrap_or_else(|error| {
            warn!("reading {KERNEL_COMMAND_LINE}: {error}; going on without its parameters");
            String::new()
        });
        let parameters = Parameters::parse(&text);
        let ca = ca.or_else(|| parameters.ca.clone());
        Self { parameters, ca }
    }

    /// The same without what its kernel command line says but for the CA bundle, as where somebody
    /// else has read it already and passes the rest on.
    pub(super) fn by_its_ca_alone(self) -> Self {
        Self { parameters: Parameters::parse(""), ca: self.ca }
    }

    /// What the kernel command line has that cannot be used, and what is not used yet.
    pub(super) fn warn(&self) {
        for warning in &self.parameters.warnings {
            warn!("kernel command line: {warning}");
        }
        if !self.parameters.not_yet.is_empty() {
            let names = self.parameters.not_yet.join(", ");
            warn!("kernel command line: not used: {names}");
        }
    }

    /// The control plane that the kernel command line names.
    pub(super) fn control(&self) -> Option<Endpoint> {
        self.parameters.control.clone()
    }

    /// What the kernel command line says of a Tinkerbell server.
    pub(super) fn tinkerbell(&self) -> &Tinkerbell {
        &self.parameters.tinkerbell
    }

    /// Where the kernel command line has images of actions unpacked.
    pub(super) fn scratch(&self) -> Option<PathBuf> {
        self.parameters.scratch.clone()
    }

    /// Where what is said goes besides, if the kernel command line names a receiver. What is said
    /// from now on is kept for it, until [`Here::open_syslog`].
    pub(super) fn syslog(&self) -> Option<Arc<Syslog>> {
        self.parameters.syslog.as_ref()?;
        let syslog = Arc::new(Syslog::new());
        view::log_to_syslog(Arc::clone(&syslog));
        Some(syslog)
    }

    /// Has the receiver sought and told, by the machine of this id. When the network is up.
    pub(super) fn open_syslog(&self, syslog: Option<&Arc<Syslog>>, machine: &str) {
        if let (Some(syslog), Some(receiver)) = (syslog, &self.parameters.syslog) {
            let (syslog, receiver) = (Arc::clone(syslog), receiver.clone());
            let machine = machine.to_owned();
            tokio::spawn(async move {
                syslog.open(&receiver, &machine, &Resolver::default()).await;
            });
        }
    }

    /// This machine's id: as given, else the kernel's `nibs.id=`, the MAC that booted or got a lease, the UUID.
    pub(super) fn machine_id(
        &self,
        given: Option<String>,
        leased: Option<Mac>,
    ) -> Result<String, Usage> {
        given.or_else(|| facts::machine_id(&self.parameters, leased, &self.facts())).ok_or_else(
            || {
                Usage(
                    "this machine tells neither the MAC it booted from nor a DMI UUID; expected \
                     --id ID, NIBS_ID, or nibs.id=ID on the kernel command line"
                        .into(),
                )
            },
        )
    }

    /// How this machine's network is to come up, where that is the agent's business.
    pub(super) fn network(&self) -> net::Options {
        let Parameters { boot_mac, interface, vlan, fixed, .. } = self.parameters.clone();
        net::Options { boot_mac, interface, vlan, fixed, ..net::Options::default() }
    }

    /// What the machine says of itself.
    pub(super) fn facts(&self) -> Facts {
        facts::collect(&Machine::default())
    }

    /// What the machine says of itself, and what it is made of.
    pub(super) fn facts_and_inventory(&self) -> Facts {
        Facts { inventory: Some(facts::inventory(&Machine::default())), ..self.facts() }
    }

    /// An HTTP client as this machine should have it.
    pub(super) fn http(&self) -> anyhow::Result<reqwest::Client> {
        Ok(http::client(&self.http_options()?)?)
    }

    /// How names are resolved, which certificates are trusted and which proxies are asked here.
    pub(super) fn http_options(&self) -> anyhow::Result<http::Options> {
        let ca_bundles = match &self.ca {
            Some(path) if !path.exists() => {
                let path = path.display();
                return Err(
                    Usage(format!("looking for the CA bundle {path}: it is not there")).into()
                );
            }
            Some(path) => vec![path.clone()],
            None => http::CA_BUNDLES.map(PathBuf::from).to_vec(),
        };
        // A static binary must not look names up through the C library.
        let resolver = Some(Arc::new(Resolver::default()) as Arc<dyn Resolve>);
        let user_agent = concat!("nibs/", env!("CARGO_PKG_VERSION")).to_owned();
        let variable = |name: &str| std::env::var(name).ok();
        let kernel = |name: &str| Some(self.parameters.proxies.get(name)?.expose().to_owned());
        let proxies = proxies::read(variable, kernel)?;
        Ok(http::Options { ca_bundles, proxies, resolver, user_agent, ..http::Options::default() })
    }

    /// What an action gets that runs beside no job.
    pub(super) fn context(&self, stop: Stop, sink: Arc<dyn Sink>) -> anyhow::Result<Context> {
        Ok(Context {
            machine: Machine::default(),
            stop,
            sink,
            runtime: Handle::current(),
            http: self.http_options()?,
            installed_disk: None,
        })
    }

    /// What runs actions on this machine. Needs a tokio runtime.
    pub(super) fn runner(&self) -> anyhow::Result<ThisMachine> {
        Ok(ThisMachine::new(self.http_options()?))
    }
}
