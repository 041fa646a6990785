//! Taking a stream of zstd frames apart (RFC 8878, section 3.1.1): where a frame ends is told by the
//! headers of its blocks. What is in them, and their checksums, are the library's to check.

use super::cut::{Cut, Outcome, invalid};
use super::format::Format;
use super::workers::Kind;

const MAGIC: [u8; 4] = *b"\x28\xb5\x2f\xfd";

/// The longest block, bytes, decoded.
const MAX_BLOCK: u64 = 128 << 10;

/// What a frame's header tells.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    /// How far back its blocks may refer, bytes.
    window: u64,
    has_checksum: bool,
}

/// Makes a unit of every frame, or of several that are small.
pub(super) fn take_apart(cut: &mut Cut<'_>) -> Outcome<()> {
    while cut.next_frame(MAGIC)? {
        let header = header(cut)?;
        cut.start_if_full(Kind::Stream(Format::Zstd), header.window)?;
        while !block(cut, header.window.min(MAX_BLOCK))? {}
        cut.pass(if header.has_checksum { 4 } else { 0 })?;
    }
    Ok(())
}

fn header(cut: &mut Cut<'_>) -> Outcome<Header> {
    let [descriptor] = cut.read()?;
    let has = |bit: u8| descriptor & (1 << bit) != 0;
    if has(3) {
        return Err(invalid("a reserved bit of the frame header is set"));
    }
    let is_one_segment = has(5);
    let window = if is_one_segment { None } else { Some(window(u8::from_le_bytes(cut.read()?))) };
    let mut dictionary = [0; 4];
    cut.read_into(&mut dictionary[..[0, 1, 2, 4][usize::from(descriptor & 3)]])?;
    if dictionary != [0; 4] {
        return Err(invalid("it needs a dictionary, and none is known"));
    }
    let content_size = match (descriptor >> 6, is_one_segment) {
        (0, false) => 0,
        (0, true) => u64::from(u8::from_le_bytes(cut.read()?)),
        (1, _) => u64::from(u16::from_le_bytes(cut.read()?)) + 256,
        (2, _) => u64::from(u32::from_le_bytes(cut.read()?)),
        _ => u64::from_le_bytes(cut.read()?),
    };
    Ok(Header { window: window.unwrap_or(content_size), has_checksum: has(2) })
}

/// The size of the window that a descriptor tells.
fn window(descriptor: u8) -> u64 {
    let base = 1 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

/// Passes a block on, and says whether it was the last one. `most`: what one decodes to at most.
fn block(cut: &mut Cut<'_>, most: u64) -> Outcome<bool> {
    let [a, b, c] = cut.read()?;
    let header = u32::from_le_bytes([a, b, c, 0]);
    let size = u64::from(header >> 3);
    let (length, decoded) = match (header >> 1) & 3 {
        0 => (size, size),
        // One byte, repeated.
        1 => (1, size),
        2 => (size, most),
        _ => return Err(invalid("a block is of a type that is not defined")),
    };
    if size > MAX_BLOCK {
        return Err(invalid(&format!("a block of {size} bytes in a frame of at most {MAX_BLOCK}")));
    }
    cut.pass(length)?;
    cut.grow(decoded);
    Ok(header & 1 != 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::super::buffer::BUFFER;
    use super::super::unpack::tests::{
        assert_cuts_are_found, assert_flip_is_found, content, unpack,
    };

    /// What a frame is like.
    #[derive(Debug, Clone, Copy)]
    struct Kind {
        level: i32,
        checksum: bool,
        sized: bool,
        window_log: Option<u32>,
    }

    const PLAIN: Kind = Kind { level: 1, checksum: true, sized: false, window_log: None };

    fn frame(content: &[u8], kind: Kind) -> Vec<u8> {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), kind.level).unwrap();
        encoder.include_checksum(kind.checksum).unwrap();
        encoder.include_contentsize(kind.sized).unwrap();
        if kind.sized {
            encoder.set_pledged_src_size(Some(content.len() as u64)).unwrap();
        }
        if let Some(log) = kind.window_log {
            encoder.window_log(log).unwrap();
        }
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// Frames as pzstd makes them: each behind one that says how long it is.
    fn frames(content: &[u8], size: usize, kind: Kind) -> Vec<u8> {
        let framed = content.chunks(size).flat_map(|part| {
            let frame = frame(part, kind);
            let mut bytes = b"\x50\x2a\x4d\x18\x04\0\0\0".to_vec();
            bytes.extend((frame.len() as u32).to_le_bytes());
            bytes.extend(frame);
            bytes
        });
        framed.collect()
    }

    #[test]
    fn every_kind_of_frame_decodes_from_chunks_of_any_size() {
        // Blocks of each type: compressed, of one byte, and stored.
        let mut content = content(3 << 20);
        content.resize(6 << 20, 0);
        content.extend((0..3_u64 << 20).map(|i| (i.wrapping_mul(i * 77) >> 9) as u8));
        for kind in [
            PLAIN,
            Kind { sized: true, ..PLAIN },
            Kind { level: -7, checksum: false, ..PLAIN },
            Kind { window_log: Some(10), ..PLAIN },
            Kind { level: 19, window_log: Some(24), ..PLAIN },
        ] {
            for size in [100_000, BUFFER, content.len()] {
                let bytes = frames(&content, size, kind);
                for chunk in [1000, 64 << 10, 4 << 20] {
                    assert!(unpack(&bytes, chunk).unwrap() == content, "{kind:?} of {size}");
                }
            }
        }
    }

    #[test]
    fn frames_cut_anywhere_are_an_error() {
        let content = content(9000);
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for (index, part) in content.chunks(3000).enumerate() {
            bytes.extend(frame(part, Kind { sized: index == 1, ..PLAIN }));
            ends.push((bytes.len(), 3000 * (index + 1)));
        }
        assert_cuts_are_found(&bytes, &ends);
    }

    #[test]
    fn a_frame_that_needs_a_dictionary_is_refused() {
        let mut bytes = frame(b"abc", PLAIN);
        // The flag of an identifier of one byte, behind the window's descriptor.
        bytes[4] |= 1;
        bytes.insert(6, 9);
        let error = unpack(&bytes, 100).unwrap_err().to_string();
        assert!(error.contains("it needs a dictionary"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_flipped_bit_never_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let content = content(150_000);
            let bytes = frames(&content, 40_000, PLAIN);
            assert_flip_is_found(bytes, &content, at, bit);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            bytes.splice(0..0, super::MAGIC);
            let _ = unpack(&bytes, 1000);
            let mut second = frame(b"abc", PLAIN);
            second.append(&mut bytes);
            let _ = unpack(&second, 1000);
        }
    }
}
