//! The lz4 frame format (lz4_Frame_format.md 1.6.4) around lz4_flex's block decoder.
//!
//! lz4_flex's own frame decoder takes a stream that is cut between two blocks for its end; here
//! only an end mark, and nothing of another frame after it, is an end.
//!
//! All cores can take part: [`take_apart`] makes units of blocks that do not depend on each other,
//! they are [decoded](decode) anywhere, and a [`Check`] sees the bytes of a frame in order again.

mod block;

use std::hash::Hasher;
use std::io;

use twox_hash::XxHash32;

use self::block::Length;
pub(super) use self::block::{Scratch, decode};
use super::buffer::BUFFER;
use super::cut::{Cut, Outcome};
use super::workers::Kind;

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

/// The longest descriptor: flags, block descriptor, content size, dictionary id, checksum.
const MAX_DESCRIPTOR: usize = 2 + 8 + 4 + 1;

/// A frame's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    block_max: usize,
    independent: bool,
    block_checksums: bool,
    content_checksum: bool,
    pub(super) content_size: Option<u64>,
}

impl Header {
    /// Reads a descriptor that follows the magic. Needs it whole; more may follow.
    fn parse(bytes: &[u8]) -> io::Result<(Self, usize)> {
        let &[flags, blocks, ..] = bytes else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        if flags >> 6 != 1 {
            return Err(invalid("its version is not 1"));
        }
        let has = |bit: u8| flags & (1 << bit) != 0;
        if has(1) || blocks & 0x8f != 0 {
            return Err(invalid("reserved bits of the frame header are set"));
        }
        if has(0) {
            return Err(invalid("it needs a dictionary, and none is known"));
        }
        let size_length = if has(3) { 8 } else { 0 };
        let checked = 2 + size_length;
        let Some(&checksum) = bytes.get(checked) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if (XxHash32::oneshot(0, &bytes[..checked]) >> 8) as u8 != checksum {
            return Err(invalid("the checksum of the frame header is wrong"));
        }
        let block_max = match (blocks >> 4) & 7 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            other => return Err(invalid(&format!("block size code {other} is not defined"))),
        };
        let content_size = bytes[2..checked].try_into().ok().map(u64::from_le_bytes);
        let header = Self {
            block_max,
            independent: has(5),
            block_checksums: has(4),
            content_checksum: has(2),
            content_size,
        };
        Ok((header, checked + 1))
    }

    /// How many blocks fill a buffer, or are decoded one after the other.
    fn blocks_of_unit(&self) -> usize {
        if self.independent { BUFFER / self.block_max } else { usize::MAX }
    }

    /// The descriptor of the frame that these bytes start, if they hold it whole.
    pub(super) fn peek(head: &[u8]) -> Option<Self> {
        let rest = head.strip_prefix(&MAGIC)?;
        Self::parse(rest).ok().map(|(header, _)| header)
    }
}

/// Makes units of as many independent blocks as fill a buffer, and one of all blocks of a frame if
/// they depend on each other.
pub(super) fn take_apart(cut: &mut Cut<'_>) -> Outcome<()> {
    while cut.next_frame(MAGIC)? {
        let header = header(cut)?;
        cut.drop_read()?;
        cut.check(Check::new(header))?;
        let mut blocks = 0;
        while let Some(length) = Length::read(cut.read()?, header)? {
            if blocks % header.blocks_of_unit() == 0 {
                cut.start(Kind::Lz4(header), 0)?;
            }
            let checksum = if header.block_checksums { 4 } else { 0 };
            cut.pass(length.bytes as u64 + checksum)?;
            cut.grow(header.block_max as u64);
            blocks += 1;
        }
        let checksum = header.content_checksum.then(|| cut.read()).transpose()?;
        cut.drop_read()?;
        cut.checked(checksum.map(u32::from_le_bytes))?;
    }
    Ok(())
}

