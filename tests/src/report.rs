//! The closing report: what was reached, held against what must be.

use std::fmt::{self, Display};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// What a run of the demo found.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// What was installed.
    pub system: String,
    /// What ran the machine.
    pub accelerator: String,
    /// Memory of the machine, in bytes.
    pub machine_memory: u64,
    /// Seconds from the command to power-on, where the command said when it was given.
    pub seconds_to_power_on: Option<f64>,
    /// Whether every limit is kept and every check holds.
    pub passed: bool,
    /// Figures that have a limit.
    pub limits: Vec<Limit>,
    /// What was seen of the installed system.
    pub checks: Vec<Check>,
    /// Seconds from power-on to each stage.
    pub stages: Vec<Stage>,
}

/// A figure and its limit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limit {
    /// What is measured.
    pub name: String,
    /// What it came to; absent if it could not be measured, which counts as failed.
    pub value: Option<f64>,
    /// The most it may be.
    pub at_most: f64,
    /// Unit of both.
    pub unit: Unit,
    /// Whether it is kept.
    pub passed: bool,
}

/// Unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes, shown as MiB.
    Bytes,
    /// Seconds.
    Seconds,
}

/// Something that must be so.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Check {
    /// What must be so.
    pub name: String,
    /// What was found.
    pub found: String,
    /// Whether it is so.
    pub passed: bool,
}

/// A point of the story.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stage {
    /// What was reached.
    pub name: String,
    /// When, in seconds from power-on.
    pub seconds: f64,
}

impl Report {
    /// Adds a figure that may be at most `at_most`.
    pub fn limit(&mut self, name: &str, value: Option<f64>, at_most: f64, unit: Unit) {
        let passed = value.is_some_and(|value| value <= at_most);
        self.limits.push(Limit { name: name.to_owned(), value, at_most, unit, passed });
    }

    /// Adds something that must be so.
    pub fn check(&mut self, name: impl Into<String>, found: impl Into<String>, passed: bool) {
        self.checks.push(Check { name: name.into(), found: found.into(), passed });
    }

    /// Says whether all of it is as it must be, and writes it as JSON.
    pub fn close(&mut self, path: &Path) -> Result<()> {
        self.passed = self.limits.iter().all(|limit| limit.passed)
            && self.checks.iter().all(|check| check.passed);
        let text = serde_json::to_string_pretty(self).context("encoding the report")?;
        fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = |passed| if passed { "ok  " } else { "FAIL" };
        for check in &self.checks {
            writeln!(f, "{} {}: {}", mark(check.passed), check.name, check.found)?;
        }
        for limit in &self.limits {
            let (value, at_most) =
                (limit.unit.show(limit.value), limit.unit.show(Some(limit.at_most)));
            writeln!(f, "{} {}: {value} (at most {at_most})", mark(limit.passed), limit.name)?;
        }
        Ok(())
    }
}

impl Unit {
    fn show(self, value: Option<f64>) -> String {
        const MIB: f64 = (1 << 20) as f64;
        match (self, value) {
            (_, None) => "not measured".to_owned(),
            (Self::Bytes, Some(bytes)) => format!("{:.2} MiB", bytes / MIB),
            (Self::Seconds, Some(seconds)) => format!("{seconds:.1} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(report: &mut Report) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        report.close(&path).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(json["passed"], report.passed);
        report.passed
    }

    #[test]
    fn a_figure_at_its_limit_passes_and_one_above_does_not() {
        let mut report = Report::default();
        report.limit("agent", Some(9.0), 9.0, Unit::Bytes);
        assert!(passes(&mut report));
        report.limit("time", Some(120.1), 120.0, Unit::Seconds);
        assert!(!passes(&mut report));
    }

    #[test]
    fn what_was_not_measured_fails() {
        let mut report = Report::default();
        report.limit("memory", None, 64.0, Unit::Bytes);
        assert!(!passes(&mut report));
        assert!(report.to_string().contains("FAIL memory: not measured"), "{report}");
    }

    #[test]
    fn one_failed_check_fails_all() {
        let mut report = Report::default();
        report.check("a file", "as written", true);
        assert!(passes(&mut report));
        report.check("another", "absent", false);
        assert!(!passes(&mut report));
    }
}
