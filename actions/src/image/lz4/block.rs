//! Blocks of a frame, decoded into buffers.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use lz4_flex::block::{decompress_into, decompress_into_with_dict};
use twox_hash::XxHash32;

use super::{Header, compare, invalid};
use crate::image::buffer::{BUFFER, Buffer};
use crate::image::chunks::ChunkReader;
use crate::image::cut::Outcome;
use crate::image::workers::Basin;
use crate::image::zeros::all_zero;

/// How far back a linked block may refer.
const WINDOW: usize = 64 * 1024;

/// Set in a block's size if the block is stored as it is.
const STORED: u32 = 1 << 31;

/// A block has to shrink at least so much before its bytes are looked at for zeros: those of zeros
/// shrink to a 250th.
const BLANK_RATIO: usize = 128;

/// What a block starts with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length {
    pub(super) bytes: usize,
    is_stored: bool,
}

impl Length {
    /// None if it is an end mark instead.
    pub(super) fn read(word: [u8; 4], header: Header) -> io::Result<Option<Self>> {
        let size = u32::from_le_bytes(word);
        let bytes = (size & !STORED) as usize;
        if bytes > header.block_max {
            return Err(invalid(&format!(
                "a block of {bytes} bytes in a frame of at most {}",
                header.block_max
            )));
        }
        Ok((size != 0).then_some(Self { bytes, is_stored: size & STORED != 0 }))
    }
}

/// A block as served.
struct Block {
    parts: Vec<Bytes>,
    length: Length,
    checksum: Option<u32>,
}

impl Block {
    /// Reads a block; none at the end of the unit.
    fn read(input: &mut ChunkReader, header: Header) -> io::Result<Option<Self>> {
        if input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let Some(length) = Length::read(word(input)?, header)? else { return Ok(None) };
        let parts = input.take_parts(length.bytes)?;
        let checksum = header.block_checksums.then(|| word(input)).transpose()?;
        Ok(Some(Self { parts, length, checksum: checksum.map(u32::from_le_bytes) }))
    }
}

fn word(input: &mut ChunkReader) -> io::Result<[u8; 4]> {
    let mut word = [0; 4];
    input.read_exact(&mut word)?;
    Ok(word)
}

/// What decoding needs again and again.
#[derive(Default)]
pub(in crate::image) struct Scratch {
    joined: Vec<u8>,
    /// The last bytes of a linked frame, to which its next block may refer.
    window: Vec<u8>,
    /// A block that was found to be nothing but zeros, and how many: images are full of the same.
    blank: Option<(Vec<u8>, usize)>,
}

/// Decodes the blocks of a unit.
pub(in crate::image) fn decode(
    input: &mut ChunkReader,
    header: Header,
    scratch: &mut Scratch,
    basin: &Basin<'_>,
) -> Outcome<()> {
    scratch.window.clear();
    let mut current: Option<Buffer> = None;
    while let Some(block) = Block::read(input, header)? {
        let has_room = |buffer: &Buffer| buffer.filled().len() + header.block_max <= BUFFER;
        if let Some(full) = current.take_if(|buffer| !has_room(buffer)) {
            basin.put(full)?;
        }
        let buffer = match &mut current {
            Some(buffer) => buffer,
            none => {
                let buffer = none.insert(basin.take()?);
                buffer.set_blank(0);
                buffer
            }
        };
        decode_block(block, header, scratch, buffer)?;
    }
    current.map_or(Ok(()), |last| basin.put(last))
}

/// Decodes a block behind what is filled of a buffer that has room for it.
fn decode_block(
    block: Block,
    header: Header,
    scratch: &mut Scratch,
    buffer: &mut Buffer,
) -> io::Result<()> {
    let bytes = join(block.parts, block.length.bytes, &mut scratch.joined);
    let bytes = &*bytes;
    if let Some(expected) = block.checksum {
        compare("block", expected, XxHash32::oneshot(0, bytes))?;
    }
    let (filled, was_blank) = (buffer.filled().len(), buffer.is_blank());
    let may_be_blank = header.independent && !block.length.is_stored;
    let known = scratch.blank.as_ref().filter(|(known, _)| may_be_blank && known == bytes);
    if let Some((_, zeros)) = known {
        if was_blank {
            buffer.set_blank(filled + zeros);
        } else {
            buffer.whole()[filled..filled + zeros].fill(0);
            buffer.set_filled(filled + zeros);
        }
        return Ok(());
    }
    let place = &mut buffer.whole()[filled..filled + header.block_max];
    let length = match header.independent {
        _ if block.length.is_stored => {
            place[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        }
        true => decompress_into(bytes, place),
        false => decompress_into_with_dict(bytes, place, &scratch.window),
    };
    let length = length.map_err(|error| invalid(&error.to_string()))?;
    let decoded = &place[..length];
    let is_zero = bytes.len() <= length / BLANK_RATIO && all_zero(decoded);
    if !header.independent {
        slide(&mut scratch.window, decoded);
    } else if is_zero && may_be_blank {
        scratch.blank = Some((bytes.to_vec(), length));
    }
    match was_blank && is_zero {
        true => buffer.set_blank(filled + length),
        false => buffer.set_filled(filled + length),
    }
    Ok(())
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
