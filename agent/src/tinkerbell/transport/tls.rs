//! TLS to a Tinkerbell server: whom to trust, and by what to be trusted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nibs_actions::http::ClientCertificate;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Options, SetupError};

/// The protocol that gRPC speaks inside TLS (RFC 7301): servers close the connection without it.
const HTTP2: &[u8] = b"h2";

/// What the options say of TLS, as rustls wants it.
pub(super) fn config(options: &Options) -> Result<(ClientConfig, Arc<Proof>), SetupError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| SetupError::Build(e.to_string()))?;
    let builder = if options.insecure_tls {
        tracing::warn!(
            "the certificate of {} is not verified: whoever answers there is believed",
            options.server
        );
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(Arc::clone(&provider))))
    } else {
        let mut roots = RootCertStore::empty();
        for path in options.ca_bundles.iter().filter(|path| path.exists()) {
            for certificate in certificates(path)? {
                // A bundle of a system may have one that is older than the rules; it is not used.
                let _ = roots.add(certificate);
            }
        }
        if roots.is_empty() {
            tracing::warn!(
                "no CA certificate is known here, so that of {} cannot be verified; name one by \
                 --ca",
                options.server
            );
        }
        builder.with_root_certificates(roots)
    };
    let proof = Arc::new(Proof {
        pair: options.client_certificate.as_ref().map(|pair| own(pair, &provider)).transpose()?,
        asked: AtomicBool::new(false),
    });
    let mut config = builder.with_client_cert_resolver(Arc::clone(&proof) as _);
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok((config, proof))
}

/// What the agent proves itself by, to servers that ask.
#[derive(Debug)]
pub(super) struct Proof {
    pair: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl Proof {
    /// What a server may have hung up for, if it has asked. With TLS 1.3 it does so after the
    /// handshake, and its last words are often lost with the connection.
    pub(super) fn doubt(&self) -> Option<&'static str> {
        let asked = self.asked.load(Ordering::Relaxed);
        asked.then_some(match self.pair {
            Some(_) => "the server asks for a client certificate, and may not take this one",
            None => "the server asks for a client certificate, and the agent has none",
        })
    }
}

impl ResolvesClientCert for Proof {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.pair.clone()
    }

    fn has_certs(&self) -> bool {
        self.pair.is_some()
    }
}

/// No parser's words in these errors: they could hold a part of the key.
fn own(
    pair: &ClientCertificate,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, SetupError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| SetupError::ClientCertificate)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.expose().as_bytes())
        .map_err(|_| SetupError::ClientCertificate)?;
    CertifiedKey::from_der(chain, key, provider)
        .map(Arc::new)
        .map_err(|_| SetupError::ClientCertificate)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let bundle = |why: String| SetupError::CaBundle { path: path.to_owned(), why };
    let pem = std::fs::read(path).map_err(|e| bundle(e.to_string()))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, pem::Error>>()
        .map_err(|e| bundle(e.to_string()))?;
    if found.is_empty() {
        return Err(bundle("expected PEM certificates, found none".into()));
    }
    Ok(found)
}

/// Takes every certificate, as `--grpc-insecure-tls` asks for. Whoever shows one must still have
/// its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
