//! What a running attempt says of itself, as events of its action.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nibs_job::{EventKind, LogLevel, Progress};

use crate::journal::Journal;

/// Progress is told at most this often: fast enough for an eye, slow enough for a serial console.
const PROGRESS_PERIOD: Duration = Duration::from_millis(250);

/// The events of one attempt. Clones speak for the same attempt.
#[derive(Debug, Clone)]
pub struct Notes {
    journal: Arc<Journal>,
    action: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    told: Option<Instant>,
    /// The latest figures, if they came too soon to be told.
    untold: Option<Progress>,
}

impl Notes {
    pub(super) fn new(journal: Arc<Journal>, action: usize) -> Self {
        Self { journal, action, state: Arc::default() }
    }

    /// How far it is. Figures that come faster than an eye follows are summed up.
    pub fn progress(&self, progress: Progress) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if state.told.is_some_and(|told| told.elapsed() < PROGRESS_PERIOD) {
            state.untold = Some(progress);
        } else {
            state.told = Some(Instant::now());
            state.untold = None;
            self.journal.record(EventKind::Progress { action: self.action, progress });
        }
    }

    /// It starts over from its first byte: figures from before say nothing any more.
    pub fn reset(&self, reason: String) {
        self.lock().untold = None;
        self.say(EventKind::Reset { action: self.action, reason });
    }

    /// Something is not as it should be, and the work goes on.
    pub fn warning(&self, message: String) {
        self.say(EventKind::Warning { action: Some(self.action), message });
    }

    /// A line for the log.
    pub fn log(&self, level: LogLevel, message: String) {
        self.say(EventKind::Log { action: Some(self.action), level, message });
    }

    /// Ends the attempt: the last figures are told, and nothing after them, even if a thread that
    /// was given up comes back to life.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        if let Some(progress) = state.untold.take() {
            self.journal.record(EventKind::Progress { action: self.action, progress });
        }
    }

    fn say(&self, kind: EventKind) {
        // Held while it is told, so that nothing slips in after `close`.
        let state = self.lock();
        if !state.closed {
            self.journal.record(kind);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
