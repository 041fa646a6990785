//! What the operator wrote: jobs, and which machine gets which.
//!
//! `jobs/*` and `matches/*` of the data directory, as TOML, YAML or JSON. A [`Catalog`] is one
//! reading of them and never changes; [`Live`] swaps it when the files do.
//!
//! A broken file is a [`Fault`] with its name. So is a job with files for a Bottlerocket machine that
//! the machine would not take. It takes nothing else down, with one exception on
//! purpose: while a match cannot be read, no machine is matched, since the unreadable one might
//! have said otherwise, and the match a machine would fall back to may be the one that wipes disks.

mod files;
mod live;
mod rule;
mod selector;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nibs_job::{Class, Job};
use nibs_precheck::Finding;
use serde::{Deserialize, Serialize};

pub use files::MAX_DEFINITION;
pub use live::{Live, PutError, Stored};
pub use rule::Match;
pub use selector::{Selector, Specificity};

use files::Candidate;

/// Folder of the jobs in the data directory.
pub const JOBS: &str = "jobs";
/// Folder of the matches in the data directory.
pub const MATCHES: &str = "matches";

/// One reading of the data directory.
#[derive(Debug, Default)]
pub struct Catalog {
    jobs: BTreeMap<String, Defined<Arc<Job>>>,
    matches: Vec<Defined<Match>>,
    faults: Vec<Fault>,
    warnings: Vec<Warning>,
    /// What was there in each folder, to see when that changes; none if a folder failed to list.
    files: Option<Vec<Vec<Candidate>>>,
}

/// Something, and the file that defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defined<T> {
    /// The file, from the data directory: `jobs/demo.toml`.
    pub file: String,
    /// What it defines.
    pub value: T,
}

/// What is wrong with a file of the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fault {
    /// The file, from the data directory.
    pub file: String,
    /// What is wrong. Quotes nothing of its contents but keys, names and short values.
    pub error: String,
}

/// What cannot work in a file of the data directory that is taken nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Warning {
    /// The file, from the data directory.
    pub file: String,
    /// What cannot work.
    pub warning: String,
}

/// Why it is not known which job a machine gets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    /// A match could not be read, and it might be for this machine.
    #[error(
        "choosing a job: {} cannot be read, and might be for this machine; mend or remove it",
        files.join(", ")
    )]
    Unreadable {
        /// The files.
        files: Vec<String>,
    },
    /// Several matches fit equally well and name different jobs.
    #[error(
        "choosing a job: these fit equally well: {}; give one of them another label, or remove it",
        candidates.join(", ")
    )]
    Tie {
        /// Each as `matches/a.toml (job a)`.
        candidates: Vec<String>,
    },
    /// The match that fits names a job that is not defined.
    #[error(
        "choosing a job: {file} names job {job}, which no file in jobs/ defines{}",
        list(faults)
    )]
    NoSuchJob {
        /// The match.
        file: String,
        /// The job it names.
        job: String,
        /// Faults in `jobs/`, one of which may be the reason.
        faults: Vec<String>,
    },
}

fn list(faults: &[String]) -> String {
    if faults.is_empty() { String::new() } else { format!(" (broken: {})", faults.join(", ")) }
}

impl MatchError {
    /// Always the operator's files.
    pub fn class(&self) -> Class {
        Class::InvalidInput
    }
}

impl Catalog {
    /// Reads a data directory. Whatever is wrong is a fault; it never fails as a whole.
    pub fn read(directory: &Path) -> Self {
        let mut catalog = Self::default();
        let mut seen: BTreeMap<String, Vec<Defined<Arc<Job>>>> = BTreeMap::new();
        let (jobs, matches) = (catalog.list(directory, JOBS), catalog.list(directory, MATCHES));
        for candidate in jobs.iter().flatten() {
            let file = candidate.name(directory);
            let job = candidate
                .read()
                .and_then(|value| Job::from_value(value).map_err(|e| e.to_string()));
            match job {
                Ok(job) if catalog.takes(&file, &nibs_precheck::check(&job)) => {
                    let defined = Defined { file, value: Arc::new(job) };
                    seen.entry(defined.value.id.clone()).or_default().push(defined);
                }
                Ok(_) => {}
                Err(error) => catalog.faults.push(Fault { file, error }),
            }
        }
        for (id, mut definitions) in seen {
            if definitions.len() == 1 {
                catalog.jobs.extend(definitions.pop().map(|definition| (id, definition)));
                continue;
            }
            let files: Vec<String> = definitions.into_iter().map(|d| d.file).collect();
            let error = format!("job {id} is defined by all of {}: keep one", files.join(", "));
            catalog
                .faults
                .extend(files.into_iter().map(|file| Fault { file, error: error.clone() }));
        }
        for candidate in matches.iter().flatten() {
            let file = candidate.name(directory);
            let name = candidate.path.file_stem().unwrap_or_default().to_string_lossy();
            let rule = candidate
                .read()
                .and_then(|value| Match::from_value(value, &name).map_err(|e| e.to_string()));
            match rule {
                Ok(value) => catalog.matches.push(Defined { file, value }),
                Err(error) => catalog.faults.push(Fault { file, error }),
            }
        }
        catalog.files = jobs.zip(matches).map(|(jobs, matches)| vec![jobs, matches]);
        catalog
    }

