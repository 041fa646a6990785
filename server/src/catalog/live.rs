//! The catalog of a running server: swapped when its files change, with word to those who wait.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nibs_job::{Class, DecodeError, Job};
use nibs_precheck::Finding;
use serde_json::Value;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Catalog, JOBS, MATCHES, Match, files};

/// How often the files are looked at: a look costs one `stat` each, and an operator who edits a
/// file and turns to the machine is never faster.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Longest name of a match, bytes: it has to fit a file name.
const MAX_NAME: usize = 128;

/// The current catalog of a data directory.
#[derive(Debug)]
pub struct Live {
    directory: PathBuf,
    current: watch::Sender<Arc<Catalog>>,
    /// Held while files are written or read, so that no reading older than a write is kept.
    turn: Mutex<()>,
}

/// Why a definition was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// It is not what it should be.
    #[error("storing {file}: {source}")]
    Invalid {
        /// Where it would have been stored.
        file: String,
        /// What is wrong, and where.
        source: DecodeError,
    },
    /// It holds files that the machine would not take.
    #[error("storing {file}: {}", lines(findings))]
    Refused {
        /// Where it would have been stored.
        file: String,
        /// All that was found in them, errors and warnings.
        findings: Vec<Finding>,
    },
    /// Another file is in the way.
    #[error("storing {file}: {other} {why}; change or remove that file")]
    Conflict {
        /// Where it would have been stored.
        file: String,
        /// The file in the way.
        other: String,
        /// In which way.
        why: String,
    },
    /// The file could not be written.
    #[error("writing {file}: {source}")]
    Write {
        /// Which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

fn lines(findings: &[Finding]) -> String {
    let errors = findings.iter().filter(|finding| finding.diagnostic.is_error());
    errors.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A job that was stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The job.
    pub job: Arc<Job>,
    /// What cannot work in it; no errors.
    pub findings: Vec<Finding>,
}

impl PutError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Invalid { .. } | Self::Refused { .. } | Self::Conflict { .. } => {
                Class::InvalidInput
            }
            Self::Write { .. } => Class::Environment,
        }
    }
}

impl Live {
    /// Reads the data directory, making its folders if they are not there.
    pub fn open(directory: &Path) -> io::Result<Self> {
        for folder in [JOBS, MATCHES] {
            fs::create_dir_all(directory.join(folder))?;
        }
        let catalog = Catalog::read(directory);
        tell(&Catalog::default(), &catalog);
        let current = watch::Sender::new(Arc::new(catalog));
        Ok(Self { directory: directory.to_owned(), current, turn: Mutex::new(()) })
    }

    /// The catalog as it is now.
    pub fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.current.borrow())
    }

    /// Tells when a machine may get another answer than before.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Catalog>> {
        self.current.subscribe()
    }

    /// Wakes those who wait for an answer: something beside the catalog changed.
    pub fn wake(&self) {
        self.current.send_modify(|_| {});
    }

    /// Looks for changed files for ever.
    pub async fn follow(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let live = Arc::clone(&self);
            // A panic in there is a fault of ours; the next look still comes.
            let _ = tokio::task::spawn_blocking(move || live.look()).await;
        }
    }

    /// Reads the files again if any changed.
    pub fn look(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.reread();
    }

    fn reread(&self) {
        let before = self.current();
        let lists = [JOBS, MATCHES].map(|folder| files::list(&self.directory.join(folder)).ok());
        if before.files.is_some() && before.files == lists.into_iter().collect() {
            return;
        }
        let after = Catalog::read(&self.directory);
        if before.files == after.files && before.faults() == after.faults() {
            return;
        }
        tell(&before, &after);
        info!(
            jobs = after.jobs().count(),
            matches = after.matches().len(),
            faults = after.faults().len(),
            "the data directory changed"
        );
        self.current.send_replace(Arc::new(after));
    }

    /// Stores a job. Its id is `id`, which it may leave out.
    pub fn put_job(&self, id: &str, mut value: Value) -> Result<Stored, PutError> {
        let file = format!("{JOBS}/{id}.json");
        let invalid = |source| PutError::Invalid { file: file.clone(), source };
        if let Value::Object(table) = &mut value {
            table.entry("id").or_insert_with(|| id.into());
        }
        let job = Job::from_value(value.clone()).map_err(invalid)?;
        if job.id != id {
            let why = format!("is {:?}; expected {id:?}, as in the URL", job.id);
            return Err(invalid(DecodeError::new(why).within("id")));
        }
        let findings = nibs_precheck::check(&job);
        if findings.iter().any(|finding| finding.diagnostic.is_error()) {
            return Err(PutError::Refused { file, findings });
        }
        self.store(&file, &value, |catalog| {
            let mut jobs = catalog.jobs();
            jobs.find_map(|other| match (other.file == file, other.value.id == id) {
                (false, true) => Some((other.file.clone(), format!("defines job {id} already"))),
                (true, false) => Some((file.clone(), format!("defines job {}", other.value.id))),
                _ => None,
            })
        })?;
        Ok(Stored { job: Arc::new(job), findings })
    }

    /// Stores a match by its name.
    pub fn put_match(&self, name: &str, value: &Value) -> Result<Match, PutError> {
        let file = format!("{MATCHES}/{name}.json");
        let invalid = |source| PutError::Invalid { file: file.clone(), source };
        if !is_file_name(name) {
            return Err(invalid(DecodeError::new(format!(
                "{name:?} is no match name; expected 1 to {MAX_NAME} letters, digits, `.`, `_` or \
                 `-`, not starting with `.`"
            ))));
        }
        let rule = Match::from_value(value.clone(), name).map_err(invalid)?;
        if rule.name != name {
            let why = format!("is {:?}; expected {name:?}, as in the URL", rule.name);
            return Err(invalid(DecodeError::new(why).within("name")));
        }
        self.store(&file, value, |catalog| {
            let mut matches = catalog.matches().iter();
            let other = matches.find(|other| other.file != file && other.value.name == name)?;
            Some((other.file.clone(), format!("is match {name} already")))
        })?;
        Ok(rule)
    }

    fn store(
        &self,
        file: &str,
        value: &Value,
        conflict: impl FnOnce(&Catalog) -> Option<(String, String)>,
    ) -> Result<(), PutError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.reread();
        if let Some((other, why)) = conflict(&self.current()) {
            return Err(PutError::Conflict { file: file.to_owned(), other, why });
        }
        let text = format!("{value:#}\n");
        files::replace(&self.directory.join(file), text.as_bytes())
            .map_err(|source| PutError::Write { file: file.to_owned(), source })?;
        self.reread();
        Ok(())
    }
}

/// The same words that a job's id may be made of.
fn is_file_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

/// Logs the faults and warnings that came, and the faults that went.
fn tell(before: &Catalog, after: &Catalog) {
    for fault in after.faults().iter().filter(|fault| !before.faults().contains(fault)) {
        warn!("{}: {}", fault.file, fault.error);
    }
    for warning in after.warnings().iter().filter(|it| !before.warnings().contains(it)) {
        warn!("{}: {}", warning.file, warning.warning);
    }
    let still = |file: &str| after.faults().iter().any(|fault| fault.file == file);
    let mut mended: Vec<_> = before.faults().iter().map(|fault| fault.file.as_str()).collect();
    mended.dedup();
    for file in mended.into_iter().filter(|file| !still(file)) {
        info!("{file}: mended or removed");
    }
}
