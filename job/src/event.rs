//! What happened, as values.
//!
//! The same event drives the console, the control plane and the assertions of the tests. Every
//! event carries its job, its place in the sequence and its time; a job's sequence rises by at
//! least one from event to event, also across restarts of the agent.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{Class, Outcome};

/// Something that happened in a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Id of the job.
    pub job: String,
    /// Place in the job's sequence, from 1, rising; gaps mean progress that was summed up.
    pub sequence: u64,
    /// When it happened by the machine's clock, RFC 3339 in UTC with milliseconds.
    #[serde(with = "rfc3339")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub time: SystemTime,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What can happen. `action` is the action's place in the job, from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum EventKind {
    /// The agent took the job up, for the first time or again after a restart.
    JobStarted {
        /// Name of the job.
        name: String,
        /// How many actions it has.
        actions: usize,
        /// Version of the agent.
        agent: String,
    },
    /// An attempt at an action began.
    ActionStarted {
        /// Which action.
        action: usize,
        /// Its name.
        name: String,
        /// What it uses.
        uses: String,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// How far the running action is.
    Progress {
        /// Which action.
        action: usize,
        /// The figures.
        #[serde(flatten)]
        progress: Progress,
    },
    /// An attempt failed; a retry follows if `retry-in-seconds` is there.
    AttemptFailed {
        /// Which action.
        action: usize,
        /// Which attempt, from 1.
        attempt: u32,
        /// Whose fault.
        class: Class,
        /// What was being done, expected and found.
        message: String,
        /// Seconds until the next attempt; absent if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_in_seconds: Option<f64>,
    },
    /// The running attempt starts over from its first byte, and its figures with it.
    Reset {
        /// Which action.
        action: usize,
        /// Why it could not go on where it was.
        reason: String,
    },
    /// Something is not as it should be, and the work goes on.
    Warning {
        /// Which action, if one was running.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        action: Option<usize>,
        /// What is wrong.
        message: String,
    },
    /// A line for the log.
    Log {
        /// Which action, if one was running.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        action: Option<usize>,
        /// How much it matters.
        level: LogLevel,
        /// The line.
        message: String,
    },
    /// An action ended, after its last attempt.
    ActionFinished {
        /// Which action.
        action: usize,
        /// How it ended.
        outcome: Outcome,
        /// How long all attempts took.
        seconds: f64,
    },
    /// The job ended. Nothing follows, and the control plane does not offer the job again.
    JobFinished {
        /// How it ended.
        outcome: Outcome,
        /// How long it took since the agent took it up.
        seconds: f64,
        /// Largest resident memory of the agent, in bytes, where the kernel tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peak_memory: Option<u64>,
    },
    /// An event that a newer peer knows and this build does not.
    #[serde(other)]
    Unknown,
}

impl EventKind {
    /// Whether it may be dropped in favour of a later one of its kind.
    pub fn is_progress(&self) -> bool {
        matches!(self, Self::Progress { .. })
    }
}

/// How far an action is. All counts are bytes since the attempt began, or since its last reset.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// Bytes read from the source, as served.
    pub bytes_in: u64,
    /// Bytes of the image that are on the disk, the zeroed among them.
    pub bytes_out: u64,
    /// Of those, bytes that are zero.
    pub bytes_zeroed: u64,
    /// Bytes that the source has in all, where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_in: Option<u64>,
    /// Bytes that the image has in all, where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_out: Option<u64>,
    /// Bytes of the image per second, over the last seconds.
    pub rate: u64,
}

impl Progress {
    /// Fraction done, 0 to 1, by whichever total is known.
    pub fn fraction(&self) -> Option<f64> {
        let of = |done: u64, total: u64| (total > 0).then(|| done as f64 / total as f64);
        self.total_out
            .and_then(|total| of(self.bytes_out, total))
            .or_else(|| self.total_in.and_then(|total| of(self.bytes_in, total)))
            .map(|fraction| fraction.min(1.0))
    }
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// For those who look for a fault.
    Debug,
    /// For those who watch.
    Info,
    /// A level that a newer peer knows and this build does not.
    #[serde(other)]
    Unknown,
}

mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&humantime::format_rfc3339_millis(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(d)?;
        humantime::parse_rfc3339(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_event_is_one_flat_object() {
        let progress =
            Progress { bytes_in: 5, bytes_out: 10, total_in: Some(10), ..Progress::default() };
        let event = Event {
            job: "j".into(),
            sequence: 3,
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
            kind: EventKind::Progress { action: 1, progress },
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "job": "j", "sequence": 3, "time": "1970-01-01T00:00:01.500Z", "event": "progress",
                "action": 1, "bytes-in": 5, "bytes-out": 10, "bytes-zeroed": 0, "total-in": 10,
                "rate": 0
            })
        );
        assert_eq!(serde_json::from_value::<Event>(json).unwrap(), event);
    }

    #[test]
    fn a_newer_agents_event_is_kept_as_unknown() {
        let text =
            r#"{"job":"j","sequence":1,"time":"2026-01-01T00:00:00Z","event":"levitated","by":3}"#;
        let event: Event = serde_json::from_str(text).unwrap();
        assert_eq!(event.kind, EventKind::Unknown);
    }

    #[test]
    fn the_fraction_uses_the_total_that_is_known() {
        let mut progress = Progress { bytes_in: 1, bytes_out: 9, ..Progress::default() };
        assert_eq!(progress.fraction(), None);
        progress.total_in = Some(4);
        assert_eq!(progress.fraction(), Some(0.25));
        progress.total_out = Some(10);
        assert_eq!(progress.fraction(), Some(0.9));
    }
}
