//! Taking a stream of gzip members apart (RFC 1952), if they say how long they are: those of `bgzip`
//! and its like do, in an extra field (SAM/BAM Format Specification, section 4.1, "The BGZF
//! compression format"). Where any other member ends is known only once it is decoded.
//!
//! The last member of `bgzip` is an empty one: without it, a stream was cut short between members.

use std::io;

use super::cut::{Cut, Outcome, invalid};
use super::format::Format;
use super::workers::Kind;

/// Magic and method of a member.
const MAGIC: [u8; 3] = *b"\x1f\x8b\x08";

/// Length of a header without its optional fields: magic, method, flags, time, extra flags, system.
const HEADER: usize = 10;

/// Set in a header's flags if there are extra fields.
const HAS_EXTRA: u8 = 1 << 2;

/// What a member ends with: checksum and length of what it decodes to.
const TRAILER: u64 = 8;

/// The extra field that tells how long a member is.
const BLOCK_SIZE: [u8; 2] = *b"BC";

/// Makes units of members that say how long they are, and one of whatever follows these.
pub(super) fn take_apart(cut: &mut Cut<'_>) -> Outcome<()> {
    let mut is_last = true;
    while !cut.at_end()? {
        let Some(rest) = sized_member(cut)? else {
            cut.start(Kind::Stream(Format::Gzip), 0)?;
            return cut.pass_rest();
        };
        cut.start_if_full(Kind::Stream(Format::Gzip), 0)?;
        cut.pass(rest)?;
        let _checksum: [u8; 4] = cut.read()?;
        let length = u32::from_le_bytes(cut.read()?);
        cut.pass(0)?;
        cut.grow(length.into());
        is_last = length == 0;
    }
    if is_last { Ok(()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
}

/// Reads a member's header, and tells how long what follows it is, up to the trailer; none if it
/// does not say.
fn sized_member(cut: &mut Cut<'_>) -> Outcome<Option<u64>> {
    let header: [u8; HEADER] = cut.read()?;
    if !header.starts_with(&MAGIC) {
        return Err(invalid("bytes that are no member follow a member"));
    }
    if header[3] & HAS_EXTRA == 0 {
        return Ok(None);
    }
    let length = u16::from_le_bytes(cut.read()?);
    let mut extra = vec![0; usize::from(length)];
    cut.read_into(&mut extra)?;
    let Some(size) = block_size(&extra) else { return Ok(None) };
    let before = HEADER as u64 + 2 + u64::from(length);
    let rest = size.checked_sub(before + TRAILER);
    rest.map(Some).ok_or_else(|| invalid("a member says it is shorter than its own header"))
}

/// How long a member says it is as a whole, in its extra fields.
fn block_size(mut extra: &[u8]) -> Option<u64> {
    while let Some(([a, b, low, high], rest)) = extra.split_first_chunk() {
        let (field, behind) = rest.split_at_checked(u16::from_le_bytes([*low, *high]).into())?;
        if [*a, *b] == BLOCK_SIZE {
            return Some(u64::from(u16::from_le_bytes(field.try_into().ok()?)) + 1);
        }
        extra = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;

    use super::super::unpack::tests::{
        assert_cuts_are_found, assert_flip_is_found, content, unpack,
    };
    use super::*;

    /// A member; one that says how long it is has an extra field in front of the one that does.
    fn member(content: &[u8], is_sized: bool) -> Vec<u8> {
        const FIELDS: [u8; 9] = *b"XY\x01\0zBC\x02\0";
        let mut builder = GzBuilder::new().filename("disk.img");
        if is_sized {
            builder = builder.extra([&FIELDS[..], &[0, 0]].concat());
        }
        let mut encoder = builder.write(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        let mut bytes = encoder.finish().unwrap();
        if is_sized {
            let size = u16::try_from(bytes.len() - 1).unwrap();
            let at = HEADER + 2 + FIELDS.len();
            bytes[at..at + 2].copy_from_slice(&size.to_le_bytes());
        }
        bytes
    }

    /// Members as bgzip makes them, with an empty one at the end.
    fn bgzip(content: &[u8], size: usize) -> Vec<u8> {
        let members = content.chunks(size).chain([&[][..]]);
        members.flat_map(|part| member(part, true)).collect()
    }

    #[test]
    fn members_decode_from_chunks_of_any_size() {
        let content = content(9 << 20);
        let mut mixed = bgzip(&content[..5 << 20], 65_280);
        mixed.extend(member(&content[5 << 20..6 << 20], false));
        mixed.extend(bgzip(&content[6 << 20..], 65_280));
        let plain: Vec<u8> = content.chunks(1 << 20).flat_map(|part| member(part, false)).collect();
        for bytes in [bgzip(&content, 65_280), mixed, plain] {
            for chunk in [1000, 64 << 10, 4 << 20] {
                assert!(unpack(&bytes, chunk).unwrap() == content);
            }
        }
    }

    #[test]
    fn members_cut_anywhere_are_an_error() {
        let content = content(9000);
        assert_cuts_are_found(&bgzip(&content, 3000), &[]);
        let plain: Vec<_> = content.chunks(3000).map(|part| member(part, false)).collect();
        let first = plain[0].len();
        let ends = [(first, 3000), (first + plain[1].len(), 6000)];
        assert_cuts_are_found(&plain.concat(), &ends);
    }

    #[test]
    fn a_length_that_is_not_the_members_is_an_error() {
        let content = content(9000);
        for wrong in [-200_i16, -1, 1, 200] {
            let mut bytes = bgzip(&content, 3000);
            let at = HEADER + 2 + 9;
            let size = i16::from_le_bytes([bytes[at], bytes[at + 1]]) + wrong;
            bytes[at..at + 2].copy_from_slice(&size.to_le_bytes());
            assert!(unpack(&bytes, 512).is_err(), "by {wrong}");
        }
        let mut bytes = bgzip(&content, 3000);
        bytes[HEADER + 11..HEADER + 13].copy_from_slice(&[9, 0]);
        let error = unpack(&bytes, 512).unwrap_err().to_string();
        assert!(error.contains("shorter than its own header"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_flipped_bit_never_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let content = content(150_000);
            let bytes = bgzip(&content, 40_000);
            assert_flip_is_found(bytes, &content, at, bit);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            bytes.splice(0..0, *b"\x1f\x8b\x08\x04");
            let _ = unpack(&bytes, 1000);
            let mut second = member(b"abc", true);
            second.append(&mut bytes);
            let _ = unpack(&second, 1000);
        }
    }
}
