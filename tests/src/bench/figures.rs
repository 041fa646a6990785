//! Figures of runs, and what is made of them.

use serde::{Deserialize, Serialize};

/// One run of a contender, or the median of several, each figure by itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Run {
    /// From the start of the first process until the target is durable.
    pub seconds: f64,
    /// User and system time of all processes, seconds.
    pub cpu_seconds: f64,
    /// Bytes written to storage: of the processes, as the kernel accounts them; in the virtual
    /// machine, of its disk.
    pub written: f64,
    /// Peak resident memory of the largest process, bytes.
    pub peak_largest: f64,
    /// Peaks of the processes that were started, summed; bytes. What those start in turn counts
    /// only if it is larger than they are.
    pub peak_sum: f64,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It came to its end.
    Finished(Run),
    /// It was killed when its time was up.
    TimedOut,
}

/// The median of each figure; nothing of no runs.
pub fn median(runs: &[Run]) -> Option<Run> {
    let of = |figure: fn(&Run) -> f64| middle(runs.iter().map(figure).collect());
    (!runs.is_empty()).then(|| Run {
        seconds: of(|run| run.seconds),
        cpu_seconds: of(|run| run.cpu_seconds),
        written: of(|run| run.written),
        peak_largest: of(|run| run.peak_largest),
        peak_sum: of(|run| run.peak_sum),
    })
}

/// The median of some figures; of none, not a number.
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (length, half) if length % 2 == 0 => f64::midpoint(values[half - 1], values[half]),
        (_, half) => values[half],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert!((middle(vec![3.0, 1.0, 20.0]) - 3.0).abs() < 1e-9);
        assert!((middle(vec![4.0, 1.0, 20.0, 2.0]) - 3.0).abs() < 1e-9);
        assert!(middle(vec![]).is_nan());
    }

    #[test]
    fn each_figure_has_its_own_median() {
        let run = |seconds, cpu_seconds| Run {
            seconds,
            cpu_seconds,
            written: 0.0,
            peak_largest: 0.0,
            peak_sum: 0.0,
        };
        let median = median(&[run(1.0, 9.0), run(2.0, 7.0), run(3.0, 8.0)]);
        assert_eq!(median, Some(run(2.0, 8.0)));
        assert_eq!(super::median(&[]), None);
    }
}
