//! What an agent of Tinkerbell is told before it begins: by tink-agent's flags and environment, by
//! ours, or by the kernel command line.

use std::path::PathBuf;
use std::time::Duration;

use super::Registries;
use super::transport::{Protocol, Subjects};

/// Longest wait between two questions, as tink-agent has it.
pub const DEFAULT_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Where actions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Source {
    /// A Tinkerbell server.
    #[default]
    Grpc,
    /// A file on this machine.
    File,
    /// A NATS server.
    Nats,
}

/// What an agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// By what the server knows this machine.
    pub id: Option<String>,
    /// Where actions come from.
    pub source: Source,
    /// The Tinkerbell server, `HOST:PORT`.
    pub server: Option<String>,
    /// What it is first spoken to in.
    pub protocol: Protocol,
    /// Whether the server is spoken to by TLS.
    pub tls: bool,
    /// Whether its certificate may be anyone's.
    pub insecure_tls: bool,
    /// PEM files of a certificate and its key, by which this machine proves itself.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// The NATS server, `HOST:PORT`.
    pub nats_server: Option<String>,
    /// Its subjects.
    pub subjects: Subjects,
    /// The file that actions come from.
    pub workflow: Option<PathBuf>,
    /// Where images of actions come from, and where they are unpacked.
    pub registries: Registries,
    /// Whether the server is told what this machine is.
    pub attributes: bool,
    /// Longest wait between two questions.
    pub backoff_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            id: None,
            source: Source::default(),
            server: None,
            protocol: Protocol::default(),
            tls: false,
            insecure_tls: false,
            client_certificate: None,
            nats_server: None,
            subjects: Subjects::default(),
            workflow: None,
            registries: Registries::default(),
            attributes: true,
            backoff_max: DEFAULT_BACKOFF_MAX,
        }
    }
}
