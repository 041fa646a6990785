//! What the virtual machine is told, and what it answers.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::super::figures::Outcome;
use super::super::limit::{Limit, Stages};

/// Starts the line of the answer on the console.
const MARK: &str = "nibs-bench answers ";
/// The longest task. The kernel takes a command line of 2048 bytes on x86 (`COMMAND_LINE_SIZE` in
/// Linux `arch/x86/include/asm/setup.h`), which holds a little else.
const LONGEST: usize = 1800;

/// What the machine has to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Task {
    /// What it fetches first, outside the clock.
    pub(super) downloads: Vec<Download>,
    /// What it does then.
    pub(super) work: Work,
}

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Download {
    /// Where it is.
    pub(super) url: String,
    /// Where it goes.
    pub(super) to: PathBuf,
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Work {
    /// Commands, each one's output the next one's input.
    Run {
        /// The commands.
        commands: Vec<Vec<String>>,
        /// What they write to.
        target: PathBuf,
        /// Seconds until they are killed.
        timeout: u64,
    },
    /// Each stage alone.
    Limit(Stages),
}

/// What the machine answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// What became of the commands.
    Outcome(Outcome),
    /// What the machine could do at best.
    Limit(Limit),
    /// Why there is neither.
    Failed(String),
}

impl Task {
    /// As one word of a kernel's command line.
    pub(super) fn encode(&self) -> Result<String> {
        let word = URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).context("encoding a task")?);
        let length = word.len();
        ensure!(length <= LONGEST, "a task of {length} bytes is too long for a command line");
        Ok(word)
    }

    /// From that word.
    pub(super) fn decode(word: &str) -> Result<Self> {
        let text = URL_SAFE_NO_PAD.decode(word).context("decoding the task")?;
        serde_json::from_slice(&text).context("reading the task")
    }
}

impl Answer {
    /// As a line on the console, whatever else the kernel has printed there.
    pub(super) fn line(&self) -> Result<String> {
        Ok(format!("\n{MARK}{}\n", serde_json::to_string(self).context("encoding the answer")?))
    }

    /// From a line on the console, if it is one.
    pub(super) fn find(line: &str) -> Option<Result<Self>> {
        let (_, text) = line.split_once(MARK)?;
        Some(serde_json::from_str(text).with_context(|| format!("reading the answer {text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(words: usize) -> Task {
        Task {
            downloads: vec![Download { url: "http://10.77.0.1:1/a b".into(), to: "/x".into() }],
            work: Work::Run {
                commands: vec![vec!["word".to_owned(); words]],
                target: "/dev/vda".into(),
                timeout: 5,
            },
        }
    }

    #[test]
    fn a_task_is_one_word_and_the_same_after_its_way() {
        let word = task(20).encode().unwrap();
        assert!(!word.contains([' ', '"', '=']));
        assert_eq!(Task::decode(&word).unwrap(), task(20));
        assert!(task(400).encode().unwrap_err().to_string().contains("too long"));
        assert!(Task::decode(&word[1..]).is_err());
    }

    #[test]
    fn an_answer_is_found_among_other_lines() {
        let answer = Answer::Failed("first\nsecond".into());
        let console = format!("[ 1.2] kernel{}more", answer.line().unwrap());
        let mut found = console.lines().filter_map(Answer::find);
        assert_eq!(found.next().unwrap().unwrap(), answer);
        assert!(found.next().is_none());
        assert!(Answer::find("nibs-bench answers {\"Outc").unwrap().is_err());
    }
}
