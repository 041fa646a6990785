//! The lz4 frame format (lz4_Frame_format.md 1.6.4) around lz4_flex's block decoder.
//!
//! lz4_flex's own frame decoder takes a stream that is cut between two blocks for its end; here
//! only an end mark, and nothing of another frame after it, is an end.
//!
//! Decoding is in three parts, so that all cores can take part: a [`Splitter`] takes frames apart,
//! [`Blocks`] that do not depend on each other are decoded anywhere, and a [`Check`] sees their
//! bytes in order again.

mod block;

use std::hash::Hasher;
use std::io::{self, BufRead, Read};

use twox_hash::XxHash32;

use self::block::Block;
pub(super) use self::block::{Blocks, Scratch};
use super::buffer::{BUFFER, Buffer};
use super::chunks::ChunkReader;
use super::format::skippable_length;

const MAGIC: u32 = 0x184d_2204;

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

    /// The descriptor of the frame that these bytes start, if they hold it whole.
    pub(super) fn peek(head: &[u8]) -> Option<Self> {
        let rest = head.strip_prefix(&MAGIC.to_le_bytes())?;
        Self::parse(rest).ok().map(|(header, _)| header)
    }
}

/// A frame being taken apart.
struct Frame {
    header: Header,
    /// The last bytes of a linked frame, to which its next block may refer.
    window: Vec<u8>,
    /// Whether its end mark has been read.
    ended: bool,
}

/// One step through a stream of frames, in order.
pub(super) enum Step {
    /// Decoded bytes follow, to be checked until the frame ends.
    Start(Header),
    /// Blocks to be decoded, by anybody and at any time.
    Blocks(Blocks),
    /// Blocks that had to be decoded right away, since the next ones refer to them.
    Decoded(Buffer),
    /// A frame ends, and says what its bytes hash to.
    End(Option<u32>),
}

/// Takes a stream of frames apart.
pub(super) struct Splitter<'a> {
    input: &'a mut ChunkReader,
    frame: Option<Frame>,
    scratch: Scratch,
}

impl<'a> Splitter<'a> {
    pub(super) fn new(input: &'a mut ChunkReader) -> Self {
        Self { input, frame: None, scratch: Scratch::default() }
    }

    /// Bytes taken so far.
    pub(super) fn consumed(&self) -> u64 {
        self.input.consumed()
    }

    /// The next step; none at the end of the stream. `take` gives an empty buffer, or none to make
    /// it stop.
    pub(super) fn next(
        &mut self,
        take: &mut dyn FnMut() -> Option<Buffer>,
    ) -> io::Result<Option<Step>> {
        let Some(frame) = &mut self.frame else { return self.start_frame() };
        let header = frame.header;
        let mut blocks = Vec::new();
        while !frame.ended && blocks.len() < BUFFER / header.block_max {
            match Block::read(self.input, header)? {
                Some(block) => blocks.push(block),
                None => frame.ended = true,
            }
        }
        if blocks.is_empty() {
            self.frame = None;
            let checksum = header.content_checksum.then(|| word(self.input)).transpose()?;
            return Ok(Some(Step::End(checksum)));
        }
        let Some(buffer) = take() else { return Ok(None) };
        let blocks = Blocks::new(blocks, header, buffer);
        if header.independent {
            return Ok(Some(Step::Blocks(blocks)));
        }
        blocks.decode(&mut self.scratch, Some(&mut frame.window)).map(|b| Some(Step::Decoded(b)))
    }

    /// Starts the next frame; none if there is none.
    fn start_frame(&mut self) -> io::Result<Option<Step>> {
        loop {
            if self.input.fill_buf()?.is_empty() {
                return Ok(None);
            }
            let magic = word(self.input)?;
            if magic == MAGIC {
                break;
            }
            let mut head = magic.to_le_bytes().to_vec();
            head.extend([0; 4]);
            if skippable_length(&head).is_none() {
                return Err(invalid("bytes that are no frame follow a frame"));
            }
            let length = word(self.input)?;
            self.input.skip(u64::from(length))?;
        }
        let mut bytes = [0; MAX_DESCRIPTOR];
        self.input.read_exact(&mut bytes[..3])?;
        // Of the optional fields only the content size comes without a dictionary.
        let length = if bytes[0] & (1 << 3) != 0 { 11 } else { 3 };
        self.input.read_exact(&mut bytes[3..length])?;
        let (header, _) = Header::parse(&bytes[..length])?;
        self.frame = Some(Frame { header, window: Vec::new(), ended: false });
        Ok(Some(Step::Start(header)))
    }
}

fn word(input: &mut ChunkReader) -> io::Result<u32> {
    let mut word = [0; 4];
    input.read_exact(&mut word)?;
    Ok(u32::from_le_bytes(word))
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

    use super::super::chunks::tests::reader;
    use super::*;

    /// Bytes that compress, but not to nothing.
    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|i| ((i / 7) ^ (i >> 11)) as u8).collect()
    }

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

    /// Decodes what comes in chunks of a size.
    fn decode(bytes: &[u8], chunk: usize) -> io::Result<Vec<u8>> {
        let mut input = reader(bytes, chunk);
        let (mut splitter, mut scratch) = (Splitter::new(&mut input), Scratch::default());
        let (mut all, mut check, mut spare) = (Vec::new(), None, Some(Buffer::new()));
        while let Some(step) = splitter.next(&mut || spare.take())? {
            let buffer = match step {
                Step::Start(header) => {
                    check = Some(Check::new(header));
                    continue;
                }
                Step::End(checksum) => {
                    check.take().unwrap().finish(checksum)?;
                    continue;
                }
                Step::Blocks(blocks) => blocks.decode(&mut scratch, None)?,
                Step::Decoded(buffer) => buffer,
            };
            check.as_mut().unwrap().update(buffer.filled());
            all.extend_from_slice(buffer.filled());
            spare = Some(buffer);
        }
        Ok(all)
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
                    assert!(decode(&bytes, chunk).unwrap() == content, "{mode:?} {size:?}");
                }
            }
        }
    }

    #[test]
    fn frames_follow_each_other_with_skippable_ones_between() {
        let mut bytes = encode(b"one ", BlockMode::Linked, BlockSize::Max64KB, false);
        bytes.extend(b"\x5f\x2a\x4d\x18\x03\0\0\0abc");
        bytes.extend(encode(b"two", BlockMode::Independent, BlockSize::Max64KB, true));
        assert_eq!(decode(&bytes, 100).unwrap(), b"one two");
        bytes.extend(b"more");
        assert!(decode(&bytes, 100).is_err());
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error() {
        let content: Vec<u8> = (0..70_000).map(|i| (i / 97) as u8).collect();
        let bytes = encode(&content, BlockMode::Linked, BlockSize::Max64KB, false);
        for cut in 1..bytes.len() {
            assert!(decode(&bytes[..cut], 8 << 10).is_err(), "cut at {cut}");
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
            let mut bytes = encode(&content, BlockMode::Independent, BlockSize::Max64KB, true);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // A bit that says nothing of the content may differ; the content may not.
            if let Ok(decoded) = decode(&bytes, 64 << 10) {
                prop_assert!(decoded == content);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes, 1000);
            let mut frame = encode(b"", BlockMode::Linked, BlockSize::Max64KB, false);
            frame.truncate(7);
            frame.append(&mut bytes);
            let _ = decode(&frame, 1000);
        }
    }
}
