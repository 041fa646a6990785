//! Byte ranges that are kept back from the disk until the image is proven.

use std::ops::Range;

/// A range of the image that is kept in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// Where it belongs.
    pub(super) start: u64,
    /// What belongs there; zero where the image ended before.
    pub(super) bytes: Vec<u8>,
}

impl Held {
    /// Holds back a range.
    pub(super) fn new(range: Range<u64>) -> Self {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        Self { start: range.start, bytes: vec![0; length] }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// Copies what is to be held back out of the bytes at `offset`, and gives the parts that are not,
/// as ranges of `bytes`. `held` is in order and does not overlap.
pub(super) fn take(held: &mut [Held], offset: u64, bytes: &[u8]) -> Vec<Range<usize>> {
    let end = offset + bytes.len() as u64;
    // Both ends lie within `bytes`.
    let local = |at: u64| (at.clamp(offset, end) - offset) as usize;
    let mut free = Vec::new();
    let mut from = 0;
    for range in held.iter_mut().filter(|range| range.start < end && range.end() > offset) {
        let (first, last) = (local(range.start), local(range.end()));
        if from < first {
            free.push(from..first);
        }
        let into = (offset + first as u64 - range.start) as usize;
        range.bytes[into..into + last - first].copy_from_slice(&bytes[first..last]);
        from = last;
    }
    if from < bytes.len() {
        free.push(from..bytes.len());
    }
    free
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_is_held_or_free_and_none_is_both(
            first in 0..40_u64, gap in 0..60_u64, last in 0..40_u64, step in 1..50_usize,
        ) {
            let image: Vec<u8> = (1..=150).collect();
            let second = first + gap;
            let mut held = [Held::new(0..first), Held::new(second..second + last)];
            let mut written = vec![0; image.len()];
            for (index, part) in image.chunks(step).enumerate() {
                let offset = index * step;
                for range in take(&mut held, offset as u64, part) {
                    prop_assert!(!range.is_empty());
                    let place = offset + range.start..offset + range.end;
                    written[place].copy_from_slice(&part[range]);
                }
            }
            for at in 0..image.len() {
                let is_held = (at as u64) < first || (second..second + last).contains(&(at as u64));
                prop_assert_eq!(written[at], if is_held { 0 } else { image[at] });
            }
            for range in held {
                let from = range.start as usize;
                prop_assert_eq!(&range.bytes[..], &image[from..from + range.bytes.len()]);
            }
        }
    }
}
