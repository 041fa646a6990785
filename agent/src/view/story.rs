//! Events in words.

use std::time::Duration;

use nibs_job::{Event, EventKind, LogLevel, Progress, Size};

/// A job so far: enough of it to call its actions by their names.
#[derive(Debug, Default)]
pub(super) struct Story {
    actions: usize,
    names: Vec<String>,
}

impl Story {
    /// What an event says to a person; none for what is of no interest to one.
    pub(super) fn tell(&mut self, event: &Event) -> Option<String> {
        Some(match &event.kind {
            EventKind::JobStarted { name, actions, .. } => {
                self.actions = *actions;
                let name = if *name == event.job { String::new() } else { format!(" ({name})") };
                format!("job {}{name}: {}", event.job, count(*actions))
            }
            EventKind::ActionStarted { action, name, uses, attempt } => {
                self.names.resize((*action + 1).max(self.names.len()), String::new());
                self.names[*action].clone_from(name);
                let again =
                    if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
                format!("{}: started ({uses}{again})", self.action(*action))
            }
            EventKind::Progress { action, progress } => {
                format!("{}: {}", self.action(*action), figures(progress))
            }
            EventKind::AttemptFailed { action, attempt, class, message, retry_in_seconds } => {
                // A failure without a retry is told by the end of its action.
                let wait = (*retry_in_seconds)?;
                let action = self.action(*action);
                format!(
                    "{action}: attempt {attempt} failed ({class}): {message}; \
                     trying again in {wait:.1} s"
                )
            }
            EventKind::Reset { action, reason } => {
                format!("{}: starting over: {reason}", self.action(*action))
            }
            EventKind::Warning { action, message } => {
                format!("{}warning: {message}", self.of(*action))
            }
            EventKind::Log { level: LogLevel::Debug, .. } | EventKind::Unknown => return None,
            EventKind::Log { action, message, .. } => format!("{}{message}", self.of(*action)),
            EventKind::ActionFinished { action, outcome, seconds } => {
                format!("{}: {outcome} (after {seconds:.1} s)", self.action(*action))
            }
            EventKind::JobFinished { outcome, seconds, peak_memory } => {
                let memory = peak_memory.map(|bytes| format!(", peak memory {}", Size(bytes)));
                let memory = memory.unwrap_or_default();
                format!("job {}: {outcome} (after {seconds:.1} s{memory})", event.job)
            }
        })
    }

    /// `[2/5] name`.
    pub(super) fn action(&self, action: usize) -> String {
        let name = self.names.get(action).map_or("", String::as_str);
        format!("[{}/{}] {name}", action + 1, self.actions)
    }

    fn of(&self, action: Option<usize>) -> String {
        action.map(|action| self.action(action) + ": ").unwrap_or_default()
    }
}

/// `1 action`, `2 actions`.
fn count(actions: usize) -> String {
    format!("{actions} action{}", if actions == 1 { "" } else { "s" })
}

/// `45 %, 230.1 MiB (120.0 MiB of them zeros) of 512.0 MiB, 88.0 MiB/s, 3s left`
pub(super) fn figures(progress: &Progress) -> String {
    let mut parts = Vec::new();
    if let Some(fraction) = progress.fraction() {
        // Rounded down: 100 % is for what is done.
        parts.push(format!("{} %", (fraction * 100.0) as u64));
    }
    let mut bytes = Size(progress.bytes_out).to_string();
    if progress.bytes_zeroed > 0 {
        bytes += &format!(" ({} of them zeros)", Size(progress.bytes_zeroed));
    }
    if let Some(total) = progress.total_out {
        bytes += &format!(" of {}", Size(total));
    }
    parts.push(bytes);
    parts.push(format!("{}/s", Size(progress.rate)));
    if let Some(left) = time_left(progress) {
        parts.push(format!("{} left", nibs_job::Span(left)));
    }
    parts.join(", ")
}

/// Time until the end at the present rate, whole seconds.
fn time_left(progress: &Progress) -> Option<Duration> {
    let left = match (progress.total_out, progress.fraction()) {
        (Some(total), _) => total.saturating_sub(progress.bytes_out) as f64,
        // By the share of the source that was read, the image being as long as it seems so far.
        (None, Some(done)) if done > 0.0 => progress.bytes_out as f64 * (1.0 - done) / done,
        _ => return None,
    };
    (progress.rate > 0).then(|| Duration::from_secs((left / progress.rate as f64).ceil() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nibs_job::{Class, Outcome};
    use std::time::SystemTime;

    const MIB: u64 = 1 << 20;

    fn told(kinds: impl IntoIterator<Item = EventKind>) -> Vec<String> {
        let mut story = Story::default();
        let event = |kind| Event { job: "j".into(), sequence: 1, time: SystemTime::now(), kind };
        kinds.into_iter().filter_map(|kind| story.tell(&event(kind))).collect()
    }

    #[test]
    fn a_story_calls_actions_by_their_names() {
        let failed = |retry_in_seconds| EventKind::AttemptFailed {
            action: 0,
            attempt: 1,
            class: Class::Transient,
            message: "cut short".into(),
            retry_in_seconds,
        };
        let started = |attempt| EventKind::ActionStarted {
            action: 0,
            name: "write the image".into(),
            uses: "stream-image".into(),
            attempt,
        };
        let lines = told([
            EventKind::JobStarted { name: "os".into(), actions: 2, agent: "0".into() },
            started(1),
            failed(Some(2.04)),
            started(2),
            EventKind::Warning { action: Some(0), message: "no digest".into() },
            EventKind::Reset { action: 0, reason: "the image has changed".into() },
            failed(None),
            EventKind::ActionFinished {
                action: 0,
                outcome: Outcome::Failed { class: Class::Transient, message: "cut short".into() },
                seconds: 3.21,
            },
            EventKind::JobFinished {
                outcome: Outcome::Cancelled,
                seconds: 4.0,
                peak_memory: Some(3 * MIB),
            },
            EventKind::Unknown,
        ]);
        assert_eq!(
            lines,
            [
                "job j (os): 2 actions",
                "[1/2] write the image: started (stream-image)",
                "[1/2] write the image: attempt 1 failed (transient): cut short; trying again in 2.0 s",
                "[1/2] write the image: started (stream-image, attempt 2)",
                "[1/2] write the image: warning: no digest",
                "[1/2] write the image: starting over: the image has changed",
                "[1/2] write the image: failed (transient): cut short (after 3.2 s)",
                "job j: cancelled (after 4.0 s, peak memory 3.0 MiB)",
            ]
        );
    }

    #[test]
    fn figures_show_what_is_known() {
        let mut progress =
            Progress { bytes_in: 10, bytes_out: 64 * MIB, rate: 32 * MIB, ..Progress::default() };
        assert_eq!(figures(&progress), "64.0 MiB, 32.0 MiB/s");
        progress.total_in = Some(40);
        assert_eq!(figures(&progress), "25 %, 64.0 MiB, 32.0 MiB/s, 6s left");
        progress.bytes_zeroed = MIB;
        progress.total_out = Some(128 * MIB);
        assert_eq!(
            figures(&progress),
            "50 %, 64.0 MiB (1.0 MiB of them zeros) of 128.0 MiB, 32.0 MiB/s, 2s left"
        );
        progress.rate = 0;
        assert!(!figures(&progress).contains("left"));
    }
}
