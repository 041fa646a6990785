//! `EFI_VARIABLE_AUTHENTICATION_2`: what stands before the data when a Secure Boot variable is
//! written (UEFI §8.2.2).
//!
//! ```text
//! EFI_TIME (16) | length (4) | revision (2) | type (2) | EFI_CERT_TYPE_PKCS7_GUID (16) | PKCS #7
//! data, which alone is kept
//! ```

use uuid::{Uuid, uuid};

use crate::efi::{Attributes, Variable, variables};

/// What `PKCS #7` in the header is (`EFI_CERT_TYPE_PKCS7_GUID`).
const PKCS7: Uuid = uuid!("4aafd29d-68df-49ee-8aa9-347d375665a7");

/// `EFI_TIME` of every write: 2010-01-01 00:00:00, the rest zero as it must be.
///
/// Whoever changes the variable later, signed with a key of `PK` or `KEK`, must say a later time.
/// A new machine's clock may be years ahead, and would shut them out.
const TIME: [u8; 16] = [0xda, 0x07, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// `wRevision` and `wCertificateType` of a `WIN_CERTIFICATE_UEFI_GUID`.
const REVISION: u16 = 0x0200;
const TYPE_GUID: u16 = 0x0ef1;

const CERTIFICATE_HEADER_SIZE: usize = 24;

/// What is to be written so that the variable's data becomes `data`; with none it is removed.
/// Empty `pkcs7` is no signature, which firmware in Setup Mode does not ask for.
pub(super) fn write(data: &[u8], pkcs7: &[u8]) -> Variable {
    let length = u32::try_from(CERTIFICATE_HEADER_SIZE + pkcs7.len())
        .expect("a signature is smaller than 4 GiB");
    let mut bytes = TIME.to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(REVISION.to_le_bytes());
    bytes.extend(TYPE_GUID.to_le_bytes());
    bytes.extend(PKCS7.to_bytes_le());
    bytes.extend(pkcs7);
    bytes.extend(data);
    Variable { attributes: Attributes::AUTHENTICATED, data: bytes }
}

/// What a signature of such a write is over: all that says what is written where and when.
pub(super) fn signed_content(name: &str, data: &[u8]) -> Vec<u8> {
    // Unlike everywhere else, without a terminator.
    let mut bytes: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    bytes.extend(variables::vendor(name).to_bytes_le());
    bytes.extend(Attributes::AUTHENTICATED.0.to_le_bytes());
    bytes.extend(TIME);
    bytes.extend(data);
    bytes
}

/// The signature and the data of a write; `None` if it is none.
pub(in crate::efi) fn read(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, rest) = bytes.split_at_checked(TIME.len())?;
    let (length, _) = rest.split_first_chunk::<4>()?;
    let (certificate, data) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let (header, pkcs7) = certificate.split_at_checked(CERTIFICATE_HEADER_SIZE)?;
    let empty = write(&[], &[]).data;
    (header[4..] == empty[TIME.len() + 4..]).then_some((pkcs7, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_as_the_specification_has_it() {
        let golden = concat!(
            "da070101000000000000000000000000", // 2010-01-01 00:00:00
            "18000000",                         // 24 bytes and no signature
            "0002f10e",
            "9dd2af4adf68ee498aa9347d375665a7", // EFI_CERT_TYPE_PKCS7_GUID
            "64617461",
        );
        let written = write(b"data", &[]);
        assert_eq!(hex::encode(&written.data), golden);
        assert_eq!(written.attributes.0, 0x27);
        assert_eq!(read(&written.data), Some((&[][..], &b"data"[..])));
        assert_eq!(read(&write(b"data", b"name").data), Some((&b"name"[..], &b"data"[..])));
    }

    #[test]
    fn a_signature_is_over_name_vendor_attributes_time_and_data() {
        let golden = concat!(
            "64006200", // "db", not terminated
            "cbb219d73a3d9645a3bcdad00e67656f",
            "27000000",
            "da070101000000000000000000000000",
            "01",
        );
        assert_eq!(hex::encode(signed_content("db", &[1])), golden);
        assert!(hex::encode(signed_content("PK", &[])).starts_with("50004b0061dfe48b"));
    }

    #[test]
    fn what_is_no_such_write_is_told_apart() {
        let good = write(&[], &[]).data;
        for end in 0..good.len() {
            assert_eq!(read(&good[..end]), None);
        }
        let mut other = good.clone();
        other[22] = 0;
        assert_eq!(read(&other), None);
        let mut shorter = good;
        shorter[16] = 23;
        assert_eq!(read(&shorter), None);
    }
}
