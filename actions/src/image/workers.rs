//! Decoding on all cores: blocks go to whoever is idle, and come back in order.

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::buffer::Buffer;
use super::lz4::{Blocks, Scratch};

/// More cores than this decode faster than disks write, and each of them takes a buffer.
const WORKERS_MAX: usize = 4;

/// Steps on their way from splitter to check. Those with blocks are bounded by the pool already;
/// this bounds the frames that have none.
pub(super) const STEPS: usize = 16;

/// How many threads are to decode.
pub(super) fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX)
}

/// Blocks, and where they go once they are decoded.
struct Job {
    blocks: Blocks,
    reply: SyncSender<io::Result<Buffer>>,
}

/// Where the splitter puts blocks.
pub(super) struct Desk(Sender<Job>);

/// Where workers take them from.
pub(super) struct Queue(Mutex<Receiver<Job>>);

/// Makes a queue. It is as long as there are buffers.
pub(super) fn queue() -> (Desk, Queue) {
    let (send, receive) = channel();
    (Desk(send), Queue(Mutex::new(receive)))
}

impl Desk {
    /// Has blocks decoded, and gives where the result will be; nothing comes there if the workers
    /// are gone.
    pub(super) fn put(&self, blocks: Blocks) -> Receiver<io::Result<Buffer>> {
        let (reply, result) = sync_channel(1);
        let _ = self.0.send(Job { blocks, reply });
        result
    }
}

impl Queue {
    /// Decodes until the desk is gone.
    pub(super) fn work(&self) {
        let mut scratch = Scratch::default();
        loop {
            let job = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { blocks, reply }) = job else { return };
            // Nobody waits for it after a failure elsewhere.
            let _ = reply.send(blocks.decode(&mut scratch, None));
        }
    }
}
