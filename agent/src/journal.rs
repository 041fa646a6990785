//! The one place where events are made: each gets its job, its place in the sequence and its
//! time, and goes to every outlet in that order.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use nibs_job::{Event, EventKind};

/// Somewhere events go: a view, a file, the reporter. Must not block for long.
pub trait Outlet: Send + Sync {
    /// Takes note of an event. Events come in the order of their sequence.
    fn take(&self, event: &Event);
}

/// The events of one job.
pub struct Journal {
    job: String,
    outlets: Vec<Arc<dyn Outlet>>,
    /// Held while an event is handed out, so that no outlet sees two in another order.
    next: Mutex<u64>,
}

impl Journal {
    /// The journal of the job with this id. `first_sequence` is 1, or what the control plane asks
    /// for when it knows earlier events of the job.
    pub fn new(job: &str, first_sequence: u64, outlets: Vec<Arc<dyn Outlet>>) -> Self {
        Self { job: job.to_owned(), outlets, next: Mutex::new(first_sequence) }
    }

    /// Says what happened, to all outlets.
    pub fn record(&self, kind: EventKind) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let event = Event { job: self.job.clone(), sequence: *next, time: SystemTime::now(), kind };
        *next += 1;
        for outlet in &self.outlets {
            outlet.take(&event);
        }
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("job", &self.job)
            .field("next", &self.next)
            .field("outlets", &self.outlets.len())
            .finish()
    }
}
