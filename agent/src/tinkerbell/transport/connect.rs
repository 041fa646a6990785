//! The way to a Tinkerbell server: name, proxy, TCP, TLS; and words for what is wrong on it.
//!
//! The parts are those of the HTTP client that fetches images, put together for gRPC here because
//! a static agent looks names up itself, and because site CAs and client certificates are wanted.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use nibs_actions::http::THIS_MACHINE;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower_service::Service;

use super::Options;
use super::fault::{Fault, Stream, Watched, innermost};
use super::tls::{self, Proof};
use crate::net::resolver::{LookupError, Resolver};

/// Port of a server that is named without one, as grpc-go has it.
const DEFAULT_PORT: u16 = 443;

/// How long TCP may take to come up at one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long TLS may take, and the proxy to answer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// How an idle connection is probed by TCP, so that a server that lost its power is noticed while
/// it seems to hold a call. Not by HTTP/2 pings: grpc-go hangs up on who sends more than one in
/// five minutes.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// How long a server may leave bytes unacknowledged: the kernel by itself gives up after a quarter
/// of an hour.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// Why a server cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// It is not said where it is.
    #[error("{0:?} is no address of a Tinkerbell server; expected HOST:PORT")]
    Server(String),
    /// It is not said who asks.
    #[error(
        "the agent has no id by which the server could know this machine; expected one, such as \
         its MAC"
    )]
    NoAgent,
    /// A CA bundle cannot be used.
    #[error("reading CA certificates from {}: {why}", path.display())]
    CaBundle {
        /// The bundle.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The client certificate cannot be used. Not told closer: it comes with a key.
    #[error("reading the client certificate: expected a PEM certificate and its PEM private key")]
    ClientCertificate,
    /// The proxy cannot be used. Its address is not repeated: it may hold a password.
    #[error(
        "reading the proxy for https: expected http://…, since a Tinkerbell server is not reached \
         through others"
    )]
    Proxy,
    /// The connection's own parts did not come together.
    #[error("preparing the connection: {0}")]
    Build(String),
}

/// A channel to the server, which is connected when it is first used, and again when it broke; and
/// where it is noted what breaks it.
pub(super) fn channel(options: &Options) -> Result<(Channel, Fault), SetupError> {
    let fault = Fault::default();
    let authority = authority(&options.server)?;
    // Always `http`, since the connector below does the TLS; `origin` is what the server sees.
    let uri = uri("http", &authority, options)?;
    let mut endpoint = Endpoint::from(uri.clone())
        .user_agent(concat!("nibs/", env!("CARGO_PKG_VERSION")))
        .map_err(|e| SetupError::Build(e.to_string()))?;
    if options.tls {
        endpoint = endpoint.origin(self::uri("https", &authority, options)?);
    }
    let connector = Connector {
        fault: fault.clone(),
        tcp: tcp(options.resolver.clone()),
        proxy: proxy(options, &authority)?,
        tls: options.tls.then(|| Tls::new(options, &uri)).transpose()?,
    };
    Ok((endpoint.connect_with_connector_lazy(connector), fault))
}

fn uri(scheme: &str, authority: &str, options: &Options) -> Result<Uri, SetupError> {
    let uri = format!("{scheme}://{authority}").parse();
    uri.map_err(|_| SetupError::Server(options.server.clone()))
}

/// `HOST:PORT` of what was given.
fn authority(server: &str) -> Result<String, SetupError> {
    let wrong = || SetupError::Server(server.to_owned());
    let uri: Uri = format!("http://{server}").parse().map_err(|_| wrong())?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
    // Strict where the parser is not: "host:x" has no port for it, and "me@host" a user.
    let port = match server.strip_prefix(host).ok_or_else(wrong)? {
        "" => DEFAULT_PORT,
        rest => rest.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(wrong)?,
    };
    Ok(format!("{host}:{port}"))
}

fn tcp(resolver: Resolver) -> HttpConnector<Names> {
    let mut tcp = HttpConnector::new_with_resolver(Names(resolver));
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp.set_nodelay(true);
    tcp
}

/// The proxy that is asked for this server: that for `https`, whatever is spoken, as grpc-go does.
fn proxy(options: &Options, authority: &str) -> Result<Option<Intercept>, SetupError> {
    let Some(url) = &options.proxies.https else { return Ok(None) };
    let no = format!("{},{THIS_MACHINE}", options.proxies.no);
    let matcher = Matcher::builder().https(url.as_str()).no(no).build();
    let proxy = matcher.intercept(&uri("https", authority, options)?);
    match &proxy {
        Some(proxy) if proxy.uri().scheme_str() != Some("http") => Err(SetupError::Proxy),
        _ => Ok(proxy),
    }
}

