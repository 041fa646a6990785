//! HTTPS: a server whose certificate is trusted, and one whose is not.
//!
//! `data/tls` holds a self-signed certificate for 127.0.0.1 and its key, made with
//! `openssl req -x509 -newkey ec … -days 36500 -addext subjectAltName=IP:127.0.0.1`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nibs_actions::image::{Error, Fetch, Source};
use nibs_actions::{Stop, http};
use nibs_job::Class;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use super::support::Ears;

fn data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/data/tls", name].iter().collect()
}

/// Answers every request with the same few bytes, over TLS.
fn serve() -> url::Url {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let certificate = CertificateDer::from_pem_file(data("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(data("key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
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

fn fetch(ca_bundles: Vec<PathBuf>) -> Result<Vec<u8>, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let fetch = Fetch {
        url: serve(),
        client: http::client(&http::Options { ca_bundles, ..http::Options::default() }).unwrap(),
        runtime: runtime.handle().clone(),
        stop: Stop::default(),
        sink: Arc::new(Ears::default()),
        stall_timeout: Duration::from_secs(20),
        proven_by_digest: false,
    };
    let mut source = fetch.open()?;
    let mut bytes = Vec::new();
    while let Some(chunk) = source.next()? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[test]
fn a_certificate_in_the_bundle_is_trusted() {
    assert_eq!(fetch(vec![data("cert.pem")]).unwrap(), b"hello");
}

#[test]
fn a_certificate_that_nobody_vouches_for_fails_at_once() {
    let begun = Instant::now();
    let error = fetch(Vec::new()).unwrap_err();
    assert!(matches!(error, Error::Certificate { .. }), "{error}");
    assert_eq!(error.class(), Class::Environment);
    assert!(begun.elapsed() < Duration::from_secs(5));
}
