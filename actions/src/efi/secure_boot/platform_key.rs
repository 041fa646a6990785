//! A platform key of the machine's own, whose private half nobody keeps.
//!
//! UEFI lets Setup Mode take any platform key, but firmware made from EDK II wants proof that
//! whoever brings it has the private half: a signature of the write by the key itself. The image
//! does not carry that half. So, unless the job names an owner, the key is made here, signs the one
//! write, and is forgotten: from then on only someone at the machine's own setup can change it.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use sha2::{Digest, Sha256};

use super::certificate::Certificate;
use super::der::{
    BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, NULL, OBJECT_IDENTIFIER, OCTET_STRING,
    SEQUENCE, SET, UTC_TIME, UTF8_STRING, context, element,
};

/// All firmware knows this size; some know no other.
const SIZE: KeySize = KeySize::Rsa2048;

/// As setup shows it.
const COMMON_NAME: &[u8] = b"Nibs platform key";

// Contents of object identifiers.
const ID_COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ID_BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const ID_SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const ID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ID_RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const ID_PKCS7_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

const TRUE: &[u8] = &[0xff];
/// `version` of an X.509 certificate with extensions.
const V3: &[u8] = &[2];
/// Firmware does not ask when a certificate is valid, and the clock of a new machine may be wrong.
const NOT_BEFORE: &[u8] = b"100101000000Z";
/// RFC 5280's date for one that never ends (§4.1.2.5).
const NOT_AFTER: &[u8] = b"99991231235959Z";
const SERIAL_SIZE: usize = 16;

/// A new key pair with its certificate.
#[derive(Debug)]
pub(super) struct PlatformKey {
    pair: RsaKeyPair,
    serial: Vec<u8>,
    certificate: Certificate,
}

impl PlatformKey {
    /// Makes one. It fails where the kernel has no random numbers to give.
    pub(super) fn generate() -> Result<Self, Unspecified> {
        let pair = RsaKeyPair::generate(SIZE)?;
        let public = AsDer::as_der(pair.public_key())?;
        // Different for every key, as a serial number has to be; positive and without a zero ahead.
        let mut serial = Sha256::digest(public.as_ref())[..SERIAL_SIZE].to_vec();
        serial[0] = serial[0] & 0x3f | 0x40;

        let serial = element(INTEGER, &[&serial]);
        let name = name();
        let is_ca = element(SEQUENCE, &[&element(BOOLEAN, &[TRUE])]);
        let constraints = element(
            SEQUENCE,
            &[
                &element(OBJECT_IDENTIFIER, &[ID_BASIC_CONSTRAINTS]),
                &element(BOOLEAN, &[TRUE]),
                &element(OCTET_STRING, &[&is_ca]),
            ],
        );
        let signed = element(
            SEQUENCE,
            &[
                &element(context(0), &[&element(INTEGER, &[V3])]),
                &serial,
                &algorithm(ID_RSA_SHA256),
                &name,
                &element(
                    SEQUENCE,
                    &[&element(UTC_TIME, &[NOT_BEFORE]), &element(GENERALIZED_TIME, &[NOT_AFTER])],
                ),
                &name,
                public.as_ref(),
                &element(context(3), &[&element(SEQUENCE, &[&constraints])]),
            ],
        );
        let signature = element(BIT_STRING, &[&[0], &sign(&pair, &signed)?]);
        let bytes = element(SEQUENCE, &[&signed, &algorithm(ID_RSA_SHA256), &signature]);
        let certificate = Certificate::from_der(&bytes).map_err(|_| Unspecified)?;
        Ok(Self { pair, serial, certificate })
    }

    /// Its certificate.
    pub(super) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs `content` once and forgets the private half. The signature is a PKCS #7 `SignedData`
    /// (RFC 2315 §9.1) without what it is over and without signed attributes, which is all that
    /// firmware takes (UEFI §8.2.2).
    pub(super) fn sign(self, content: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let signature = sign(&self.pair, content)?;
        let version = element(INTEGER, &[&[1]]);
        let signer = element(
            SEQUENCE,
            &[
                &version,
                &element(SEQUENCE, &[&name(), &self.serial]),
                &algorithm(ID_SHA256),
                &algorithm(ID_RSA),
                &element(OCTET_STRING, &[&signature]),
            ],
        );
        let no_content = element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, &[ID_PKCS7_DATA])]);
        Ok(element(
            SEQUENCE,
            &[
                &version,
                &element(SET, &[&algorithm(ID_SHA256)]),
                &no_content,
                &element(context(0), &[self.certificate.der()]),
                &element(SET, &[&signer]),
            ],
        ))
    }
}

fn name() -> Vec<u8> {
    let attribute = element(
        SEQUENCE,
        &[&element(OBJECT_IDENTIFIER, &[ID_COMMON_NAME]), &element(UTF8_STRING, &[COMMON_NAME])],
    );
    element(SEQUENCE, &[&element(SET, &[&attribute])])
}

fn algorithm(id: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, &[id]), &element(NULL, &[])])
}

fn sign(pair: &RsaKeyPair, content: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), content, &mut signature)?;
    Ok(signature)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// EDK II finds the digest's identifier at this offset and nowhere else.
    const DIGEST_AT: usize = 13;

    #[test]
    fn the_signature_has_the_digest_where_firmware_looks_for_it() {
        let signature = PlatformKey::generate().unwrap().sign(b"content").unwrap();
        assert_eq!(signature[..2], [SEQUENCE, 0x82]);
        assert_eq!(signature[DIGEST_AT..][..ID_SHA256.len()], *ID_SHA256);
    }

    #[test]
    fn each_machine_has_a_key_of_its_own() {
        let (one, two) = (PlatformKey::generate().unwrap(), PlatformKey::generate().unwrap());
        assert_ne!(one.certificate, two.certificate);
        assert_ne!(one.serial, two.serial);
    }

    #[test]
    fn openssl_accepts_certificate_and_signature_and_no_other_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let key = PlatformKey::generate().unwrap();
        fs::write(path("certificate.der"), key.certificate().der()).unwrap();
        // OpenSSL wants the ContentInfo around it that firmware does not.
        let id = element(OBJECT_IDENTIFIER, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 7, 2]]);
        let signed = element(context(0), &[&key.sign(b"content").unwrap()]);
        fs::write(path("signature.der"), element(SEQUENCE, &[&id, &signed])).unwrap();
        fs::write(path("content"), "content").unwrap();
        fs::write(path("other"), "other").unwrap();

        let openssl = |arguments: &[&str]| {
            let mut command = Command::new("openssl");
            let output = command.args(arguments).current_dir(directory.path()).output().ok()?;
            Some((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
        };
        let Some((converted, text)) = openssl(&[
            "x509",
            "-inform",
            "DER",
            "-in",
            "certificate.der",
            "-out",
            "certificate.pem",
        ]) else {
            eprintln!("skipped: no openssl to hold the signature against");
            return;
        };
        assert!(converted, "{text}");
        let verify = |content: &str| {
            let files = ["-in", "signature.der", "-CAfile", "certificate.pem", "-content", content];
            let how = ["smime", "-verify", "-binary", "-inform", "DER", "-purpose", "any"];
            openssl(&[&how[..], &files[..]].concat()).unwrap()
        };
        let (accepted, text) = verify("content");
        assert!(accepted, "{text}");
        assert!(!verify("other").0);
    }
}
