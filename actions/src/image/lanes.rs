//! Lanes: threads that carry what is to be written to the disk, one order each at a time, so that
//! the disk has the next one in its queue already when it is done with one.
//!
//! The orders of one image never overlap, so any order of theirs is as good as another; what has to
//! be on the disk before something else is written waits for all lanes to end.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::buffer::Buffer;
use super::progress::Counters;
use super::readback::Extent;
use super::write::{write, zero};
use super::{Result, Target};

/// How many there are.
pub(super) const LANES: usize = 2;

/// What is asked of the disk, and the extents that are not on it before that is done.
pub(super) struct Order {
    pub(super) what: What,
    pub(super) extents: Vec<Arc<Extent>>,
}

pub(super) enum What {
    /// A part of a buffer is to be at an offset.
    Write { offset: u64, buffer: Arc<Buffer>, part: Range<usize> },
    /// A range is to read as zeros.
    Zero(Range<u64>),
}

/// Where orders go.
pub(super) type Desk = SyncSender<Order>;

/// Where they come from.
#[derive(Clone)]
pub(super) struct Lane(Arc<Mutex<Receiver<Order>>>);

/// A desk, and one of its lanes; the others are clones.
pub(super) fn open() -> (Desk, Lane) {
    let (desk, orders) = sync_channel(LANES);
    (desk, Lane(Arc::new(Mutex::new(orders))))
}

impl Lane {
    /// Does what it is asked until the desk is gone. Tells the reader, if there is one, of extents
    /// that are on the disk.
    pub(super) fn work(
        &self,
        target: &dyn Target,
        counters: &Counters,
        reader: Option<&Sender<Extent>>,
    ) -> Result<()> {
        loop {
            let order = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Order { what, extents }) = order else { return Ok(()) };
            match what {
                What::Write { offset, buffer, part } => {
                    let bytes = &buffer.filled()[part];
                    write(target, offset, bytes)?;
                    counters.written(bytes.len() as u64);
                }
                What::Zero(range) => {
                    zero(target, range.start, range.end - range.start)?;
                    counters.zeroed(range.end - range.start);
                }
            }
            tell(reader, extents);
        }
    }
}

/// Tells the reader of those extents of which no other order is left.
pub(super) fn tell(reader: Option<&Sender<Extent>>, extents: Vec<Arc<Extent>>) {
    let Some(reader) = reader else { return };
    for extent in extents.into_iter().filter_map(Arc::into_inner) {
        // A reader that is gone has failed, and says so itself.
        let _ = reader.send(extent);
    }
}
