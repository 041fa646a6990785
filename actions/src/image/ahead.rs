//! How far decoding on all cores may run ahead: what bounds its memory, and what keeps it from a
//! deadlock.
//!
//! Units of a stream are decoded by several workers, and are needed in order. The one whose turn it
//! is always gets a buffer in the end, since those ahead of their turn hold only a part of the pool,
//! and of the others all but one come back by themselves; see [`BUFFERS_NEEDED`]. All others wait
//! when that part is used up. With `n` workers and units of `u` buffers, `n` cores are
//! busy if `u (n - 1) / 2` buffers may be ahead: then workers are never at the same place of their
//! units, and each has done its share by the time it is its turn.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::buffer::{BUFFER, Buffer, Pool};

/// Buffers that may be held by units ahead of their turn. For `xz -T`, with its blocks of 24 MiB,
/// three are enough for two cores.
pub(super) const BUFFERS_AHEAD: usize = 4;

/// The fewest buffers with which decoding goes on whatever happens: those ahead, the one that
/// [`super::reflow`] keeps until the next unit fills it up, and one for the unit whose turn it is.
pub(super) const BUFFERS_NEEDED: usize = BUFFERS_AHEAD + 2;

/// Memory that the decoders of units ahead of their turn may take for their windows, bytes: two of
/// `xz -6` or `zstd -19`. The one whose turn it is may take what the format needs.
const WINDOWS_AHEAD: u64 = 16 << 20;

/// Bytes as served that may wait for their worker: more than two of the largest blocks of an lz4
/// frame, one of which has to be there as a whole.
pub(super) const SERVED_AHEAD: usize = 9 << 20;

/// What bytes as served are accounted in, at most, bytes.
pub(super) const SERVED_PIECE: usize = 512 << 10;

/// A unit of a stream, by its place in it.
pub(super) type Number = u64;

/// What decoders share.
#[derive(Debug)]
pub(super) struct Ahead {
    pool: Mutex<Pool>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The unit whose turn it is.
    turn: Number,
    /// What it and those behind it hold.
    units: VecDeque<Held>,
    /// Bytes as served that are in memory.
    served: usize,
    closed: bool,
}

#[derive(Debug, Default, Clone)]
struct Held {
    buffers: usize,
    window: u64,
    /// How many bytes it may become.
    size: u64,
}

/// What a unit may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// How far back its decoder may refer, bytes.
    pub(super) window: u64,
    /// How many bytes it may become, guessed.
    pub(super) size: u64,
}

impl State {
    fn ahead(&self) -> impl Iterator<Item = &Held> {
        self.units.iter().skip(1)
    }

    /// What a unit holds, if its turn is not over.
    fn held(&mut self, number: Number) -> Option<&mut Held> {
        let place = usize::try_from(number.checked_sub(self.turn)?).ok()?;
        if self.units.len() <= place {
            self.units.resize(place + 1, Held::default());
        }
        self.units.get_mut(place)
    }

    fn may_start(&self, number: Number, need: Need) -> bool {
        let windows: u64 = self.ahead().map(|held| held.window).sum();
        let sizes: u64 = self.ahead().map(|held| held.size).sum();
        let is_next = number == self.turn + 1;
        // Twice as much as there is room for: see the top of this file.
        let room = 2 * (BUFFERS_AHEAD * BUFFER) as u64;
        windows.saturating_add(need.window) <= WINDOWS_AHEAD
            && (is_next || sizes.saturating_add(need.size) <= room)
    }

    fn may_take(&self) -> bool {
        self.ahead().map(|held| held.buffers).sum::<usize>() < BUFFERS_AHEAD
    }
}

