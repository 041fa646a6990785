//! The HTTP client that fetches images: patient with slow servers, and sure of whom it talks to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nibs_job::{Class, Location, Secret};
use reqwest::dns::Resolve;
use reqwest::{Certificate, Client, Identity, NoProxy, Proxy, redirect};
use url::Url;

/// How long a connection may take to come up; the transfer itself has no limit of its own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How many redirects are followed before a loop is assumed.
const MAX_REDIRECTS: usize = 10;

/// How often an idle connection is probed, so that a peer that went away is noticed.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// What no proxy can reach for this machine.
pub const THIS_MACHINE: &str = "localhost,127.0.0.0/8,::1";

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
    /// More CA certificates, PEM.
    pub ca: Option<String>,
    /// Whether any certificate of a server is taken for good.
    pub insecure: bool,
    /// By what the client proves itself to servers that ask.
    pub client_certificate: Option<ClientCertificate>,
    /// Which proxies are asked.
    pub proxies: Proxies,
    /// Whether the certificates of servers are not looked at, which lets anybody pose as them.
    pub unchecked_certificates: bool,
    /// Whether a redirect is an answer like others, and not followed.
    pub no_redirects: bool,
    /// Turns names into addresses. Default: the C library, which a static agent must not use.
    pub resolver: Option<Arc<dyn Resolve>>,
    /// What the client calls itself.
    pub user_agent: String,
}

/// A certificate and its private key, both PEM.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// The certificate, and those between it and its root.
    pub certificate: String,
    /// The key.
    pub key: Secret,
}

/// Which proxies are asked for what. They may carry user and password.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For `http://` URLs.
    pub http: Option<Url>,
    /// For `https://` URLs.
    pub https: Option<Url>,
    /// Hosts, domains and networks that none is asked for, with commas between them. This machine
    /// itself always counts among them.
    pub no: String,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |proxy: &Option<Url>| proxy.clone().map(Location::Http);
        f.debug_struct("Proxies")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("no", &self.no)
            .finish()
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("ca_bundles", &self.ca_bundles)
            .field("insecure", &self.insecure)
            .field("proxies", &self.proxies)
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
    /// What was given along cannot be used.
    #[error("reading the {what}: {cause}")]
    Given {
        /// What it was given as.
        what: &'static str,
        /// What is wrong with it.
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
            Self::Given { .. } => Class::InvalidInput,
            Self::Build(_) => Class::Internal,
        }
    }
}

/// Makes the client. It follows a few redirects, to another host without credentials, unless it is to
/// follow none; never decompresses; asks no proxy but those given; and has no limit on the length of a transfer.
pub fn client(options: &Options) -> Result<Client, Error> {
    // Fails only if a provider is already installed, which is then as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut roots = Vec::new();
    for path in options.ca_bundles.iter().filter(|path| path.exists()) {
        roots.extend(certificates(path)?);
    }
    if let Some(pem) = &options.ca {
        let given = |cause| Error::Given { what: "CA certificate", cause };
        roots.extend(parse_certificates(pem.as_bytes()).map_err(given)?);
    }
    let redirects = match options.no_redirects {
        true => redirect::Policy::none(),
        false => redirect::Policy::limited(MAX_REDIRECTS),
    };
    let mut builder = Client::builder()
        .tls_certs_only(roots)
        .tls_danger_accept_invalid_certs(options.insecure)
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(TCP_KEEPALIVE)
        .redirect(redirects)
        .user_agent(&options.user_agent);
    if options.unchecked_certificates {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(resolver) = &options.resolver {
        builder = builder.dns_resolver(Arc::clone(resolver));
    }
    if let Some(ClientCertificate { certificate, key }) = &options.client_certificate {
        let pem = format!("{certificate}\n{}", key.expose());
        // The parser's words are not repeated: they could hold a part of the key.
        let given = |_| Error::Given {
            what: "client certificate",
            cause: "expected a PEM certificate and its PEM private key".into(),
        };
        builder = builder.identity(Identity::from_pem(pem.as_bytes()).map_err(given)?);
    }
    for proxy in proxies(&options.proxies)? {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| Error::Build(chain(&error)))
}

fn proxies(proxies: &Proxies) -> Result<Vec<Proxy>, Error> {
    let no = NoProxy::from_string(&format!("{},{THIS_MACHINE}", proxies.no));
    let given = |error: reqwest::Error| Error::Given { what: "proxy", cause: describe(error) };
    let mut all = Vec::new();
    if let Some(url) = &proxies.http {
        all.push(Proxy::http(url.clone()).map_err(given)?.no_proxy(no.clone()));
    }
    if let Some(url) = &proxies.https {
        all.push(Proxy::https(url.clone()).map_err(given)?.no_proxy(no));
    }
    Ok(all)
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, Error> {
    let pem =
        std::fs::read(path).map_err(|cause| Error::ReadBundle { path: path.to_owned(), cause })?;
    parse_certificates(&pem).map_err(|cause| Error::ParseBundle { path: path.to_owned(), cause })
}

fn parse_certificates(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    let parsed = Certificate::from_pem_bundle(pem).map_err(|error| chain(&error))?;
    if parsed.is_empty() {
        return Err("there is none in it".into());
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

    #[test]
    fn what_a_job_gives_along_is_refused_without_being_shown() {
        let ca = Options { ca: Some("no PEM".into()), ..Options::default() };
        let certificate = "hunter2".to_owned();
        let key = Secret::new("hunter2");
        let pair = Options {
            client_certificate: Some(ClientCertificate { certificate, key }),
            ..Options::default()
        };
        for options in [ca, pair] {
            let error = client(&options).unwrap_err();
            assert_eq!(error.class(), Class::InvalidInput);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn options_show_no_password_of_a_proxy() {
        let http = Some("http://me:hunter2@proxy.example:3128".parse().unwrap());
        let proxies = Proxies { http, ..Proxies::default() };
        let shown = format!("{:?}", Options { proxies, ..Options::default() });
        assert!(shown.contains("proxy.example:3128") && !shown.contains("hunter2"), "{shown}");
    }
}
