//! Values in the spelling of Go's `strconv.ParseBool` and `time.ParseDuration`, which is that of
//! Tinkerbell's flags, variables and kernel parameters.

use std::time::Duration;

/// Units of a duration and their nanoseconds. Either sign of the micro prefix is taken.
const UNITS: [(&str, f64); 7] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9)];

/// The unit that is longest.
const HOUR: (&str, f64) = ("h", 3600e9);

/// `1`, `t`, `T`, `TRUE`, `true`, `True`, and the same of false.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// `5s`, `1m30s`, `1.5h`, `0`. One below zero is none, since nothing here can wait for it.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let known = UNITS.iter().chain([&HOUR]).find(|(name, _)| *name == unit);
        nanoseconds += number * known?.1;
        rest = after;
    }
    // As Go does, no more than an i64 holds: 292 years.
    (nanoseconds <= i64::MAX as f64).then(|| Duration::from_nanos(nanoseconds as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_gos_and_no_others() {
        for yes in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(boolean(yes), Some(true), "{yes}");
        }
        for no in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(boolean(no), Some(false), "{no}");
        }
        for nonsense in ["", "yes", "on", "tRUE", " true", "2"] {
            assert_eq!(boolean(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn durations_are_gos_and_no_others() {
        for (text, milliseconds) in [
            ("0", 0),
            ("5s", 5000),
            ("+5s", 5000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("500ms", 500),
            ("1h2m3s4ms", 3_723_004),
            ("2000us", 2),
            ("2000µs", 2),
            (".5s", 500),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for nonsense in ["", "5", "s", "5 s", "-5s", "5d", "1..5s", "s5", "+", "9999999h"] {
            assert_eq!(duration(nonsense), None, "{nonsense}");
        }
    }
}
