//! Taking a stream of xz apart into blocks (The .xz File Format 1.2.1).
//!
//! Where a block ends is told by the headers of the chunks in it, LZMA2 being the last filter of
//! every block there is. So neither the sizes in a block's header, which not every encoder writes,
//! nor the index at the end of the stream are needed. Every block goes to the library as a stream of
//! its own, behind the header of the stream it is from, and in front of an index and a footer made
//! for it: all that is in it is the library's to check. The index and the footer of the stream
//! itself are checked here.

mod index;
mod size;

use bytes::Bytes;

pub use self::size::xz_size;

use self::index::{INDEX, Index, Sizes, footer, number};
use super::cut::{Cut, Outcome, invalid};
use super::format::Format;
use super::workers::Kind;

const MAGIC: [u8; 6] = *b"\xfd7zXZ\0";

/// Length of a stream's header, bytes.
const HEADER: usize = 12;

/// Everything is as long as a multiple of this, bytes.
const ALIGNMENT: u64 = 4;

/// The last filter of every block.
const LZMA2: u64 = 0x21;

/// Makes a unit of every block, or of several that are small.
pub(super) fn take_apart(cut: &mut Cut<'_>) -> Outcome<()> {
    while !cut.at_end()? {
        let start = cut.read()?;
        match start {
            // Padding between streams.
            [0, 0, 0, 0] => cut.drop_read()?,
            _ => stream(cut, start)?,
        }
    }
    Ok(())
}

/// Takes a stream apart that starts with these bytes.
fn stream(cut: &mut Cut<'_>, start: [u8; 4]) -> Outcome<()> {
    let header = header(cut, start)?;
    cut.drop_read()?;
    let mut blocks = Index::default();
    loop {
        let [first] = cut.read()?;
        if first == INDEX {
            break;
        }
        blocks.add(block(cut, &header, first)?);
    }
    blocks.expect(cut, header.flags)?;
    cut.drop_read()
}

/// The beginning of a stream.
struct Header {
    bytes: [u8; HEADER],
    flags: [u8; 2],
    /// Length of the check behind every block, bytes.
    check: u64,
}

fn header(cut: &mut Cut<'_>, start: [u8; 4]) -> Outcome<Header> {
    if !MAGIC.starts_with(&start) {
        return Err(invalid("bytes that are no stream follow a stream"));
    }
    let rest: [u8; 2] = cut.read()?;
    let flags: [u8; 2] = cut.read()?;
    let crc: [u8; 4] = cut.read()?;
    if !MAGIC.ends_with(&rest) || crc32fast::hash(&flags) != u32::from_le_bytes(crc) {
        return Err(invalid("the stream header is damaged"));
    }
    let check = match flags {
        [0, 0] => 0,
        [0, kind @ 1..=15] => 4 << ((kind - 1) / 3),
        _ => return Err(invalid("reserved bits of the stream header are set")),
    };
    let mut bytes = [0; HEADER];
    bytes[..4].copy_from_slice(&start);
    bytes[4..6].copy_from_slice(&rest);
    bytes[6..8].copy_from_slice(&flags);
    bytes[8..].copy_from_slice(&crc);
    Ok(Header { bytes, flags, check })
}

/// Passes on a block that starts with this byte.
fn block(cut: &mut Cut<'_>, stream: &Header, first: u8) -> Outcome<Sizes> {
    let length = (u64::from(first) + 1) * ALIGNMENT;
    let mut header = vec![first; length as usize];
    cut.read_into(&mut header[1..])?;
    let window = window(&header).ok_or_else(|| invalid("a block header is damaged"))?;
    cut.start_if_full(Kind::Stream(Format::Xz), window)?;
    cut.put(Bytes::copy_from_slice(&stream.bytes))?;
    cut.pass(0)?;
    let (compressed, decoded) = chunks(cut)?;
    cut.pass(compressed.next_multiple_of(ALIGNMENT) - compressed + stream.check)?;
    cut.grow(decoded);
    let sizes = Sizes { unpadded: length + compressed + stream.check, decoded };
    let mut end = sizes.index_of_one();
    end.extend(footer(end.len() as u64, stream.flags)?);
    cut.put(end.into())?;
    Ok(sizes)
}

/// How far back the block behind this header may refer, bytes; none if the header is damaged, or
/// not one of LZMA2.
fn window(header: &[u8]) -> Option<u64> {
    /// Flags of the sizes that a header may have.
    const SIZES: [u8; 2] = [1 << 6, 1 << 7];
    let (checked, crc) = header.split_last_chunk()?;
    if crc32fast::hash(checked) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (&[_, flags], fields) = checked.split_first_chunk()?;
    let mut fields = fields.iter();
    for _ in SIZES.iter().filter(|size| flags & **size != 0) {
        number(&mut fields)?;
    }
    let filters = (flags & 3) + 1;
    for _ in 1..filters {
        let (_filter, length) = (number(&mut fields)?, number(&mut fields)?);
        fields = fields.as_slice().get(usize::try_from(length).ok()?..)?.iter();
    }
    let last = (number(&mut fields)?, number(&mut fields)?);
    (last == (LZMA2, 1)).then(|| fields.next().copied().map(dictionary))?
}

