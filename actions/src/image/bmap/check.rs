//! Whether an image is the one that a block map is of, told as it streams by.

use std::sync::Arc;

use sha2::digest::DynDigest;

use super::super::digest::Check;
use super::super::zeros::all_zero;
use super::super::{Error, Result};
use super::{Algorithm, BlockMap, MapError};

/// Compares an image with its map, from its first byte to its last.
pub(in crate::image) struct MapCheck {
    map: Arc<BlockMap>,
    /// The image's next byte.
    at: u64,
    /// The first range that is not behind it.
    next: usize,
    /// Hashes that range, if the map says what it has to be.
    hasher: Option<Box<dyn DynDigest + Send>>,
}

impl MapCheck {
    pub(in crate::image) fn new(map: Arc<BlockMap>) -> Self {
        let mut check = Self { map, at: 0, next: 0, hasher: None };
        check.start_range();
        check
    }

    fn start_range(&mut self) {
        let mapped = self.map.mapped.get(self.next);
        let has_digest = mapped.is_some_and(|mapped| mapped.digest.is_some());
        self.hasher = self.map.algorithm.filter(|_| has_digest).map(Algorithm::hasher);
    }

    /// Compares the range that has passed by, and goes on to the next one.
    fn end_range(&mut self) -> Result<()> {
        let mapped = &self.map.mapped[self.next];
        if let (Some(hasher), Some(expected), Some(algorithm)) =
            (self.hasher.take(), &mapped.digest, self.map.algorithm)
        {
            let found = hasher.finalize();
            if found != *expected {
                let (bytes, block) = (mapped.range.clone(), self.map.block_size);
                let cause = MapError::Digest {
                    algorithm: algorithm.name(),
                    blocks: bytes.start / block..bytes.end.div_ceil(block),
                    bytes,
                    expected: hex::encode(expected),
                    found: hex::encode(found),
                };
                return Err(cause.at(&self.map.place));
            }
        }
        self.next += 1;
        self.start_range();
        Ok(())
    }

    /// Refuses bytes outside of the ranges, unless they are zero.
    fn check_blank(&self, bytes: &[u8]) -> Result<()> {
        if all_zero(bytes) {
            return Ok(());
        }
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or_default();
        Err(MapError::Unlisted { offset: self.at + first as u64 }.at(&self.map.place))
    }

    fn length(&self, found: u64, at_least: bool) -> Error {
        let expected = self.map.image_size;
        MapError::Length { expected, found, at_least }.at(&self.map.place)
    }
}

impl Check for MapCheck {
    fn update(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.at + bytes.len() as u64;
        if end > self.map.image_size {
            return Err(self.length(end, true));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let range = self.map.mapped.get(self.next).map(|mapped| mapped.range.clone());
            let range = range.unwrap_or(end..end);
            let inside = self.at >= range.start;
            let until = if inside { range.end } else { range.start }.min(end);
            let (here, later) = rest.split_at((until - self.at) as usize);
            match &mut self.hasher {
                Some(hasher) if inside => hasher.update(here),
                _ if inside => {}
                _ => self.check_blank(here)?,
            }
            (self.at, rest) = (until, later);
            if inside && until == range.end {
                self.end_range()?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        if self.at == self.map.image_size { Ok(()) } else { Err(self.length(self.at, false)) }
    }
}
