//! Content of images, the same every time and everywhere.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use super::MIB;

/// What a part of an image is full of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Compresses as programs do: to about half by lz4.
    Programs,
    /// Does not compress, as hashes do not.
    Random,
}

/// Fills whole MiB of an image. Another seed is other content.
pub(super) fn fill(
    file: &File,
    offset: u64,
    length: u64,
    content: Content,
    seed: u64,
) -> Result<()> {
    let mut random = Random(seed);
    let mut chunk = Vec::new();
    for at in (offset..offset + length).step_by(MIB as usize) {
        chunk.clear();
        match content {
            Content::Programs => random.programs(&mut chunk, MIB as usize),
            Content::Random => random.bytes(&mut chunk, MIB as usize),
        }
        file.write_all_at(&chunk, at).context("filling an image")?;
    }
    Ok(())
}

/// `SplitMix64` (Steele, Lea, Flood 2014): a few lines, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, to: &mut Vec<u8>, length: usize) {
        while to.len() < length {
            to.extend_from_slice(&self.next().to_le_bytes());
        }
        to.truncate(length);
    }

    /// New bytes, some more likely than others, and repetitions of what came before, in the
    /// lengths that lz4 finds in a tree of programs.
    fn programs(&mut self, to: &mut Vec<u8>, length: usize) {
        while to.len() < length {
            for _ in 0..=self.below(20) {
                let word = self.next();
                to.push((word & (word >> 8)) as u8);
            }
            let distance = 1 + self.below(to.len().min(1 << 15));
            let start = to.len() - distance;
            for at in start..start + 4 + self.below(24) {
                to.push(to[at]);
            }
        }
        to.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_every_time_and_of_the_length_asked_for() {
        let make = |seed| {
            let (mut programs, mut random) = (vec![], vec![]);
            Random(seed).programs(&mut programs, 100_000);
            Random(seed).bytes(&mut random, 100_001);
            (programs, random)
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        assert_eq!((make(1).0.len(), make(1).1.len()), (100_000, 100_001));
    }
}
