//! A machine's serial console: its log, followed line by line.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::last_lines;

/// Between two looks at the log.
const POLL: Duration = Duration::from_millis(20);

/// A line that a machine printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, since the console was opened.
    pub at: Duration,
    /// The text, without control characters and escape sequences.
    pub text: String,
}

/// The console of one machine.
#[derive(Debug)]
pub struct Console {
    log: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    said: Mutex<Said>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<Line>,
    /// What came after the last line's end.
    unfinished: String,
}

impl Console {
    /// Follows `log`, which need not exist yet, until it is dropped.
    pub fn follow(log: &Path) -> Self {
        let shared = Arc::new(Shared::default());
        let (path, weak) = (log.to_owned(), Arc::downgrade(&shared));
        thread::spawn(move || follow(&path, &weak));
        Self { log: log.to_owned(), shared }
    }

    /// All lines from number `from` on, counted from 0.
    pub fn lines(&self, from: usize) -> Vec<Line> {
        let said = self.shared.said.lock().unwrap();
        said.lines.get(from..).unwrap_or_default().to_vec()
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.shared.said.lock().unwrap().lines.len()
    }

    /// Whether nothing was printed yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a line that contains `text`, among those from number `from` on, and gives its
    /// number and the line.
    pub fn wait_for(&self, text: &str, from: usize, timeout: Duration) -> Result<(usize, Line)> {
        self.wait(text, timeout, |said| {
            let mut lines = said.lines.iter().enumerate().skip(from);
            lines.find(|(_, line)| line.text.contains(text)).map(|(n, line)| (n, line.clone()))
        })
    }

    /// Waits for `text` where a prompt stands: on the line that has no end yet, or on a line from
    /// number `from` on, where something else was printed behind it. Gives the number of the
    /// line that has no end yet.
    pub fn wait_for_prompt(&self, text: &str, from: usize, timeout: Duration) -> Result<usize> {
        self.wait(text, timeout, |said| {
            let mut ended = said.lines.iter().skip(from);
            let found =
                said.unfinished.contains(text) || ended.any(|line| line.text.contains(text));
            found.then_some(said.lines.len())
        })
    }

    fn wait<T>(
        &self,
        text: &str,
        timeout: Duration,
        find: impl Fn(&Said) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + timeout;
        let mut said = self.shared.said.lock().unwrap();
        loop {
            if let Some(found) = find(&said) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "the console did not say {text:?} within {timeout:?}; its last lines:\n{}",
                    self.last_lines()
                );
            }
            said = self.shared.grown.wait_timeout(said, left).unwrap().0;
        }
    }

    /// The last lines, for an error message.
    pub fn last_lines(&self) -> String {
        plain(&last_lines(&self.log))
    }
}

fn follow(path: &Path, shared: &Weak<Shared>) {
    let start = Instant::now();
    let mut file = None;
    let mut buffer = vec![0; 64 << 10];
    let mut rest = Vec::new();
    while let Some(shared) = shared.upgrade() {
        if file.is_none() {
            file = File::open(path).ok();
        }
        let length = file.as_mut().and_then(|file| file.read(&mut buffer).ok()).unwrap_or(0);
        if length == 0 {
            drop(shared);
            thread::sleep(POLL);
            continue;
        }
        rest.extend_from_slice(&buffer[..length]);
        let at = start.elapsed();
        let mut said = shared.said.lock().unwrap();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let text = plain(&String::from_utf8_lossy(&rest[..end]));
            rest.drain(..=end);
            said.lines.push(Line { at, text });
        }
        said.unfinished = plain(&String::from_utf8_lossy(&rest));
        shared.grown.notify_all();
    }
}

/// Text without escape sequences (ECMA-48 CSI) and control characters, save line ends and tabs.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            if characters.next_if_eq(&'[').is_some() {
                while characters.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
        } else if !character.is_control() || matches!(character, '\n' | '\t') {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_come_as_they_are_written_and_are_plain() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("console.log");
        let console = Console::follow(&log);
        let mut file = File::create(&log).unwrap();
        write!(file, "\u{1b}[2J\u{1b}[01;01Hfirst\r\nsec").unwrap();
        let (number, line) = console.wait_for("first", 0, Duration::from_secs(5)).unwrap();
        assert_eq!((number, line.text.as_str()), (0, "first"));
        assert_eq!(console.len(), 1, "a line without its end is not a line yet");
        assert_eq!(console.wait_for_prompt("sec", 1, Duration::from_secs(5)).unwrap(), 1);
        writeln!(file, "ond").unwrap();
        assert_eq!(console.wait_for("second", 1, Duration::from_secs(5)).unwrap().0, 1);
    }

    #[test]
    fn what_is_not_said_is_an_error_with_the_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("console.log");
        std::fs::write(&log, "Kernel panic\n").unwrap();
        let console = Console::follow(&log);
        let error = console.wait_for("login:", 0, Duration::from_millis(60)).unwrap_err();
        assert!(error.to_string().contains("Kernel panic"), "{error}");
    }

    #[test]
    fn a_line_before_the_start_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("console.log");
        std::fs::write(&log, "one\ntwo\n").unwrap();
        let console = Console::follow(&log);
        console.wait_for("two", 0, Duration::from_secs(5)).unwrap();
        assert!(console.wait_for("one", 1, Duration::from_millis(10)).is_err());
    }
}