/// The size of the dictionary that the property of LZMA2 tells, bytes.
fn dictionary(property: u8) -> u64 {
    u64::from(2 | (property & 1)) << (property / 2 + 11).min(32)
}

/// Passes on the chunks of a block, and tells how many bytes they have, compressed and decoded.
fn chunks(cut: &mut Cut<'_>) -> Outcome<(u64, u64)> {
    let before = cut.offset();
    let mut decoded = 0;
    loop {
        let [control] = cut.read()?;
        let (length, becomes) = match control {
            0 => break,
            1 | 2 => {
                let length = u64::from(u16::from_be_bytes(cut.read()?)) + 1;
                (length, length)
            }
            0x80.. => {
                let low = u16::from_be_bytes(cut.read()?);
                let length = u64::from(u16::from_be_bytes(cut.read()?)) + 1;
                let properties = u64::from(control >= 0xc0);
                let high = u64::from(control & 0x1f) << 16;
                (properties + length, high + u64::from(low) + 1)
            }
            _ => return Err(invalid("a chunk is of a type that is not defined")),
        };
        cut.pass(length)?;
        decoded += becomes;
    }
    cut.pass(0)?;
    Ok((cut.offset() - before, decoded))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::unpack::tests::{
        assert_cuts_are_found, assert_flip_is_found, content, unpack,
    };
    use super::*;

    /// A stream in blocks of a size.
    fn blocks(content: &[u8], size: usize, preset: u32) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), preset);
        for block in content.chunks(size) {
            encoder.write_all(block).unwrap();
            // Ends the block.
            encoder.flush().unwrap();
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn what_xz_itself_made_decodes() {
        let content = content(200_000);
        let streams = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/xz");
        let mut tried = 0;
        for stream in streams.read_dir().unwrap() {
            let path = stream.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            assert!(unpack(&bytes, 777).unwrap() == content, "{}", path.display());
            tried += 1;
        }
        assert!(tried >= 6, "found {tried} streams");
    }

    #[test]
    fn blocks_of_any_size_decode_from_chunks_of_any_size() {
        let mut content = content(3 << 20);
        content.resize(7 << 20, 0);
        content.extend((0..2_u64 << 20).map(|i| (i.wrapping_mul(i * 77) >> 9) as u8));
        for size in [100_000, 5 << 20] {
            let bytes = blocks(&content, size, 0);
            for chunk in [1000, 64 << 10, 4 << 20] {
                assert!(unpack(&bytes, chunk).unwrap() == content, "blocks of {size}");
            }
        }
    }

    #[test]
    fn blocks_cut_anywhere_are_an_error() {
        let content = content(5000);
        let mut bytes = blocks(&content[..3000], 1000, 0);
        let first = (bytes.len(), 3000);
        bytes.extend([0; 8]);
        let padded = [first, (first.0 + 4, 3000), (first.0 + 8, 3000)];
        bytes.extend(blocks(&content[3000..], 1500, 0));
        assert_cuts_are_found(&bytes, &padded);
    }

    #[test]
    fn an_end_that_is_not_that_of_the_stream_is_an_error() {
        let content = content(200_000);
        let end = |bytes: &[u8]| {
            let backward = bytes[bytes.len() - 8..].first_chunk().unwrap();
            bytes.len() - 12 - (u32::from_le_bytes(*backward) as usize + 1) * 4
        };
        let (mut one, other) = (blocks(&content, 50_000, 0), blocks(&content, 40_000, 0));
        one.truncate(end(&one));
        one.extend(&other[end(&other)..]);
        let error = unpack(&one, 5000).unwrap_err().to_string();
        assert!(error.contains("the index is not that of the blocks"), "{error}");
        let mut none = blocks(&[], 1, 0);
        none.truncate(end(&none));
        none.extend(&other[end(&other)..]);
        assert!(unpack(&none, 5000).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_flipped_bit_never_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let content = content(100_000);
            let bytes = blocks(&content, 30_000, 0);
            assert_flip_is_found(bytes, &content, at, bit);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let stream = blocks(b"abc", 3, 0);
            // Behind a header, within a block, before the footer, and behind it.
            for length in [HEADER, HEADER + 13, stream.len() - 12, stream.len()] {
                let _ = unpack(&[&stream[..length], &bytes].concat(), 1000);
            }
        }
    }
}
