//! The fixed pool of buffers between decoder and disk: what bounds the engine's memory.

use std::sync::mpsc::{Receiver, Sender, channel};

/// Size of one buffer, bytes: the largest block of an lz4 frame, so that it is decoded in place,
/// and large enough that a disk is busy with one while the next is filled.
pub(super) const BUFFER: usize = 4 << 20;

/// How many there are: one being filled, one hashed, one written, and two on their way.
const BUFFERS: usize = 5;

/// What direct I/O wants of memory addresses, for every device there is.
const ALIGNMENT: usize = 4096;

/// Memory that direct I/O takes, with a filled part at its start.
#[derive(Debug)]
pub(super) struct Buffer {
    /// Longer than `BUFFER`, so that an aligned part of that size lies in it.
    memory: Vec<u8>,
    start: usize,
    filled: usize,
}

impl Buffer {
    pub(super) fn new() -> Self {
        let memory = vec![0; BUFFER + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start, filled: 0 }
    }

    /// All of it.
    pub(super) fn whole(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + BUFFER]
    }

    /// What is filled.
    pub(super) fn filled(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.filled]
    }

    /// Says how much from the start is filled.
    pub(super) fn set_filled(&mut self, filled: usize) {
        self.filled = filled.min(BUFFER);
    }

    /// Fills up with zeros to a multiple of `unit` bytes.
    pub(super) fn pad_to(&mut self, unit: usize) {
        let (old, padded) = (self.filled, self.filled.next_multiple_of(unit).min(BUFFER));
        self.whole()[old..padded].fill(0);
        self.filled = padded;
    }
}

/// Where empty buffers come from.
#[derive(Debug)]
pub(super) struct Pool {
    empty: Receiver<Buffer>,
}

/// Where used buffers go back to.
#[derive(Debug, Clone)]
pub(super) struct Return(Sender<Buffer>);

impl Pool {
    /// All buffers there will ever be.
    pub(super) fn new() -> (Self, Return) {
        let (give, empty) = channel();
        for _ in 0..BUFFERS {
            // The receiver is right here.
            let _ = give.send(Buffer::new());
        }
        (Self { empty }, Return(give))
    }

    /// An empty buffer, as soon as there is one; none once nobody can return any.
    pub(super) fn take(&self) -> Option<Buffer> {
        self.empty.recv().ok()
    }
}

impl Return {
    /// Gives a buffer back.
    pub(super) fn give(&self, buffer: Buffer) {
        // Without a pool the image is at its end, and the buffer has done its work.
        let _ = self.0.send(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_whole_and_padded_with_zeros() {
        let mut buffer = Buffer::new();
        assert_eq!(buffer.whole().len(), BUFFER);
        assert!(buffer.whole().as_ptr().addr().is_multiple_of(ALIGNMENT));
        buffer.whole().fill(9);
        buffer.set_filled(700);
        buffer.pad_to(512);
        assert_eq!(buffer.filled().len(), 1024);
        assert!(buffer.filled()[..700].iter().all(|byte| *byte == 9));
        assert!(buffer.filled()[700..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_pool_has_so_many_buffers_and_no_more() {
        let (pool, give) = Pool::new();
        let taken: Vec<Buffer> = (0..BUFFERS).filter_map(|_| pool.take()).collect();
        assert_eq!(taken.len(), BUFFERS);
        drop(give);
        assert!(pool.take().is_none());
    }
}