    /// Notes what was found in a job; whether the job is taken.
    fn takes(&mut self, file: &str, findings: &[Finding]) -> bool {
        let before = self.faults.len();
        for finding in findings {
            let (file, text) = (file.to_owned(), finding.to_string());
            if finding.diagnostic.is_error() {
                self.faults.push(Fault { file, error: text });
            } else {
                self.warnings.push(Warning { file, warning: text });
            }
        }
        self.faults.len() == before
    }

    fn list(&mut self, directory: &Path, folder: &str) -> Option<Vec<Candidate>> {
        let listed = files::list(&directory.join(folder));
        if let Err(error) = &listed {
            let error = format!("listing the folder: {error}");
            self.faults.push(Fault { file: format!("{folder}/"), error });
        }
        listed.ok()
    }

    /// A job by its id.
    pub fn job(&self, id: &str) -> Option<&Defined<Arc<Job>>> {
        self.jobs.get(id)
    }

    /// All jobs, by id.
    pub fn jobs(&self) -> impl Iterator<Item = &Defined<Arc<Job>>> {
        self.jobs.values()
    }

    /// All matches, by file name.
    pub fn matches(&self) -> &[Defined<Match>] {
        &self.matches
    }

    /// What could not be read or is refused.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// What cannot work in the jobs.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Everything that is wrong: what could not be read, matches for jobs that are not there, and
    /// matches that are for the same machines and differ.
    pub fn check(&self) -> Vec<Fault> {
        let mut faults = self.faults.clone();
        for (index, one) in self.matches.iter().enumerate() {
            if !self.jobs.contains_key(&one.value.job) {
                let error = format!("names job {}, which no file in jobs/ defines", one.value.job);
                faults.push(Fault { file: one.file.clone(), error });
            }
            for other in &self.matches[..index] {
                if one.value.selector == other.value.selector && one.value.job != other.value.job {
                    let error = format!(
                        "selects the same machines as {} for another job: none would get either",
                        other.file
                    );
                    faults.push(Fault { file: one.file.clone(), error });
                }
            }
        }
        faults
    }

    /// The job for a machine: of the matches that fit, the most specific. None fits: none.
    pub fn job_for(&self, labels: &crate::Labels) -> Result<Option<Arc<Job>>, MatchError> {
        let unreadable = self.faults_in(MATCHES);
        if !unreadable.is_empty() {
            return Err(MatchError::Unreadable { files: unreadable });
        }
        let mut best: Vec<&Defined<Match>> = Vec::new();
        for rule in self.matches.iter().filter(|rule| rule.value.selector.matches(labels)) {
            let specificity = |rule: &Defined<Match>| rule.value.selector.specificity();
            match best.first().map(|first| specificity(rule).cmp(&specificity(first))) {
                Some(std::cmp::Ordering::Less) => {}
                Some(std::cmp::Ordering::Equal) => best.push(rule),
                None | Some(std::cmp::Ordering::Greater) => best = vec![rule],
            }
        }
        let Some(first) = best.first() else { return Ok(None) };
        if best.iter().any(|rule| rule.value.job != first.value.job) {
            let candidates = best.iter().map(|r| format!("{} (job {})", r.file, r.value.job));
            return Err(MatchError::Tie { candidates: candidates.collect() });
        }
        let job = &first.value.job;
        match self.jobs.get(job) {
            Some(definition) => Ok(Some(Arc::clone(&definition.value))),
            None => Err(MatchError::NoSuchJob {
                file: first.file.clone(),
                job: job.clone(),
                faults: self.faults_in(JOBS),
            }),
        }
    }

    fn faults_in(&self, folder: &str) -> Vec<String> {
        let is_in = |file: &str| file.split('/').next() == Some(folder);
        let files = self.faults.iter().map(|fault| &fault.file).filter(|file| is_in(file));
        // One file can have several.
        let mut files: Vec<String> = files.cloned().collect();
        files.dedup();
        files
    }
}

impl Candidate {
    /// `jobs/demo.toml`
    fn name(&self, directory: &Path) -> String {
        let inside = self.path.strip_prefix(directory).unwrap_or(&self.path);
        PathBuf::from(inside).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests;
