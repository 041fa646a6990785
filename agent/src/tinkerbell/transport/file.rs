//! A list of actions in a file.
//!
//! After the last action, or one that failed, there is nothing to do any more, for ever: whoever
//! restarts an agent that ends would have the list done all over again.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{Error, Transport, list};
use crate::tinkerbell::{Assignment, Report, State};

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
#[error("reading the workflow file {}: {why}", path.display())]
pub struct ListError {
    path: PathBuf,
    why: String,
}

/// The actions of a file, one after the other.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    left: VecDeque<Assignment>,
    /// The name of the action that failed.
    failed: Option<String>,
}

impl File {
    /// Reads the file. Nothing of it is done if a part of it cannot be read.
    pub fn read(path: &Path, agent: &str) -> Result<Self, ListError> {
        let error = |why| ListError { path: path.to_owned(), why };
        let text = fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
        let left = list::parse(&text, agent).map_err(error)?.into();
        Ok(Self { path: path.to_owned(), left, failed: None })
    }

    /// What there is to say when nothing is left to do.
    fn end(&self) -> String {
        let path = self.path.display();
        match &self.failed {
            Some(name) => format!("action {name} of {path} failed, so what follows it is not done"),
            None => format!("all actions of {path} are done"),
        }
    }
}

#[async_trait]
impl Transport for File {
    async fn next(&mut self) -> Result<Assignment, Error> {
        match self.left.front() {
            Some(assignment) => Ok(assignment.clone()),
            None => {
                match &self.failed {
                    Some(_) => tracing::error!("{}", self.end()),
                    None => tracing::info!("{}", self.end()),
                }
                std::future::pending().await
            }
        }
    }

    async fn report(&mut self, assignment: &Assignment, report: &Report) -> Result<(), Error> {
        match report.state {
            State::Running => {}
            State::Success => drop(self.left.pop_front()),
            State::Failed | State::Timeout => {
                self.failed = Some(assignment.name.clone());
                self.left.clear();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn file(text: &str) -> (tempfile::NamedTempFile, Result<File, ListError>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let list = File::read(file.path(), "a");
        (file, list)
    }

    const TWO: &str = "- {name: first, image: x}\n- {name: second, image: y}\n";

    async fn report(list: &mut File, state: State) {
        let assignment = list.next().await.unwrap();
        let report =
            Report { state, started: SystemTime::now(), stopped: None, message: String::new() };
        list.report(&assignment, &report).await.unwrap();
    }

    async fn is_over(list: &mut File) -> bool {
        tokio::time::timeout(Duration::from_millis(20), list.next()).await.is_err()
    }

    #[tokio::test]
    async fn an_action_is_handed_out_until_it_is_done() {
        let mut list = file(TWO).1.unwrap();
        report(&mut list, State::Running).await;
        assert_eq!(list.next().await.unwrap().name, "first");
        report(&mut list, State::Success).await;
        assert_eq!(list.next().await.unwrap().name, "second");
        report(&mut list, State::Success).await;
        assert!(is_over(&mut list).await);
        let end = list.end();
        assert!(end.starts_with("all actions of /") && end.ends_with("are done"), "{end}");
    }

    #[tokio::test]
    async fn nothing_follows_what_failed() {
        for state in [State::Failed, State::Timeout] {
            let mut list = file(TWO).1.unwrap();
            report(&mut list, state).await;
            assert!(is_over(&mut list).await);
            let end = list.end();
            assert!(end.starts_with("action first of /") && end.ends_with("is not done"), "{end}");
        }
    }

    #[test]
    fn a_file_that_is_no_list_is_refused_by_name() {
        let (path, list) = file("hunter2: hunter2");
        let error = list.unwrap_err().to_string();
        assert!(error.contains(path.path().to_str().unwrap()), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let error = File::read(Path::new("/nowhere/wf.yaml"), "a").unwrap_err().to_string();
        assert!(error.contains("/nowhere/wf.yaml") && error.contains("No such file"), "{error}");
    }
}
