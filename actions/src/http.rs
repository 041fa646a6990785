//! The HTTP client that fetches images: patient with slow servers, and sure of whom it talks to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nibs_job::Class;
use reqwest::dns::Resolve;
use reqwest::{Certificate, Client, redirect};

/// How long a connection may take to come up; the transfer itself has no limit of its own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How many redirects are followed before a loop is assumed.
const MAX_REDIRECTS: usize = 10;

/// How often an idle connection is probed, so that a peer that went away is noticed.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Where distributions and initramfs builders keep the bundle of CA certificates.
pub const CA_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What a client is made from.
#[derive(Clone, Default)]
pub struct Options {
    /// PEM files with CA certificates; those that exist are all trusted. Without any, HTTPS is
    /// refused for want of a root, and plain HTTP works.
    pub ca_bundles: Vec<PathBuf>,
    /// Turns names into addresses. Default: the C library, which a static agent must not use.
    pub resolver: Option<Arc<dyn Resolve>>,
    /// What the client calls itself.
    pub user_agent: String,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("ca_bundles", &self.ca_bundles)
            .field("user_agent", &self.user_agent)
            .finish_non_exhaustive()
    }
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A CA bundle is there but cannot be read.
    #[error("reading CA certificates from {}: {cause}", path.display())]
    ReadBundle {
        /// The bundle.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A CA bundle holds something else.
    #[error("reading CA certificates from {}: no PEM certificates ({cause})", path.display())]
    ParseBundle {
        /// The bundle.
        path: PathBuf,
        /// What the parser said.
        cause: String,
    },
    /// The client's own parts did not come together.
    #[error("making the HTTP client: {0}")]
    Build(String),
}

impl Error {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::ReadBundle { .. } | Self::ParseBundle { .. } => Class::Environment,
            Self::Build(_) => Class::Internal,
        }
    }
}

/// Makes the client. It follows a few redirects, never decompresses, uses no proxy from the
/// environment, and has no limit on the length of a transfer.
pub fn client(options: &Options) -> Result<Client, Error> {
    // Fails only if a provider is already installed, which is then as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut roots = Vec::new();
    for path in options.ca_bundles.iter().filter(|path| path.exists()) {
        roots.extend(certificates(path)?);
    }
    let mut builder = Client::builder()
        .tls_certs_only(roots)
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(TCP_KEEPALIVE)
        .redirect(redirect::Policy::limited(MAX_REDIRECTS))
        .user_agent(&options.user_agent);
    if let Some(resolver) = &options.resolver {
        builder = builder.dns_resolver(Arc::clone(resolver));
    }
    builder.build().map_err(|error| Error::Build(chain(&error)))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, Error> {
    let pem =
        std::fs::read(path).map_err(|cause| Error::ReadBundle { path: path.to_owned(), cause })?;
    let parsed = Certificate::from_pem_bundle(&pem)
        .map_err(|error| Error::ParseBundle { path: path.to_owned(), cause: chain(&error) })?;
    if parsed.is_empty() {
        return Err(Error::ParseBundle { path: path.to_owned(), cause: "it is empty".into() });
    }
    Ok(parsed)
}

/// An error with all its causes on one line. The URL is left out: it may hold secrets.
pub(crate) fn describe(error: reqwest::Error) -> String {
    chain(&error.without_url())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_bundle(path: &Path) -> Result<Client, Error> {
        client(&Options { ca_bundles: vec![path.to_owned()], ..Options::default() })
    }

    #[test]
    fn a_client_needs_no_ca_bundle() {
        with_bundle(Path::new("/nowhere/ca.pem")).unwrap();
    }

    #[test]
    fn a_bundle_without_certificates_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "not a certificate\n").unwrap();
        let error = with_bundle(file.path()).unwrap_err();
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
        assert_eq!(error.class(), Class::Environment);
    }
}
