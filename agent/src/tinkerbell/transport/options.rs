//! What it takes to talk to a Tinkerbell server.

use std::path::PathBuf;

use nibs_actions::http::{ClientCertificate, Proxies};

use super::proto::AgentAttributes;
use crate::net::resolver::Resolver;

/// Which words a server is first spoken to in. The other ones are tried when it does not know
/// them, so this only saves a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// That of tink-agent: Tinkerbell v0.17 and later.
    #[default]
    Agent,
    /// That of tink-worker: tink up to v0.12.
    TinkWorker,
}

/// Where a Tinkerbell server is, who asks it, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `HOST:PORT`, the kernel's `grpc_authority`.
    pub server: String,
    /// The id by which the server knows this machine, often a MAC. May not be empty.
    pub agent: String,
    /// What the machine tells of itself with every question.
    pub attributes: Option<AgentAttributes>,
    /// What is spoken first.
    pub protocol: Protocol,
    /// Goes before the names of images, where tink-worker's protocol is spoken.
    pub registry: Option<String>,
    /// Speak TLS.
    pub tls: bool,
    /// With `tls`: take any certificate for the server's.
    pub insecure_tls: bool,
    /// PEM files with CA certificates; those that exist are all trusted, and nobody else.
    pub ca_bundles: Vec<PathBuf>,
    /// By what the agent proves itself to a server that asks.
    pub client_certificate: Option<ClientCertificate>,
    /// The one for `https` is asked, by CONNECT, with TLS or without, as tink-agent does.
    pub proxies: Proxies,
    /// Turns names into addresses.
    pub resolver: Resolver,
}
