//! HTTPS: a server whose certificate is trusted, and one whose is not.
//!
//! `data/tls` holds a self-signed certificate for 127.0.0.1 and its key, made with
//! `openssl req -x509 -newkey ec … -days 36500 -addext subjectAltName=IP:127.0.0.1`, and one more
//! of nobody that the server knows.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nibs_actions::http;
use nibs_actions::image::{Error, Fetch};
use nibs_job::{Class, Secret};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};

use super::support::{drain, plain, runtime};

const STALL: Duration = Duration::from_secs(3);

fn data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/data/tls", name].iter().collect()
}

/// Whom the server lets in.
#[derive(Clone, Copy)]
enum Clients {
    All,
    /// Those with the certificate in `data/tls`.
    Known,
    /// The same, in TLS 1.2, where a certificate is refused within the handshake.
    KnownInTls12,
}

/// Answers every request with the same few bytes, over TLS.
fn serve(clients: Clients) -> url::Url {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = CertificateDer::from_pem_file(data("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(data("key.pem")).unwrap();
    let versions = match clients {
        Clients::KnownInTls12 => &[&rustls::version::TLS12],
        _ => rustls::DEFAULT_VERSIONS,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match clients {
        Clients::All => builder.with_no_client_auth(),
        Clients::Known | Clients::KnownInTls12 => {
            let mut roots = RootCertStore::empty();
            roots.add(certificate.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let config = builder.with_single_cert(vec![certificate], key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/image", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let mut session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = Stream::new(&mut session, &mut socket);
            // A client that does not trust us hangs up here.
            if stream.read(&mut [0; 4096]).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
                let _ = stream.flush();
            }
        }
    });
    url
}

fn fetch(options: &http::Options, clients: Clients) -> Result<Vec<u8>, Error> {
    let runtime = runtime();
    let client = http::client(options).unwrap();
    drain(Fetch {
        client,
        stall_timeout: STALL,
        ..plain(vec![serve(clients)], &runtime, &Arc::default())
    })
}

#[test]
fn a_certificate_in_the_bundle_is_trusted() {
    let ca_bundles = vec![data("cert.pem")];
    assert_eq!(
        fetch(&http::Options { ca_bundles, ..Default::default() }, Clients::All).unwrap(),
        b"hello"
    );
}

#[test]
fn a_certificate_in_the_job_is_trusted() {
    let ca = Some(std::fs::read_to_string(data("cert.pem")).unwrap());
    assert_eq!(fetch(&http::Options { ca, ..Default::default() }, Clients::All).unwrap(), b"hello");
}

#[test]
fn a_certificate_that_nobody_vouches_for_fails_at_once() {
    let begun = Instant::now();
    let error = fetch(&http::Options::default(), Clients::All).unwrap_err();
    assert!(matches!(error, Error::Certificate { .. }), "{error}");
    assert_eq!(error.class(), Class::Environment);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_taken_where_none_has_to_be() {
    let options = http::Options { insecure: true, ..Default::default() };
    assert_eq!(fetch(&options, Clients::All).unwrap(), b"hello");
}

/// What a client is made from that trusts the server, and shows it the certificate of this name.
fn as_client(certificate: &str, key: &str) -> http::Options {
    let pem = |name| std::fs::read_to_string(data(name)).unwrap();
    let (certificate, key) = (pem(certificate), Secret::new(pem(key)));
    http::Options {
        client_certificate: Some(http::ClientCertificate { certificate, key }),
        ..trusting()
    }
}

fn trusting() -> http::Options {
    http::Options { ca_bundles: vec![data("cert.pem")], ..Default::default() }
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_asks() {
    for server in [Clients::Known, Clients::KnownInTls12] {
        assert_eq!(fetch(&as_client("cert.pem", "key.pem"), server).unwrap(), b"hello");
    }
}

#[test]
fn a_client_certificate_that_the_server_refuses_or_misses_fails_at_once() {
    for server in [Clients::Known, Clients::KnownInTls12] {
        for client in [as_client("stranger.pem", "stranger-key.pem"), trusting()] {
            let begun = Instant::now();
            let error = fetch(&client, server).unwrap_err();
            assert!(matches!(error, Error::ClientCertificate { .. }), "{error}");
            assert_eq!(error.class(), Class::InvalidInput);
            assert!(error.to_string().contains("client-cert and client-key"), "{error}");
            assert!(begun.elapsed() < STALL, "it was tried again for {:?}", begun.elapsed());
        }
    }
}
