//! How much memory this process has used at most.

use std::fs;

/// Largest resident memory so far, bytes: `VmHWM` of `/proc/self/status` (proc(5)), where there
/// is a `/proc`.
pub(super) fn peak() -> Option<u64> {
    parse(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_in_bytes() {
        assert_eq!(parse("VmPeak:\t  9 kB\nVmHWM:\t    2048 kB\nVmRSS: 1 kB\n"), Some(2 << 20));
        assert_eq!(parse("VmHWM: much\n"), None);
        assert_eq!(parse(""), None);
        assert!(peak().is_some_and(|bytes| bytes > 100_000));
    }
}
