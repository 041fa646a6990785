//! TLS to a Tinkerbell server: whom to trust, and by what to be trusted.

use std::path::Path;
use std::sync::Arc;

use nibs_actions::http::ClientCertificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Options, SetupError};

/// The protocol that gRPC speaks inside TLS (RFC 7301): servers close the connection without it.
const HTTP2: &[u8] = b"h2";

/// What the options say of TLS, as rustls wants it.
pub(super) fn config(options: &Options) -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| SetupError::Tls(e.to_string()))?;
    let builder = if options.insecure_tls {
        tracing::warn!(
            "the certificate of {} is not verified: whoever answers there is believed",
            options.server
        );
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
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
                "no CA certificate is known here, so that of {} cannot be verified; name one by --ca",
                options.server
            );
        }
        builder.with_root_certificates(roots)
    };
    let mut config = match &options.client_certificate {
        None => builder.with_no_client_auth(),
        Some(ClientCertificate { certificate, key }) => {
            // No parser's words here: they could hold a part of the key.
            let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|_| SetupError::ClientCertificate)?;
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                .map_err(|_| SetupError::ClientCertificate)?;
            builder.with_client_auth_cert(chain, key).map_err(|_| SetupError::ClientCertificate)?
        }
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
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
