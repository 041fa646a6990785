//! How long to wait before trying again: doubling, bounded, and scattered so that a rack of
//! machines does not come back in one beat.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The bounds of a series of waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The first wait, before scattering.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
}

/// A series of waits. Each is between half and all of its step: `base`, twice that, and so on up
/// to `cap`.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: Policy,
    step: u32,
}

impl Backoff {
    /// A series at its start.
    pub fn new(policy: Policy) -> Self {
        Self { policy, step: 0 }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let factor = 1u32.checked_shl(self.step).unwrap_or(u32::MAX);
        let full = self.policy.base.saturating_mul(factor).min(self.policy.cap);
        self.step = self.step.saturating_add(1);
        full.mul_f64(0.5 + 0.5 * random_fraction())
    }

    /// Back to the first wait, after something went well.
    pub fn reset(&mut self) {
        self.step = 0;
    }
}

/// 0 to 1. The standard library seeds its hashers from the kernel's random source, which is all
/// the chance that scattering needs.
fn random_fraction() -> f64 {
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_cap_within_their_scatter() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(Policy { base: second, cap: 5 * second });
        for full in [1, 2, 4, 5, 5] {
            let wait = backoff.next_wait();
            assert!(wait >= full * second / 2 && wait <= full * second, "{full}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= second);
    }

    #[test]
    fn a_long_series_stays_at_the_cap() {
        let cap = Duration::from_secs(30);
        let mut backoff = Backoff::new(Policy { base: Duration::from_millis(500), cap });
        assert!((0..100).map(|_| backoff.next_wait()).all(|wait| wait <= cap));
        assert!(backoff.next_wait() >= cap / 2);
    }

    #[test]
    fn two_machines_do_not_wait_alike() {
        let policy = Policy { base: Duration::from_secs(8), cap: Duration::from_secs(8) };
        let waits: std::collections::HashSet<_> =
            (0..16).map(|_| Backoff::new(policy).next_wait()).collect();
        assert!(waits.len() > 8, "{waits:?}");
    }
}
