//! `EFI_SIGNATURE_LIST`: what `PK`, `KEK` and `db` hold (UEFI §32.4.1).
//!
//! ```text
//! type GUID (16) | size of the list (4) | of its header (4) | of each signature (4) | header
//! owner GUID (16), signature | owner GUID, signature | …
//! ```
//!
//! All signatures of a list have one size, so each certificate has a list of its own.

use uuid::{Uuid, uuid};

use super::certificate::Certificate;
use crate::efi::Malformed;

/// Says that a signature is a certificate (`EFI_CERT_X509_GUID`).
const X509: Uuid = uuid!("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");

/// Who put a signature there, as firmware setup shows it: Nibs.
pub(super) const OWNER: Uuid = uuid!("6c3c1d92-0a5e-4c55-9d6b-3f0f6e696273");

const HEADER_SIZE: usize = 28;
const OWNER_SIZE: usize = 16;

/// The list of one certificate.
pub(super) fn of(certificate: &Certificate) -> Vec<u8> {
    let signature_size = OWNER_SIZE + certificate.der().len();
    let mut bytes = X509.to_bytes_le().to_vec();
    for size in [HEADER_SIZE + signature_size, 0, signature_size] {
        bytes.extend(
            u32::try_from(size).expect("a certificate is smaller than 4 GiB").to_le_bytes(),
        );
    }
    bytes.extend(OWNER.to_bytes_le());
    bytes.extend(certificate.der());
    bytes
}

/// The certificates in a variable, whoever put them there. Other signatures, such as digests of
/// programs, are passed over.
pub(super) fn certificates(variable: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut certificates = Vec::new();
    let mut rest = variable;
    while !rest.is_empty() {
        let offset = variable.len() - rest.len();
        let malformed =
            |expected, found| Malformed { what: "signature list", offset, expected, found };
        let Some((header, after)) = rest.split_first_chunk::<HEADER_SIZE>() else {
            return Err(malformed("a header of 28 bytes", rest.len()));
        };
        let (kind, sizes) = header.split_at(OWNER_SIZE);
        let [list, own, signature] = [0, 4, 8].map(|at| {
            let field = sizes[at..at + 4].try_into().expect("the range has four bytes");
            u32::from_le_bytes(field) as usize
        });
        let body = list.checked_sub(HEADER_SIZE).and_then(|size| after.split_at_checked(size));
        let Some((body, after)) = body else {
            return Err(malformed("as many bytes as its size says", list));
        };
        let signatures = body.get(own..).unwrap_or_default();
        if signature <= OWNER_SIZE || signatures.is_empty() || signatures.len() % signature != 0 {
            return Err(malformed("signatures of the size that it says", signature));
        }
        if kind == X509.to_bytes_le() {
            certificates.extend(signatures.chunks(signature).map(|each| &each[OWNER_SIZE..]));
        }
        rest = after;
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::certificate::tests::outline;
    use super::*;

    #[test]
    fn a_list_is_as_the_specification_has_it() {
        let golden = concat!(
            "a159c0a5e494a74a87b5ab155c2bf072", // EFI_CERT_X509_GUID
            "39000000",                         // 28 + 16 + 13 bytes
            "00000000",
            "1d000000",                         // 16 + 13
            "921d3c6c5e0a554c9d6b3f0f6e696273", // owner
            "300b30030201013000",
            "03020001",
        );
        assert_eq!(hex::encode(of(&outline(1))), golden);
    }

    #[test]
    fn certificates_are_found_among_other_signatures() {
        let mut digests =
            Uuid::from_u128(0x2616_c4c1_4c50_9240_aca9_41f9_3693_4328).to_bytes_le().to_vec();
        digests.extend([28 + 2 * 48, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0]);
        digests.extend([7; 96]);
        let (one, two) = (outline(1), outline(2));
        let variable = [of(&one), digests, of(&two)].concat();
        assert_eq!(certificates(&variable).unwrap(), [one.der(), two.der()]);
        assert_eq!(certificates(&[]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_list_is_named_with_its_place() {
        let good = of(&outline(1));
        for end in 1..good.len() {
            let error = certificates(&[&good[..], &good[..end]].concat()).unwrap_err();
            assert_eq!((error.what, error.offset), ("signature list", good.len()), "{end}");
        }
        for (at, size) in [(16, 0u8), (24, 0), (24, 16), (24, 28), (20, 200)] {
            let mut bad = good.clone();
            bad[at] = size;
            assert!(certificates(&bad).is_err(), "{size} at {at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = certificates(&bytes);
        }
    }
}
