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

    /// The range.
    pub(super) fn range(&self) -> Range<u64> {
        self.start..self.start + self.bytes.len() as u64
    }

    /// The part of it that lies in a range of the image, and where that part belongs.
    pub(super) fn part(&self, range: &Range<u64>) -> Option<(u64, &[u8])> {
        let both = overlap(&self.range(), range)?;
        let local = |at: u64| (at - self.start) as usize;
        Some((both.start, &self.bytes[local(both.start)..local(both.end)]))
    }
}

/// Copies what is to be held back out of the bytes at `offset`. What is not is [`gaps`].
pub(super) fn keep(held: &mut [Held], offset: u64, bytes: &[u8]) {
    let here = offset..offset + bytes.len() as u64;
    for range in held {
        if let Some(both) = overlap(&range.range(), &here) {
            let (into, from) = (both.start - range.start, both.start - offset);
            let length = (both.end - both.start) as usize;
            range.bytes[into as usize..][..length]
                .copy_from_slice(&bytes[from as usize..][..length]);
        }
    }
}

/// The parts of a range that lie in none of `others`, which are in order and do not overlap.
pub(super) fn gaps(others: &[Range<u64>], range: Range<u64>) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut from = range.start;
    let first = others.partition_point(|other| other.end <= range.start);
    let near = others[first..].iter().take_while(|other| other.start < range.end);
    for both in near.filter_map(|other| overlap(other, &range)) {
        gaps.push(from..both.start);
        from = both.end;
    }
    gaps.push(from..range.end);
    gaps.retain(|gap| !gap.is_empty());
    gaps
}

/// What lies in both ranges; none if nothing does.
pub(super) fn overlap(one: &Range<u64>, other: &Range<u64>) -> Option<Range<u64>> {
    let both = one.start.max(other.start)..one.end.min(other.end);
    (!both.is_empty()).then_some(both)
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
                let offset = (index * step) as u64;
                keep(&mut held, offset, part);
                let ranges: Vec<_> = held.iter().map(Held::range).collect();
                for gap in gaps(&ranges, offset..offset + part.len() as u64) {
                    prop_assert!(!gap.is_empty());
                    let place = gap.start as usize..gap.end as usize;
                    written[place.clone()].copy_from_slice(&image[place]);
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
