//! A line for each step of a job, and one every few seconds while an action runs.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nibs_job::{Event, EventKind};

use super::story::Story;
use crate::journal::Outlet;

/// Progress lines are this far apart: a log is read later, and a serial console is slow.
const PROGRESS_PERIOD: Duration = Duration::from_secs(5);

/// Writes lines for people.
#[derive(Debug)]
pub struct Lines<W> {
    state: Mutex<State<W>>,
}

#[derive(Debug)]
struct State<W> {
    to: W,
    story: Story,
    /// When the running action last said something.
    said: Option<Instant>,
}

impl<W: Write> Lines<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> Self {
        Self { state: Mutex::new(State { to, story: Story::default(), said: None }) }
    }
}

impl<W: Write + Send> Outlet for Lines<W> {
    fn take(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let too_soon = state.said.is_some_and(|said| said.elapsed() < PROGRESS_PERIOD);
        if event.kind.is_progress() && too_soon {
            return;
        }
        if matches!(event.kind, EventKind::Progress { .. } | EventKind::ActionStarted { .. }) {
            state.said = Some(Instant::now());
        }
        if let Some(line) = state.story.tell(event) {
            // Whoever read the lines may be gone; the job goes on.
            let _ = writeln!(state.to, "{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nibs_job::Progress;
    use std::time::SystemTime;

    #[test]
    fn progress_does_not_flood_the_log() {
        let lines = Lines::new(Vec::new());
        let take = |kind| {
            lines.take(&Event { job: "j".into(), sequence: 1, time: SystemTime::now(), kind });
        };
        take(EventKind::JobStarted { name: "os".into(), actions: 1, agent: "0".into() });
        take(EventKind::ActionStarted {
            action: 0,
            name: "write".into(),
            uses: "stream-image".into(),
            attempt: 1,
        });
        let progress = EventKind::Progress { action: 0, progress: Progress::default() };
        for _ in 0..50 {
            take(progress.clone());
        }
        let written = |lines: &Lines<Vec<u8>>| {
            String::from_utf8(lines.state.lock().unwrap().to.clone()).unwrap()
        };
        assert_eq!(written(&lines).lines().count(), 2);
        lines.state.lock().unwrap().said = Instant::now().checked_sub(PROGRESS_PERIOD);
        take(progress.clone());
        take(progress);
        assert_eq!(written(&lines).lines().count(), 3);
    }
}
