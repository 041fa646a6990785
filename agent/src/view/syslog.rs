//! A job's events to syslog, in the words for people.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nibs_job::{Event, EventKind, Outcome};

use super::story::Story;
use crate::journal::Outlet;
use crate::syslog::{Severity, Syslog};

/// Progress lines are this far apart: a receiver gets those of a whole rack.
const PROGRESS_PERIOD: Duration = Duration::from_secs(30);

/// Tells a receiver what happens to a job.
#[derive(Debug)]
pub struct SyslogLines {
    to: Arc<Syslog>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    story: Story,
    /// When the running action last said something.
    said: Option<Instant>,
}

impl SyslogLines {
    /// Tells `to`.
    pub fn new(to: Arc<Syslog>) -> Self {
        Self { to, state: Mutex::default() }
    }
}

impl Outlet for SyslogLines {
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
            self.to.say(severity(&event.kind), event.time, &line);
        }
    }
}

fn severity(kind: &EventKind) -> Severity {
    match kind {
        EventKind::ActionFinished { outcome, .. } | EventKind::JobFinished { outcome, .. } => {
            match outcome {
                Outcome::Failed { .. } => Severity::Err,
                _ => Severity::Info,
            }
        }
        EventKind::Warning { .. } | EventKind::AttemptFailed { .. } | EventKind::Reset { .. } => {
            Severity::Warning
        }
        _ => Severity::Info,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nibs_job::{Class, Progress};
    use std::net::UdpSocket;
    use std::time::SystemTime;

    #[test]
    fn a_job_is_told_with_the_weight_of_each_event() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let syslog = Arc::new(Syslog::new());
        syslog.send_to(receiver.local_addr().unwrap(), "m").unwrap();
        let view = SyslogLines::new(syslog);
        let take = |kind| {
            view.take(&Event { job: "j".into(), sequence: 1, time: SystemTime::now(), kind });
        };
        let next = || {
            let mut buffer = vec![0; 1 << 16];
            let length = receiver.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        take(EventKind::JobStarted { name: "os".into(), actions: 1, agent: "0".into() });
        let message = next();
        assert!(message.starts_with("<30>1 ") && message.ends_with("job j (os): 1 action"));
        let (name, uses) = ("write".into(), "stream-image".into());
        take(EventKind::ActionStarted { action: 0, name, uses, attempt: 1 });
        assert!(next().ends_with("[1/1] write: started (stream-image)"));
        for _ in 0..50 {
            take(EventKind::Progress { action: 0, progress: Progress::default() });
        }
        take(EventKind::Warning { action: Some(0), message: "no digest".into() });
        let message = next();
        assert!(message.starts_with("<28>1 ") && message.ends_with("warning: no digest"));
        let outcome = Outcome::Failed { class: Class::Transient, message: "cut short".into() };
        take(EventKind::ActionFinished { action: 0, outcome, seconds: 1.0 });
        assert!(next().starts_with("<27>1 "));
    }
}
