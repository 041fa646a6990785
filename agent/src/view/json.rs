//! Events as JSON, one object a line.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use nibs_job::Event;
use tracing::warn;

use crate::journal::Outlet;

/// Writes each event as one line of JSON and flushes it.
#[derive(Debug)]
pub struct JsonLines<W> {
    /// None once its reader has gone: the job goes on without it.
    to: Mutex<Option<W>>,
}

impl<W: Write> JsonLines<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> Self {
        Self { to: Mutex::new(Some(to)) }
    }
}

impl<W: Write + Send> Outlet for JsonLines<W> {
    fn take(&self, event: &Event) {
        let mut slot = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(to) = slot.as_mut() else { return };
        let written =
            serde_json::to_vec(event).map_err(std::io::Error::from).and_then(|mut line| {
                line.push(b'\n');
                to.write_all(&line)?;
                to.flush()
            });
        if let Err(error) = written {
            warn!("writing events as JSON lines: {error}; the job goes on without them");
            *slot = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use nibs_job::{EventKind, LogLevel};
    use std::sync::Arc;

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log(message: &str) -> EventKind {
        EventKind::Log { action: None, level: LogLevel::Info, message: message.into() }
    }

    #[test]
    fn a_line_is_one_event_and_comes_back_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let view = Arc::new(JsonLines::new(file.reopen().unwrap()));
        let journal = Journal::new("j", 7, vec![view]);
        journal.record(log("two\nlines"));
        journal.record(log("end"));
        let text = std::fs::read_to_string(file.path()).unwrap();
        let events: Vec<Event> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.iter().map(|e| e.sequence).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(events[0].kind, log("two\nlines"));
    }

    #[test]
    fn a_reader_that_goes_away_does_not_stop_the_job() {
        let view = Arc::new(JsonLines::new(Gone));
        let journal = Journal::new("j", 1, vec![Arc::clone(&view) as Arc<dyn Outlet>]);
        journal.record(log("a"));
        journal.record(log("b"));
        assert!(view.to.lock().unwrap().is_none());
    }
}
