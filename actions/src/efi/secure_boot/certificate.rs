//! X.509 certificates as the firmware takes them: DER, whole and nothing else.
//!
//! Only the outline is looked at. Whether the certificate is the one that is meant is a matter of
//! its digest, and what it is good for a matter of the firmware.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::der;

/// A certificate in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate(Vec<u8>);

impl Certificate {
    /// Takes DER that has the outline of a certificate (RFC 5280 §4.1); the error says what is
    /// wrong.
    pub(super) fn from_der(bytes: &[u8]) -> Result<Self, &'static str> {
        const NO_DER: &str = "it is no X.509 certificate in DER";
        let (der::SEQUENCE, mut content, rest) = der::split(bytes).ok_or(NO_DER)? else {
            return Err(NO_DER);
        };
        if !rest.is_empty() {
            return Err("something follows the certificate");
        }
        // What is signed, the algorithm, the signature.
        for expected in [der::SEQUENCE, der::SEQUENCE, der::BIT_STRING] {
            let (tag, _, rest) = der::split(content).ok_or(NO_DER)?;
            if tag != expected {
                return Err(NO_DER);
            }
            content = rest;
        }
        if content.is_empty() { Ok(Self(bytes.to_owned())) } else { Err(NO_DER) }
    }

    /// Takes all certificates of a PEM text, of which there must be one at least.
    pub(super) fn from_pem(text: &str) -> Result<Vec<Self>, String> {
        let mut certificates = Vec::new();
        for (number, found) in (1..).zip(CertificateDer::pem_slice_iter(text.as_bytes())) {
            let certificate = found.map_err(|error| format!("certificate {number}: {error}"))?;
            let certificate = Self::from_der(&certificate)
                .map_err(|error| format!("certificate {number}: {error}"))?;
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            return Err("it has no PEM section CERTIFICATE".into());
        }
        Ok(certificates)
    }

    /// The DER.
    pub(super) fn der(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Something with the outline of a certificate; `tag` makes it differ from others.
    pub(in super::super) fn outline(tag: u8) -> Certificate {
        let signed = der::element(der::SEQUENCE, &[&der::element(der::INTEGER, &[&[tag]])]);
        let algorithm = der::element(der::SEQUENCE, &[]);
        let signature = der::element(der::BIT_STRING, &[&[0, 1]]);
        let bytes = der::element(der::SEQUENCE, &[&signed, &algorithm, &signature]);
        Certificate::from_der(&bytes).unwrap()
    }

    /// The PEM of [`outline`]`(1)`.
    const ONE: &str = "MAsw\nAwIBATAAAwIAAQ==";

    #[test]
    fn anything_but_one_whole_certificate_is_refused() {
        let whole = outline(1).der().to_owned();
        assert_eq!(Certificate::from_der(&[&whole[..], &[0]].concat()).unwrap_err().len(), 33);
        for end in 0..whole.len() {
            assert!(Certificate::from_der(&whole[..end]).is_err(), "{end}");
        }
        let pem = b"-----BEGIN CERTIFICATE-----\n";
        assert!(Certificate::from_der(pem).unwrap_err().contains("DER"));
        let other = der::element(der::SEQUENCE, &[&der::element(der::SEQUENCE, &[])]);
        assert!(Certificate::from_der(&other).is_err());
        let more = der::element(der::SEQUENCE, &[&whole[2..], &[der::NULL, 0]]);
        assert!(Certificate::from_der(&more).is_err());
    }

    #[test]
    fn pem_has_any_number_of_certificates_and_text_between_them() {
        let one = format!("-----BEGIN CERTIFICATE-----\n{ONE}\n-----END CERTIFICATE-----\n");
        let found = Certificate::from_pem(&format!("Subject: me\n{one}{one}")).unwrap();
        assert_eq!(found, [outline(1), outline(1)]);
    }

    #[test]
    fn pem_without_a_certificate_says_so() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, expected) in [
            ("", "no PEM section CERTIFICATE"),
            (key, "no PEM section CERTIFICATE"),
            (broken, "certificate 1"),
            (empty, "certificate 1"),
        ] {
            let error = Certificate::from_pem(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