fn header(cut: &mut Cut<'_>) -> Outcome<Header> {
    let mut bytes = [0; MAX_DESCRIPTOR];
    cut.read_into(&mut bytes[..3])?;
    // Of the optional fields only the content size comes without a dictionary.
    let length = if bytes[0] & (1 << 3) != 0 { 11 } else { 3 };
    cut.read_into(&mut bytes[3..length])?;
    Ok(Header::parse(&bytes[..length])?.0)
}

/// What the decoded bytes of one frame have to be.
pub(super) struct Check {
    expected: Option<u64>,
    length: u64,
    hasher: Option<XxHash32>,
}

impl Check {
    pub(super) fn new(header: Header) -> Self {
        let hasher = header.content_checksum.then(|| XxHash32::with_seed(0));
        Self { expected: header.content_size, length: 0, hasher }
    }

    pub(super) fn update(&mut self, decoded: &[u8]) {
        self.length += decoded.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.write(decoded);
        }
    }

    pub(super) fn finish(self, checksum: Option<u32>) -> io::Result<()> {
        if let (Some(hasher), Some(expected)) = (self.hasher, checksum) {
            compare("content", expected, hasher.finish_32())?;
        }
        match self.expected {
            Some(expected) if expected != self.length => Err(invalid(&format!(
                "expected {expected} bytes in the frame, found {}",
                self.length
            ))),
            _ => Ok(()),
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn compare(of: &str, expected: u32, found: u32) -> io::Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(invalid(&format!("expected {of} checksum {expected:08x}, found {found:08x}")))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use proptest::prelude::*;

    use super::super::unpack::tests::{assert_flip_is_found, content, unpack};
    use super::*;

    fn encode(content: &[u8], mode: BlockMode, size: BlockSize, sized: bool) -> Vec<u8> {
        let info = FrameInfo::new()
            .block_mode(mode)
            .block_size(size)
            .block_checksums(true)
            .content_checksum(true)
            .content_size(sized.then_some(content.len() as u64));
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_kind_of_frame_decodes_from_chunks_of_any_size() {
        let mut content = content(700_000);
        content.resize(10 << 20, 0);
        content.extend_from_within(..100_000);
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max4MB] {
                let bytes = encode(&content, mode, size, true);
                for chunk in [1000, 64 << 10, 4 << 20] {
                    assert!(unpack(&bytes, chunk).unwrap() == content, "{mode:?} {size:?}");
                }
            }
        }
    }

    #[test]
    fn frames_follow_each_other_with_skippable_ones_between() {
        let mut bytes = encode(b"one ", BlockMode::Linked, BlockSize::Max64KB, false);
        bytes.extend(b"\x5f\x2a\x4d\x18\x03\0\0\0abc");
        bytes.extend(encode(b"two", BlockMode::Independent, BlockSize::Max64KB, true));
        assert_eq!(unpack(&bytes, 100).unwrap(), b"one two");
        bytes.extend(b"more");
        assert!(unpack(&bytes, 100).is_err());
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error() {
        let content: Vec<u8> = (0..70_000).map(|i| (i / 97) as u8).collect();
        let bytes = encode(&content, BlockMode::Linked, BlockSize::Max64KB, false);
        for cut in MAGIC.len()..bytes.len() {
            assert!(unpack(&bytes[..cut], 8 << 10).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_header_tells_the_size_of_the_content() {
        let bytes = encode(b"abc", BlockMode::Independent, BlockSize::Max4MB, true);
        assert_eq!(Header::peek(&bytes).unwrap().content_size, Some(3));
        assert_eq!(Header::peek(&bytes[..8]), None);
        let bytes = encode(b"abc", BlockMode::Independent, BlockSize::Max4MB, false);
        assert_eq!(Header::peek(&bytes).unwrap().content_size, None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_flipped_bit_never_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let content = content(150_000);
            let bytes = encode(&content, BlockMode::Independent, BlockSize::Max64KB, true);
            assert_flip_is_found(bytes, &content, at, bit);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = unpack(&bytes, 1000);
            let mut frame = encode(b"", BlockMode::Linked, BlockSize::Max64KB, false);
            frame.truncate(7);
            frame.append(&mut bytes);
            let _ = unpack(&frame, 1000);
        }
    }
}
