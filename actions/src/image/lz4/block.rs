//! Blocks of a frame: read in order, decoded anywhere if they are independent.

use std::io;

use bytes::Bytes;
use lz4_flex::block::{decompress_into, decompress_into_with_dict};
use twox_hash::XxHash32;

use super::{Header, compare, invalid, word};
use crate::image::buffer::Buffer;
use crate::image::chunks::ChunkReader;
use crate::image::zeros::all_zero;

/// How far back a linked block may refer.
const WINDOW: usize = 64 * 1024;

/// Set in a block's size if the block is stored as it is.
const STORED: u32 = 1 << 31;

/// A block has to shrink at least so much before its bytes are looked at for zeros: those of zeros
/// shrink to a 250th.
const BLANK_RATIO: usize = 128;

/// A block as served.
pub(super) struct Block {
    parts: Vec<Bytes>,
    length: usize,
    is_stored: bool,
    checksum: Option<u32>,
}

impl Block {
    /// Reads a block; none if there is an end mark instead.
    pub(super) fn read(input: &mut ChunkReader, header: Header) -> io::Result<Option<Self>> {
        let size = word(input)?;
        if size == 0 {
            return Ok(None);
        }
        let length = (size & !STORED) as usize;
        if length > header.block_max {
            return Err(invalid(&format!(
                "a block of {length} bytes in a frame of at most {}",
                header.block_max
            )));
        }
        let parts = input.take_parts(length)?;
        let checksum = header.block_checksums.then(|| word(input)).transpose()?;
        Ok(Some(Self { parts, length, is_stored: size & STORED != 0, checksum }))
    }
}

/// What decoding needs again and again.
#[derive(Default)]
pub(in crate::image) struct Scratch {
    joined: Vec<u8>,
    /// A block that was found to be nothing but zeros, and how many: images are full of the same.
    blank: Option<(Vec<u8>, usize)>,
}

/// Consecutive blocks of one frame, and the buffer that takes them all.
pub(in crate::image) struct Blocks {
    blocks: Vec<Block>,
    block_max: usize,
    buffer: Buffer,
}

impl Blocks {
    /// Blocks that fit into the buffer even if each of them is as long as its frame allows.
    pub(super) fn new(blocks: Vec<Block>, header: Header, buffer: Buffer) -> Self {
        Self { blocks, block_max: header.block_max, buffer }
    }

    /// Decodes the blocks into their buffer. `window`: what was decoded before, if they are linked.
    pub(in crate::image) fn decode(
        self,
        scratch: &mut Scratch,
        mut window: Option<&mut Vec<u8>>,
    ) -> io::Result<Buffer> {
        let Self { blocks, block_max, mut buffer } = self;
        let mut filled = 0;
        buffer.set_blank(0);
        for block in blocks {
            let bytes = join(block.parts, block.length, &mut scratch.joined);
            let bytes = &*bytes;
            if let Some(expected) = block.checksum {
                compare("block", expected, XxHash32::oneshot(0, bytes))?;
            }
            let known =
                scratch.blank.as_ref().filter(|(known, _)| window.is_none() && known == bytes);
            if let Some((_, zeros)) = known {
                if buffer.is_blank() {
                    buffer.set_blank(filled + zeros);
                } else {
                    buffer.whole()[filled..filled + zeros].fill(0);
                    buffer.set_filled(filled + zeros);
                }
                filled += zeros;
                continue;
            }
            let was_blank = buffer.is_blank();
            let place = &mut buffer.whole()[filled..filled + block_max];
            let length = match &window {
                _ if block.is_stored => {
                    place[..bytes.len()].copy_from_slice(bytes);
                    Ok(bytes.len())
                }
                Some(window) => decompress_into_with_dict(bytes, place, window),
                None => decompress_into(bytes, place),
            };
            let length = length.map_err(|error| invalid(&error.to_string()))?;
            let decoded = &place[..length];
            let is_zero = bytes.len() <= length / BLANK_RATIO && all_zero(decoded);
            if let Some(window) = &mut window {
                slide(window, decoded);
            } else if is_zero {
                scratch.blank = Some((bytes.to_vec(), length));
            }
            filled += length;
            match was_blank && is_zero {
                true => buffer.set_blank(filled),
                false => buffer.set_filled(filled),
            }
        }
        Ok(buffer)
    }
}

/// Joins the parts of a block, and copies them only if there are several.
fn join<'a>(parts: Vec<Bytes>, length: usize, joined: &'a mut Vec<u8>) -> Joined<'a> {
    match <[Bytes; 1]>::try_from(parts) {
        Ok([one]) => Joined::One(one),
        Err(parts) => {
            joined.clear();
            joined.reserve(length);
            parts.iter().for_each(|part| joined.extend_from_slice(part));
            Joined::Copy(joined)
        }
    }
}

enum Joined<'a> {
    One(Bytes),
    Copy(&'a [u8]),
}

impl std::ops::Deref for Joined<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::One(bytes) => bytes,
            Self::Copy(bytes) => bytes,
        }
    }
}

/// Keeps the last bytes decoded.
fn slide(window: &mut Vec<u8>, decoded: &[u8]) {
    let fresh = &decoded[decoded.len().saturating_sub(WINDOW)..];
    let old = (window.len() + fresh.len()).saturating_sub(WINDOW);
    window.drain(..old);
    window.extend_from_slice(fresh);
}
