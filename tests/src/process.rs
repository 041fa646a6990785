//! Programs that the lab runs: short ones to their end, long ones until they are dropped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How many of a log's last lines an error shows.
const LAST_LINES: usize = 20;
/// How long a program has to end itself after SIGTERM.
const TERM_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at whether a program has ended.
const POLL: Duration = Duration::from_millis(10);

/// Runs a program to its end and gives its output; fails with its standard error.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("running {command:?}: {}: {}", output.status, error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program in the background, its output in a log file. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program; its output is added to `log`.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let errors = output.try_clone().context("duplicating a log's handle")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {name} ({command:?})"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Fails with the last lines of its log if the program has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("waiting for {}", self.name))? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended ({status}); its last lines:\n{}", self.name, last_lines(&self.log))
            }
        }
    }

    /// Process id, as this process sees it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once, as a power cut would (SIGKILL).
    pub fn kill(&mut self) -> Result<ExitStatus> {
        let _ = self.child.kill();
        self.child.wait().with_context(|| format!("waiting for {}", self.name))
    }

    /// Asks it to end (SIGTERM), and kills it if it does not within [`TERM_PATIENCE`].
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        self.wait(TERM_PATIENCE).or_else(|_| self.kill())
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} did not end within {timeout:?}", self.name);
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// The last lines of a log, for an error message.
pub fn last_lines(log: &Path) -> String {
    match fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => "(no log)".to_owned(),
        Err(error) => format!("({} cannot be read: {error})", log.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_says_why() {
        let error = run("sh", &["-c", "echo broken >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("broken") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_daemon_that_ended_is_noticed_with_its_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo last words; exit 1"]);
        let mut daemon = Daemon::spawn("mayfly", &mut command, &log).unwrap();
        daemon.wait(Duration::from_secs(5)).unwrap();
        let error = daemon.check().unwrap_err().to_string();
        assert!(error.contains("mayfly") && error.contains("last words"), "{error}");
    }

    #[test]
    fn a_daemon_dies_when_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000");
        let daemon = Daemon::spawn("sleep", &mut command, &directory.path().join("log")).unwrap();
        let pid = Pid::from_raw(daemon.id().cast_signed());
        assert!(kill(pid, None).is_ok());
        drop(daemon);
        assert!(kill(pid, None).is_err());
    }
}
