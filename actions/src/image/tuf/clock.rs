//! Whether this machine's clock can tell what has expired.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::TufError;

/// No clock that is right shows less: the verifier, `tough` 0.24.0, was published on that day,
/// 2026-07-10.
const EARLIEST: Duration = Duration::from_secs(1_783_641_600);

/// Refuses a clock that is behind any date at which Nibs can run: to it, nothing ever expires.
pub(super) fn check(now: SystemTime) -> Result<(), TufError> {
    let earliest = UNIX_EPOCH + EARLIEST;
    if now >= earliest {
        return Ok(());
    }
    Err(TufError::Clock { now: date(now), earliest: date(earliest) })
}

/// A time as people and metadata write it.
pub(super) fn date(time: SystemTime) -> String {
    // Earlier than 1970 cannot be written so; such a clock is as wrong as one that shows 1970.
    humantime::format_rfc3339_seconds(time.max(UNIX_EPOCH)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_told_with_both_dates() {
        let error = check(UNIX_EPOCH + Duration::from_secs(12)).unwrap_err().to_string();
        assert!(error.contains("1970-01-01T00:00:12Z"), "{error}");
        assert!(error.contains("2026-07-10T00:00:00Z"), "{error}");
        check(UNIX_EPOCH - Duration::from_secs(1)).unwrap_err();
        check(SystemTime::now()).unwrap();
    }
}
