//! How long an image compressed with xz is, told by the index at its end (The .xz File Format
//! 1.2.1, sections 2.1.2 and 4), so that a disk that is too small is found before the first write.

use bytes::Bytes;

use super::index::{FOOTER, FOOTER_MAGIC, INDEX, number};
use crate::image::Source;

/// The longest index that is looked at, bytes: that of some hundred thousand blocks.
const MAX_INDEX: u64 = 1 << 20;

/// How many bytes an image has at least, if it is compressed with xz and its source can look at
/// its end: those of its last stream, which others may precede.
///
/// None says nothing: whatever is wrong with the index, the decoder will tell.
pub fn xz_size(source: &dyn Source) -> Option<u64> {
    let footer_at = source.total()?.checked_sub(FOOTER as u64)?;
    let length = index_length(&source.peek(footer_at, FOOTER as u64)?)?;
    let index_at = footer_at.checked_sub(length)?;
    sum(&source.peek(index_at, length)?)
}

fn index_length(footer: &[u8]) -> Option<u64> {
    let (crc, checked) = footer.strip_suffix(&FOOTER_MAGIC)?.split_first_chunk()?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(checked) {
        return None;
    }
    let backward = u32::from_le_bytes(*checked.first_chunk()?);
    Some((u64::from(backward) + 1) * 4).filter(|length| *length <= MAX_INDEX)
}

/// Bytes of all blocks of an index, decompressed.
fn sum(index: &Bytes) -> Option<u64> {
    let (checked, crc) = index.split_last_chunk()?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(checked) {
        return None;
    }
    let mut rest = checked.strip_prefix(&[INDEX])?.iter();
    let records = number(&mut rest)?;
    (0..records).try_fold(0_u64, |sum, _| {
        let _unpadded_size = number(&mut rest)?;
        sum.checked_add(number(&mut rest)?)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::image::Result;

    struct Whole(Bytes);

    impl Source for Whole {
        fn next(&mut self) -> Result<Option<Bytes>> {
            Ok(None)
        }
        fn total(&self) -> Option<u64> {
            Some(self.0.len() as u64)
        }
        fn peek(&self, offset: u64, length: u64) -> Option<Bytes> {
            let range = offset as usize..offset.checked_add(length)? as usize;
            (range.end <= self.0.len()).then(|| self.0.slice(range))
        }
    }

    fn size(bytes: Vec<u8>) -> Option<u64> {
        xz_size(&Whole(bytes.into()))
    }

    #[test]
    fn the_index_tells_the_size_in_blocks_or_in_one() {
        let content: Vec<u8> = (0..300_032_u32).map(|i| (i / 7) as u8).collect();
        assert_eq!(size(liblzma::encode_all(&content[..], 1).unwrap()), Some(300_032));
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        for block in content.chunks(50_000) {
            encoder.write_all(block).unwrap();
            // Ends the block.
            encoder.flush().unwrap();
        }
        let mut blocks = encoder.finish().unwrap();
        assert_eq!(size(blocks.clone()), Some(300_032));
        let (near_end, end) = (blocks.len() - 20, blocks.len());
        blocks[near_end] ^= 1;
        assert_eq!(size(blocks.clone()), None);
        assert_eq!(size(blocks[..end - 4].to_vec()), None);
        assert_eq!(size(Vec::new()), None);
    }

    proptest! {
        #[test]
        fn no_index_makes_the_parser_panic_or_spin(mut index in prop::collection::vec(any::<u8>(), 0..60)) {
            index.insert(0, 0);
            let crc = crc32fast::hash(&index);
            index.extend(crc.to_le_bytes());
            let _ = sum(&index.into());
        }
    }
}
