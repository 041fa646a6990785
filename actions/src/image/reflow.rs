//! Buffers of any length become full ones: what follows may count on whole extents at multiples of
//! their size, and only the last one of an image is shorter.

use super::buffer::Buffer;

/// What is left over of the buffers so far.
#[derive(Debug, Default)]
pub(super) struct Reflow {
    rest: Option<Buffer>,
}

impl Reflow {
    /// Takes a buffer, and hands on what is full; also what is empty, which goes back to the pool
    /// by the same way. A full one that follows full ones passes as it is.
    pub(super) fn push<E>(
        &mut self,
        mut buffer: Buffer,
        mut hand_on: impl FnMut(Buffer) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(mut rest) = self.rest.take() {
            let taken = rest.append(buffer.filled());
            if !rest.is_full() {
                self.rest = Some(rest);
                buffer.drop_front(taken);
                return hand_on(buffer);
            }
            hand_on(rest)?;
            buffer.drop_front(taken);
        }
        if buffer.is_full() || buffer.filled().is_empty() {
            return hand_on(buffer);
        }
        self.rest = Some(buffer);
        Ok(())
    }

    /// The last buffer, which is not full.
    pub(super) fn finish(self) -> Option<Buffer> {
        self.rest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::buffer::BUFFER;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn all_but_the_last_are_full_and_no_byte_is_lost(
            lengths in prop::collection::vec((prop::sample::select(&[0, 1, BUFFER / 3, BUFFER][..]), any::<bool>()), 1..8),
        ) {
            let (mut reflow, mut out, mut expected) = (Reflow::default(), Vec::new(), Vec::new());
            for (index, (length, is_blank)) in lengths.into_iter().enumerate() {
                let mut buffer = Buffer::new();
                buffer.whole().fill(index as u8 + 1);
                match is_blank {
                    true => buffer.set_blank(length),
                    false => buffer.set_filled(length),
                }
                expected.extend_from_slice(buffer.filled());
                let hand_on = |buffer: Buffer| { out.push(buffer); Ok::<(), ()>(()) };
                reflow.push(buffer, hand_on).unwrap();
            }
            prop_assert!(out.iter().all(|buffer| buffer.is_full() || buffer.filled().is_empty()));
            out.extend(reflow.finish());
            let found: Vec<u8> = out.iter().flat_map(|buffer| buffer.filled().to_vec()).collect();
            prop_assert!(found == expected);
        }
    }
}
