//! Which parts of a buffer are zero.

use std::ops::Range;

/// The grain: zeros are looked for in pieces of this many bytes. Shorter runs of zeros cost less
/// to write than to tell apart.
pub(super) const GRAIN: usize = 64 * 1024;

/// A part of a buffer, and whether all of it is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) range: Range<usize>,
    pub(super) is_zero: bool,
}

/// Splits bytes into the longest runs of zero and other grains.
pub(super) fn runs(bytes: &[u8]) -> impl Iterator<Item = Run> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        let first = bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let mut grains = first.chunks(GRAIN);
        let grain = grains.next()?;
        let is_zero = all_zero(grain);
        let more = grains.take_while(|grain| all_zero(grain) == is_zero).map(<[u8]>::len);
        let range = start..start + grain.len() + more.sum::<usize>();
        start = range.end;
        Some(Run { range, is_zero })
    })
}

/// What zeros are compared with: as much as stays in the processor's first cache.
const ZEROS: [u8; 4096] = [0; 4096];

/// Whether all bytes are zero. Stops early at data. Comparing is the C library's, which is as fast
/// as memory whatever this program is optimised for; a loop of our own was not.
pub(super) fn all_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_everything_in_order() {
        let mut bytes = vec![0; 5 * GRAIN + 100];
        bytes[2 * GRAIN + 7] = 1;
        bytes[3 * GRAIN] = 1;
        let found: Vec<Run> = runs(&bytes).collect();
        let run = |range, is_zero| Run { range, is_zero };
        assert_eq!(
            found,
            [
                run(0..2 * GRAIN, true),
                run(2 * GRAIN..4 * GRAIN, false),
                run(4 * GRAIN..bytes.len(), true)
            ]
        );
        assert_eq!(runs(&[]).count(), 0);
    }

    #[test]
    fn one_bit_anywhere_is_data() {
        for at in [0, 1023, 1024, GRAIN - 1] {
            let mut bytes = vec![0; GRAIN];
            bytes[at] = 0x80;
            assert!(!all_zero(&bytes), "{at}");
        }
    }
}
