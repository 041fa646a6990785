//! The lz4 frame format (lz4_Frame_format.md 1.6.4) around lz4_flex's block decoder.
//!
//! lz4_flex's own frame decoder takes a stream that is cut between two blocks for its end; here
//! only an end mark, and nothing of another frame after it, is an end. Blocks that do not depend
//! on each other are decoded into the caller's buffer, without a copy.

use std::hash::Hasher;
use std::io::{self, BufRead, Read};

use lz4_flex::block::{decompress_into, decompress_into_with_dict};
use twox_hash::XxHash32;

use super::format::skippable_length;

const MAGIC: u32 = 0x184d_2204;

/// How far back a linked block may refer.
const WINDOW: usize = 64 * 1024;

/// Set in a block's size if the block is stored as it is.
const STORED: u32 = 1 << 31;

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

/// A frame being decoded.
struct Frame {
    header: Header,
    length: u64,
    hasher: XxHash32,
}

/// Decodes frames one after the other.
pub(super) struct Decoder<R> {
    input: R,
    frame: Option<Frame>,
    compressed: Vec<u8>,
    /// Decoded bytes: the window of a linked frame, then the block that is being handed out.
    decoded: Vec<u8>,
    ready: std::ops::Range<usize>,
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, frame: None, compressed: Vec::new(), decoded: Vec::new(), ready: 0..0 }
    }

    fn word(&mut self) -> io::Result<u32> {
        let mut word = [0; 4];
        self.input.read_exact(&mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    /// Starts the next frame; `false` if there is none.
    fn start_frame(&mut self) -> io::Result<bool> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let magic = self.word()?;
        if magic != MAGIC {
            let mut head = magic.to_le_bytes().to_vec();
            head.extend([0; 4]);
            if skippable_length(&head).is_none() {
                return Err(invalid("bytes that are no frame follow a frame"));
            }
            let length = u64::from(self.word()?);
            let skipped = io::copy(&mut (&mut self.input).take(length), &mut io::sink())?;
            return if skipped == length {
                Ok(true)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        let mut bytes = [0; MAX_DESCRIPTOR];
        self.input.read_exact(&mut bytes[..3])?;
        // Of the optional fields only the content size comes without a dictionary.
        let length = if bytes[0] & (1 << 3) != 0 { 11 } else { 3 };
        self.input.read_exact(&mut bytes[3..length])?;
        let (header, _) = Header::parse(&bytes[..length])?;
        self.decoded.clear();
        self.ready = 0..0;
        self.frame = Some(Frame { header, length: 0, hasher: XxHash32::with_seed(0) });
        Ok(true)
    }

    /// Decodes the next block into `into` if it may be whole there, else into `decoded`. Gives how
    /// many bytes are in `into`.
    fn next_block(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let size = self.word()?;
        let Some(frame) = &mut self.frame else { return Ok(0) };
        let header = frame.header;
        if size == 0 {
            return self.end_frame().map(|()| 0);
        }
        let length = (size & !STORED) as usize;
        if length > header.block_max {
            return Err(invalid(&format!(
                "a block of {length} bytes in a frame of at most {}",
                header.block_max
            )));
        }
        self.compressed.resize(length, 0);
        self.input.read_exact(&mut self.compressed)?;
        if header.block_checksums {
            let mut expected = [0; 4];
            self.input.read_exact(&mut expected)?;
            let found = XxHash32::oneshot(0, &self.compressed);
            compare("block", u32::from_le_bytes(expected), found)?;
        }
        let direct = header.independent && into.len() >= header.block_max;
        let (window, place) = if direct {
            (&[][..], &mut into[..header.block_max])
        } else {
            // The window is what the block before left at the end of `decoded`.
            let keep = if header.independent { 0 } else { self.ready.end.min(WINDOW) };
            self.decoded.copy_within(self.ready.end - keep..self.ready.end, 0);
            self.decoded.resize(keep + header.block_max, 0);
            self.ready = keep..keep;
            let (window, place) = self.decoded.split_at_mut(keep);
            (&*window, place)
        };
        let length = if size & STORED != 0 {
            place[..length].copy_from_slice(&self.compressed);
            length
        } else if window.is_empty() {
            decompress_into(&self.compressed, place).map_err(|e| invalid(&e.to_string()))?
        } else {
            decompress_into_with_dict(&self.compressed, place, window)
                .map_err(|e| invalid(&e.to_string()))?
        };
        frame.length += length as u64;
        if header.content_checksum {
            frame.hasher.write(&place[..length]);
        }
        if direct {
            return Ok(length);
        }
        self.ready.end += length;
        Ok(0)
    }

    fn end_frame(&mut self) -> io::Result<()> {
        let Some(frame) = self.frame.take() else { return Ok(()) };
        if frame.header.content_checksum {
            let expected = self.word()?;
            compare("content", expected, frame.hasher.finish_32())?;
        }
        match frame.header.content_size {
            Some(expected) if expected != frame.length => Err(invalid(&format!(
                "expected {expected} bytes in the frame, found {}",
                frame.length
            ))),
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.ready.is_empty() {
                let length = self.ready.len().min(into.len());
                let from = self.ready.start;
                into[..length].copy_from_slice(&self.decoded[from..from + length]);
                self.ready.start += length;
                return Ok(length);
            }
            if self.frame.is_none() {
                if !self.start_frame()? {
                    return Ok(0);
                }
                continue;
            }
            let direct = self.next_block(into)?;
            if direct > 0 {
                return Ok(direct);
            }
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

    fn decode(bytes: &[u8], buffer: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(bytes);
        let (mut all, mut buffer) = (Vec::new(), vec![0; buffer]);
        loop {
            match decoder.read(&mut buffer)? {
                0 => return Ok(all),
                length => all.extend_from_slice(&buffer[..length]),
            }
        }
    }

    #[test]
    fn every_kind_of_frame_decodes_into_buffers_of_any_size() {
        let content = content(700_000);
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max4MB] {
                let bytes = encode(&content, mode, size, true);
                for buffer in [1000, 64 << 10, 4 << 20] {
                    assert!(decode(&bytes, buffer).unwrap() == content, "{mode:?} {size:?}");
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
