//! A note of the job that runs, so that if the agent dies, someone else can report it.
//!
//! The machine's init starts the agent with `--state FILE` and, when it died while that file
//! exists, `nibs post-mortem --state FILE --reason …`. The file is JSON with the keys of
//! [`RunningJob`], readable by root only, since the control plane's URL may hold a password.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use nibs_job::Event;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::journal::Outlet;

/// Sequence numbers are noted this many at a time, ahead of their use, so that the file is not
/// written for every event.
const RESERVE: u64 = 256;

/// A job that an agent runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunningJob {
    /// Id of the job.
    pub job: String,
    /// Id of the machine.
    pub machine: String,
    /// URL of the control plane, with user and password if it has them.
    pub control: String,
    /// A sequence number that no event of the job has reached.
    pub next_sequence: u64,
}

impl RunningJob {
    /// Reads the note; none if no job was running.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("reading {}", path.display()))?,
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .with_context(|| format!("reading {} as the note of a job", path.display()))
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        // Renamed into place: an agent that dies in the middle leaves the note before.
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        drop(file);
        fs::rename(&new, path)
    }
}

/// Keeps the note while a job runs. [`StateFile::clear`] takes it away.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    running: Mutex<RunningJob>,
}

impl StateFile {
    /// Notes that a job starts, with `running.next_sequence` as its first sequence number.
    pub fn create(path: &Path, running: RunningJob) -> Self {
        Self { path: path.to_owned(), running: Mutex::new(running) }
    }

    /// Takes the note away: the end of the job has been reported.
    pub fn clear(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!("removing {}: {error}", self.path.display());
        }
    }
}

impl Outlet for StateFile {
    fn take(&self, event: &Event) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.next_sequence > event.sequence {
            return;
        }
        running.next_sequence = event.sequence + RESERVE;
        if let Err(error) = running.write(&self.path) {
            let path = self.path.display();
            warn!("writing {path}: {error}; if the agent dies now, nobody can report it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use nibs_job::{EventKind, LogLevel};
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    #[test]
    fn the_note_is_always_ahead_of_the_events() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nibs/job.json");
        let running = RunningJob {
            job: "j".into(),
            machine: "m".into(),
            control: "http://h/".into(),
            next_sequence: 40,
        };
        let file = Arc::new(StateFile::create(&path, running));
        assert_eq!(RunningJob::read(&path).unwrap(), None);
        let journal = Journal::new("j", 40, vec![Arc::clone(&file) as Arc<dyn Outlet>]);
        for sequence in 40..40 + 2 * RESERVE {
            let level = LogLevel::Info;
            journal.record(EventKind::Log { action: None, level, message: String::new() });
            let noted = RunningJob::read(&path).unwrap().unwrap().next_sequence;
            assert!(noted > sequence, "{noted} after {sequence}");
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        file.clear();
        assert_eq!(RunningJob::read(&path).unwrap(), None);
    }

    #[test]
    fn a_broken_note_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "{").unwrap();
        let error = format!("{:#}", RunningJob::read(file.path()).unwrap_err());
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}
