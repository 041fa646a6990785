//! Certificates in PEM, as far as a typing or copying error goes: the blocks are whole, and each
//! holds a DER sequence of its own length. The certificate itself is the OS's to judge.
//!
//! Source: RFC 7468.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
const CERTIFICATE: &str = "CERTIFICATE";
const DER_SEQUENCE: u8 = 0x30;

/// Whether base64 wraps PEM blocks, at least one, and each of them is a certificate.
pub(super) fn is_bundle(base64: &str) -> bool {
    blocks(base64).is_some_and(|blocks| {
        !blocks.is_empty()
            && blocks.iter().all(|(label, der)| label == CERTIFICATE && is_sequence(der))
    })
}

/// Whether base64 wraps PEM blocks, at least one.
pub(super) fn is_pem(base64: &str) -> bool {
    blocks(base64).is_some_and(|blocks| {
        !blocks.is_empty() && blocks.iter().all(|(_, contents)| is_sequence(contents))
    })
}

/// Labels and contents of the PEM blocks; none if a block is broken.
fn blocks(base64: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let pem = String::from_utf8(STANDARD.decode(base64).ok()?).ok()?;
    let mut blocks = Vec::new();
    let mut lines = pem.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(DASHES))
        else {
            continue;
        };
        let mut contents = String::new();
        loop {
            let line = lines.next()?;
            if let Some(end) = line.strip_prefix(END) {
                if end.strip_suffix(DASHES)? != label {
                    return None;
                }
                break;
            }
            contents.push_str(line);
        }
        blocks.push((label.to_owned(), STANDARD.decode(contents).ok()?));
    }
    Some(blocks)
}

/// Whether it is one DER sequence (X.690, 8.1.3 and 8.9) and nothing else.
fn is_sequence(der: &[u8]) -> bool {
    let Some((&DER_SEQUENCE, rest)) = der.split_first() else { return false };
    let Some((&first, rest)) = rest.split_first() else { return false };
    if first < 0x80 {
        return rest.len() == usize::from(first);
    }
    let count = usize::from(first & 0x7f);
    if count > size_of::<u32>() || rest.len() < count {
        return false;
    }
    let (length, contents) = rest.split_at(count);
    let length = length.iter().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
    contents.len() as u64 == length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(label: &str, der: &[u8]) -> String {
        let contents = STANDARD.encode(der);
        let pem = format!("a comment\n{BEGIN}{label}-----\n{contents}\n{END}{label}-----\n");
        STANDARD.encode(pem)
    }

    #[test]
    fn a_certificate_is_told_from_other_pem_and_from_other_text() {
        let der = [0x30, 3, 2, 1, 5];
        assert!(is_bundle(&wrapped("CERTIFICATE", &der)));
        assert!(!is_bundle(&wrapped("PRIVATE KEY", &der)));
        assert!(is_pem(&wrapped("PRIVATE KEY", &der)));
        for text in ["", "no PEM at all", "-----BEGIN CERTIFICATE-----\nMAMCAQU=\n"] {
            assert!(!is_pem(&STANDARD.encode(text)), "{text}");
            assert!(!is_bundle(&STANDARD.encode(text)), "{text}");
        }
    }

    #[test]
    fn a_cut_or_lengthened_certificate_is_refused() {
        let mut long = vec![0x30, 0x82, 1, 0];
        long.extend([7; 256]);
        assert!(is_bundle(&wrapped("CERTIFICATE", &long)));
        long.push(7);
        assert!(!is_bundle(&wrapped("CERTIFICATE", &long)));
        for der in [&[][..], &[0x30], &[0x30, 2, 1], &[0x30, 0x85, 0], &[0x31, 0]] {
            assert!(!is_bundle(&wrapped("CERTIFICATE", der)), "{der:?}");
        }
    }
}
