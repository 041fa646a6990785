//! How far a stream is, counted by its stages and read by whoever reports it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nibs_job::Progress;

/// Over how long the rate is taken: long enough to be steady, short enough to show a stall.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// Bytes counted so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    bytes_zeroed: AtomicU64,
    bytes_skipped: AtomicU64,
    total_in: AtomicU64,
    total_out: AtomicU64,
}

impl Counters {
    pub(super) fn received(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn written(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn zeroed(&self, bytes: u64) {
        self.bytes_zeroed.fetch_add(bytes, Ordering::Relaxed);
        self.written(bytes);
    }

    /// Bytes of the image that need not be on the disk.
    pub(super) fn skipped(&self, bytes: u64) {
        self.bytes_skipped.fetch_add(bytes, Ordering::Relaxed);
        self.written(bytes);
    }

    /// How many were skipped.
    pub(super) fn total_skipped(&self) -> u64 {
        self.bytes_skipped.load(Ordering::Relaxed)
    }

    /// Everything is on the disk, the held-back ranges too.
    pub(super) fn complete(&self, length: u64) {
        self.bytes_out.store(length, Ordering::Relaxed);
        self.set_total_out(length);
    }

    pub(super) fn set_total_in(&self, bytes: u64) {
        self.total_in.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn set_total_out(&self, bytes: u64) {
        self.total_out.store(bytes, Ordering::Relaxed);
    }

    /// The figures, without a rate.
    pub(super) fn figures(&self) -> Progress {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let known = |counter: &AtomicU64| Some(get(counter)).filter(|total| *total > 0);
        Progress {
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
            bytes_zeroed: get(&self.bytes_zeroed),
            total_in: known(&self.total_in),
            total_out: known(&self.total_out),
            rate: 0,
        }
    }
}

/// Bytes per second over the last seconds.
#[derive(Debug)]
pub(super) struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { samples: VecDeque::from([(now, 0)]) }
    }

    /// Takes how many bytes there are now, and gives the rate.
    pub(super) fn sample(&mut self, now: Instant, bytes: u64) -> u64 {
        self.samples.push_back((now, bytes));
        // The newest of those that are too old is where the window starts.
        while self.samples.len() > 2 && now - self.samples[1].0 >= RATE_WINDOW {
            self.samples.pop_front();
        }
        let (since, before) = self.samples[0];
        let seconds = (now - since).as_secs_f64();
        if seconds > 0.0 { (bytes.saturating_sub(before) as f64 / seconds) as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rate.sample(start, 0), 0);
        assert_eq!(rate.sample(at(1), 1000), 1000);
        assert_eq!(rate.sample(at(10), 1000), 0);
        for second in 11..=30 {
            rate.sample(at(second), 1000 + (second - 10) * 50);
        }
        assert_eq!(rate.sample(at(31), 2050), 50);
    }

    #[test]
    fn totals_are_absent_until_known() {
        let counters = Counters::default();
        counters.received(5);
        counters.zeroed(7);
        let figures = counters.figures();
        assert_eq!((figures.bytes_in, figures.bytes_out, figures.bytes_zeroed), (5, 7, 7));
        assert_eq!((figures.total_in, figures.total_out), (None, None));
        counters.complete(9);
        assert_eq!(counters.figures().total_out, Some(9));
    }
}