impl Ahead {
    /// `behind`: how many full buffers may be in the works further on while decoders hold all that
    /// they can. More than none are for speed only.
    pub(super) fn new(behind: usize) -> Arc<Self> {
        let pool = Mutex::new(Pool::new(BUFFERS_NEEDED + behind));
        let state = Mutex::default();
        Arc::new(Self { pool, state, changed: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something holds; none once nobody waits for what would be decoded.
    fn wait(&self, holds: impl Fn(&State) -> bool) -> Option<MutexGuard<'_, State>> {
        let waits = |state: &mut State| !state.closed && !holds(state);
        let waited = self.changed.wait_while(self.state(), waits);
        Some(waited.unwrap_or_else(PoisonError::into_inner)).filter(|state| !state.closed)
    }

    /// Waits until a unit may be decoded; none if nobody waits for it any more.
    pub(super) fn start(&self, number: Number, need: Need) -> Option<()> {
        let mut state = self.wait(|state| number <= state.turn || state.may_start(number, need))?;
        if let Some(held) = state.held(number) {
            (held.window, held.size) = (need.window, need.size);
        }
        Some(())
    }

    /// An empty buffer for a unit; none if nobody waits for it any more.
    pub(super) fn take(&self, number: Number) -> Option<Buffer> {
        let mut state = self.wait(|state| number <= state.turn || state.may_take())?;
        if let Some(held) = state.held(number) {
            held.buffers += 1;
        }
        drop(state);
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Bytes as served, as soon as there is room for them, which they take until they are dropped;
    /// none if nobody waits for them any more.
    pub(super) fn admit(self: &Arc<Self>, bytes: Bytes) -> Option<Bytes> {
        let length = bytes.len();
        let mut state =
            self.wait(|state| state.served == 0 || state.served + length <= SERVED_AHEAD)?;
        state.served += length;
        Some(Bytes::from_owner(Admitted { bytes, ahead: Arc::clone(self) }))
    }

    /// Says that it is a unit's turn.
    pub(super) fn turn(&self, number: Number) {
        let mut state = self.state();
        while state.turn < number {
            state.turn += 1;
            state.units.pop_front();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Says that nobody waits for what is decoded any more.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }
}

/// Bytes as served that are accounted for.
struct Admitted {
    bytes: Bytes,
    ahead: Arc<Ahead>,
}

impl AsRef<[u8]> for Admitted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let length = std::mem::take(&mut self.bytes).len();
        self.ahead.state().served -= length;
        self.ahead.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Does something in a thread of its own, and says when it is done.
    fn started<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (send, receive) = channel();
        thread::spawn(move || send.send(work()));
        receive
    }

    fn waits<T>(result: &Receiver<T>) -> bool {
        result.recv_timeout(Duration::from_millis(30)).is_err()
    }

    #[test]
    fn the_unit_whose_turn_it_is_gets_a_buffer_whatever_the_others_hold() {
        let ahead = Ahead::new(1);
        let held: Vec<Buffer> =
            (0..BUFFERS_AHEAD as u64).map(|unit| ahead.take(1 + unit % 2).unwrap()).collect();
        let two = Arc::clone(&ahead);
        let second = started(move || two.take(2).is_some());
        assert!(waits(&second));
        let first = [ahead.take(0), ahead.take(0), ahead.take(0)];
        assert!(first.iter().all(Option::is_some));
        // Its turn is over, and what unit 1 holds is not ahead any more.
        ahead.turn(1);
        assert!(waits(&second), "all buffers are in use");
        drop(first);
        assert!(second.recv().unwrap());
        drop(held);
    }

    #[test]
    fn a_unit_gets_a_buffer_while_the_end_of_the_one_before_waits_to_be_filled_up() {
        let ahead = Ahead::new(0);
        let rest = ahead.take(0).unwrap();
        ahead.turn(1);
        let held: Vec<Buffer> = (0..BUFFERS_AHEAD).map(|_| ahead.take(2).unwrap()).collect();
        let one = Arc::clone(&ahead);
        let first = started(move || one.take(1).is_some());
        assert_eq!(first.recv_timeout(Duration::from_secs(10)), Ok(true));
        drop((rest, held));
    }

    #[test]
    fn windows_and_sizes_ahead_are_bounded_but_the_next_unit_may_be_of_any_size() {
        let ahead = Ahead::new(0);
        let need = |window: u64, size: u64| Need { window: window << 20, size: size << 20 };
        ahead.start(0, need(64, 1000)).unwrap();
        ahead.start(1, need(8, 1000)).unwrap();
        let start = |number, need| {
            let other = Arc::clone(&ahead);
            started(move || other.start(number, need).is_some())
        };
        let third = start(2, need(8, 4));
        assert!(waits(&third), "too much is ahead");
        ahead.turn(1);
        assert!(third.recv().unwrap());
        let fourth = start(3, need(9, 4));
        assert!(waits(&fourth), "its window is too much");
        ahead.close();
        assert!(!fourth.recv().unwrap());
    }

    #[test]
    fn bytes_as_served_take_room_until_their_last_part_is_dropped() {
        let ahead = Ahead::new(0);
        let mut admitted = ahead.admit(vec![7; SERVED_AHEAD].into()).unwrap();
        let part = admitted.split_to(10);
        drop(admitted);
        let other = Arc::clone(&ahead);
        let next = started(move || other.admit(Bytes::from_static(b"abc")));
        assert!(waits(&next));
        assert_eq!(part, [7; 10][..]);
        drop(part);
        assert_eq!(next.recv().unwrap().unwrap(), &b"abc"[..]);
    }
}