/// The way is not open; the fault is noted in full.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoWay(String);

/// Looks names up without the C library.
#[derive(Debug, Clone)]
struct Names(Resolver);

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = LookupError;
    type Future = Answer<Self::Response, LookupError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self(resolver) = self.clone();
        Box::pin(async move {
            let addresses = resolver.lookup(name.as_str()).await?;
            // Port 0 stands for that of the URI.
            let addresses: Vec<_> =
                addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}

#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    proof: Arc<Proof>,
}

impl Tls {
    fn new(options: &Options, server: &Uri) -> Result<Self, SetupError> {
        let host = server.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name =
            ServerName::try_from(host).map_err(|_| SetupError::Server(options.server.clone()))?;
        let (config, proof) = tls::config(options)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name, proof })
    }
}

#[derive(Clone)]
struct Connector {
    fault: Fault,
    tcp: HttpConnector<Names>,
    proxy: Option<Intercept>,
    tls: Option<Tls>,
}

impl Connector {
    async fn connect(mut self, uri: Uri) -> Result<Watched, NoWay> {
        let connected = match &self.proxy {
            None => self.tcp.call(uri).await.map_err(|e| NoWay(innermost(&e)))?,
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                let by =
                    format!("by the proxy {}", proxy.uri().authority().map_or("", |a| a.as_str()));
                tokio::time::timeout(HANDSHAKE_TIMEOUT, tunnel.call(uri))
                    .await
                    .map_err(|_| NoWay(format!("{by}: no answer from it in time")))?
                    .map_err(|e| NoWay(format!("{by}: {}", innermost(&e))))?
            }
        };
        let stream = connected.into_inner();
        let watched = |stream: Box<dyn Stream>, proof| Watched { stream, fault: self.fault, proof };
        let Some(Tls { connector, name, proof }) = self.tls else {
            return Ok(watched(Box::new(stream), None));
        };
        let handshake = connector.connect(name, stream);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(watched(Box::new(stream), Some(proof))),
            Ok(Err(error)) => Err(NoWay(format!(
                "TLS: {}; does it speak TLS there, and is its CA named by --ca?",
                innermost(&error)
            ))),
            Err(_) => Err(NoWay("TLS: no answer in time; does it speak TLS there?".into())),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Watched>;
    type Error = NoWay;
    type Future = Answer<Self::Response, NoWay>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoWay>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        let fault = self.fault.clone();
        Box::pin(async move {
            let connected = connector.connect(uri).await;
            match &connected {
                Ok(_) => fault.clear(),
                Err(NoWay(why)) => fault.note(why.clone()),
            }
            connected.map(TokioIo::new)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nibs_actions::http::Proxies;

    #[test]
    fn a_server_is_a_host_and_a_port_and_the_port_is_that_of_https_by_default() {
        for (given, expected) in [
            ("10.0.0.1:42113", "10.0.0.1:42113"),
            ("tinkerbell.example", "tinkerbell.example:443"),
            ("[fe80::1]:42113", "[fe80::1]:42113"),
        ] {
            assert_eq!(authority(given).unwrap(), expected);
        }
        for given in ["", ":42113", "host:", "host:x", "http://host:1", "me@host:1", "a b:1"] {
            let error = authority(given).unwrap_err().to_string();
            assert!(error.contains("expected HOST:PORT"), "{given}: {error}");
        }
    }

    #[test]
    fn the_proxy_for_https_is_asked_but_not_for_who_needs_none() {
        let through = |server: &str, proxy: &str, no: &str| {
            let https = Some(proxy.parse().unwrap());
            let proxies = Proxies { https, no: no.into(), ..Proxies::default() };
            let options = Options { server: server.into(), proxies, ..Options::default() };
            proxy_of(&options)
        };
        let proxy = "http://me:hunter2@proxy.example:3128";
        let asked = through("tinkerbell.example:1", proxy, "").unwrap().unwrap();
        assert_eq!(asked.uri().host(), Some("proxy.example"));
        assert!(through("tinkerbell.example:1", proxy, ".example").unwrap().is_none());
        assert!(through("127.0.0.1:1", proxy, "").unwrap().is_none());
        let error = through("t:1", "https://me:hunter2@p:1", "").unwrap_err().to_string();
        assert!(error.contains("http://") && !error.contains("hunter2"), "{error}");
    }

    fn proxy_of(options: &Options) -> Result<Option<Intercept>, SetupError> {
        proxy(options, &authority(&options.server)?)
    }
}
