//! The end of a stream: an index of its blocks, and a footer (The .xz File Format 1.2.1, sections
//! 2.1.2 and 4).

use crc32fast::Hasher;
use sha2::{Digest, Sha256};

use super::ALIGNMENT;
use crate::image::cut::{Cut, Outcome, invalid};

/// What an index starts with, and no block.
pub(super) const INDEX: u8 = 0;

/// Length of a stream's footer, bytes.
pub(super) const FOOTER: usize = 12;
/// What a footer ends with.
pub(super) const FOOTER_MAGIC: [u8; 2] = *b"YZ";

/// The sizes of a block, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// As served, without the padding.
    pub(super) unpadded: u64,
    pub(super) decoded: u64,
}

impl Sizes {
    /// An index of nothing but this block.
    pub(super) fn index_of_one(self) -> Vec<u8> {
        let mut index = vec![INDEX];
        for mut value in [1, self.unpadded, self.decoded] {
            while value >= 0x80 {
                index.push(value as u8 | 0x80);
                value >>= 7;
            }
            index.push(value as u8);
        }
        index.resize(index.len().next_multiple_of(ALIGNMENT as usize), 0);
        index.extend(crc32fast::hash(&index).to_le_bytes());
        index
    }
}

/// What an index is to say: a digest of it, since a stream may have any number of blocks.
#[derive(Debug, Default)]
pub(super) struct Index {
    blocks: u64,
    digest: Sha256,
}

impl Index {
    pub(super) fn add(&mut self, sizes: Sizes) {
        self.blocks += 1;
        self.digest.update(sizes.unpadded.to_le_bytes());
        self.digest.update(sizes.decoded.to_le_bytes());
    }

    /// Reads an index, of which the first byte has been read, and the footer behind it.
    pub(super) fn expect(self, cut: &mut Cut<'_>, flags: [u8; 2]) -> Outcome<()> {
        let mut reader = Reader { cut, crc: Hasher::new(), length: 1 };
        reader.crc.update(&[INDEX]);
        let mut found = Self::default();
        let blocks = reader.number()?;
        while found.blocks < blocks {
            found.add(Sizes { unpadded: reader.number()?, decoded: reader.number()? });
        }
        while !reader.length.is_multiple_of(ALIGNMENT) {
            if reader.byte()? != 0 {
                return Err(invalid("the index is not padded with zeros"));
            }
        }
        let length = reader.length + 4;
        let crc = reader.crc.finalize();
        if u32::from_le_bytes(cut.read()?) != crc {
            return Err(invalid("the checksum of the index is wrong"));
        }
        if (found.blocks, found.digest.finalize()) != (self.blocks, self.digest.finalize()) {
            return Err(invalid("the index is not that of the blocks before it"));
        }
        if cut.read()? != footer(length, flags)? {
            return Err(invalid("the stream footer is not that of the stream"));
        }
        Ok(())
    }
}

/// An index being read.
struct Reader<'a, 'b> {
    cut: &'a mut Cut<'b>,
    crc: Hasher,
    length: u64,
}

impl Reader<'_, '_> {
    fn byte(&mut self) -> Outcome<u8> {
        let [byte] = self.cut.read()?;
        // So that what is read does not add up.
        self.cut.drop_read()?;
        self.crc.update(&[byte]);
        self.length += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Outcome<u64> {
        integer(|| self.byte())?.ok_or_else(|| invalid("a number in the index is too long"))
    }
}

/// The footer of a stream with these flags, behind an index of this length.
pub(super) fn footer(index: u64, flags: [u8; 2]) -> Outcome<[u8; FOOTER]> {
    let backward = u32::try_from(index / ALIGNMENT - 1);
    let backward = backward.map_err(|_| invalid("the index is too long"))?.to_le_bytes();
    let mut footer = [0; FOOTER];
    footer[4..8].copy_from_slice(&backward);
    footer[8..10].copy_from_slice(&flags);
    footer[10..].copy_from_slice(&FOOTER_MAGIC);
    let crc = crc32fast::hash(&footer[4..10]);
    footer[..4].copy_from_slice(&crc.to_le_bytes());
    Ok(footer)
}

/// The next variable-length integer of some bytes.
pub(super) fn number(bytes: &mut std::slice::Iter<'_, u8>) -> Option<u64> {
    integer(|| bytes.next().copied().ok_or(())).ok().flatten()
}

/// A variable-length integer of the format, from its bytes: seven bits to each of them, the lowest
/// first. None if it is too long.
fn integer<E>(mut byte: impl FnMut() -> Result<u8, E>) -> Result<Option<u64>, E> {
    const MAX_BYTES: u32 = 9;
    let mut value = 0;
    for place in 0..MAX_BYTES {
        let byte = byte()?;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            // Only zero itself ends with a zero.
            return Ok((byte != 0 || place == 0).then_some(value));
        }
    }
    Ok(None)
}
