//! The fixed pool of buffers between decoder and disk: what bounds the engine's memory.

use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Size of one buffer, bytes: the largest block of an lz4 frame, so that it is decoded in place,
/// and large enough that a disk is busy with one while the next is filled.
pub(super) const BUFFER: usize = 4 << 20;

/// What direct I/O wants of memory addresses, for every device there is.
const ALIGNMENT: usize = 4096;

/// What a blank buffer reads as: pages of the system's one zero page, which stay in the cache. A
/// plain array would be 4 MiB of the program's file.
static ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; BUFFER]);

/// Memory that direct I/O takes, with a filled part at its start.
#[derive(Debug)]
pub(super) struct Buffer {
    /// Longer than `BUFFER`, so that an aligned part of that size lies in it.
    memory: Vec<u8>,
    start: usize,
    filled: usize,
    /// Whether the filled part is known to be zero, whatever is in memory.
    blank: bool,
    /// The pool that gets the memory back, if it is from one.
    home: Option<Sender<Vec<u8>>>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            // Without a pool the image is at its end, and the memory has done its work.
            let _ = home.send(std::mem::take(&mut self.memory));
        }
    }
}

impl Buffer {
    pub(super) fn new() -> Self {
        Self::on(vec![0; BUFFER + ALIGNMENT], None)
    }

    fn on(memory: Vec<u8>, home: Option<Sender<Vec<u8>>>) -> Self {
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start, filled: 0, blank: false, home }
    }

    /// All of it.
    pub(super) fn whole(&mut self) -> &mut [u8] {
        if std::mem::take(&mut self.blank) {
            self.memory[self.start..self.start + self.filled].fill(0);
        }
        &mut self.memory[self.start..self.start + BUFFER]
    }

    /// What is filled.
    pub(super) fn filled(&self) -> &[u8] {
        if self.blank {
            return &ZEROS[..self.filled];
        }
        &self.memory[self.start..self.start + self.filled]
    }

    /// Says how much from the start is filled.
    pub(super) fn set_filled(&mut self, filled: usize) {
        self.filled = filled.min(BUFFER);
        self.blank = false;
    }

    /// Makes it so many zeros, without touching memory.
    pub(super) fn set_blank(&mut self, filled: usize) {
        self.filled = filled.min(BUFFER);
        self.blank = true;
    }

    /// Whether it is known to be zero. One that is not may still be.
    pub(super) fn is_blank(&self) -> bool {
        self.blank
    }

    /// Whether nothing more fits.
    pub(super) fn is_full(&self) -> bool {
        self.filled == BUFFER
    }

    /// Takes as many bytes as fit, and says how many.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let (from, length) = (self.filled, bytes.len().min(BUFFER - self.filled));
        self.whole()[from..from + length].copy_from_slice(&bytes[..length]);
        self.filled += length;
        length
    }

    /// Drops bytes at the front.
    pub(super) fn drop_front(&mut self, length: usize) {
        let filled = self.filled;
        if !self.blank {
            self.whole().copy_within(length..filled, 0);
        }
        self.filled -= length;
    }

    /// Fills up with zeros to a multiple of `unit` bytes.
    pub(super) fn pad_to(&mut self, unit: usize) {
        let (old, padded) = (self.filled, self.filled.next_multiple_of(unit).min(BUFFER));
        if !self.blank {
            self.whole()[old..padded].fill(0);
        }
        self.filled = padded;
    }
}

/// Where empty buffers come from, and where they go when they are dropped.
#[derive(Debug)]
pub(super) struct Pool {
    memory: Receiver<Vec<u8>>,
    home: Sender<Vec<u8>>,
}

impl Pool {
    /// All buffers there will ever be.
    pub(super) fn new(count: usize) -> Self {
        let (home, memory) = channel();
        for _ in 0..count {
            // The receiver is right here.
            let _ = home.send(vec![0; BUFFER + ALIGNMENT]);
        }
        Self { memory, home }
    }

    /// An empty buffer, as soon as there is one.
    pub(super) fn take(&self) -> Option<Buffer> {
        let memory = self.memory.recv().ok()?;
        Some(Buffer::on(memory, Some(self.home.clone())))
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
    fn a_blank_buffer_reads_as_zeros_whatever_was_in_it() {
        let mut buffer = Buffer::new();
        buffer.whole().fill(9);
        buffer.set_blank(1000);
        assert!(buffer.is_blank() && buffer.filled() == [0; 1000]);
        buffer.drop_front(100);
        assert_eq!(buffer.append(&[7; 5]), 5);
        assert!(!buffer.is_blank());
        assert_eq!(
            (&buffer.filled()[..900], &buffer.filled()[900..]),
            (&[0; 900][..], &[7; 5][..])
        );
        buffer.drop_front(899);
        assert_eq!(buffer.filled(), [0, 7, 7, 7, 7, 7]);
    }

    #[test]
    fn a_pool_has_so_many_buffers_and_gets_them_back() {
        let pool = Pool::new(3);
        let mut taken: Vec<Buffer> = (0..3).filter_map(|_| pool.take()).collect();
        assert!(pool.memory.try_recv().is_err());
        taken[1].append(&[7; 5]);
        let memory = taken[1].filled().as_ptr();
        drop(taken.remove(1));
        let again = pool.take().unwrap();
        assert_eq!((again.filled().len(), again.filled().as_ptr()), (0, memory));
    }
}
