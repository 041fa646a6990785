//! Programs of others: what they say becomes the log, and their last words the error.
//!
//! A program is the leader of a process group of its own. When work has to end early, the whole
//! group is told to (SIGTERM), and after a grace it is killed.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nibs_job::Class;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::{Context, Interrupted};

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(50);

/// How long a program may take to end after SIGTERM, as container runtimes give it.
const GRACE: Duration = Duration::from_secs(5);

/// How long the pipes of a program that has ended are read on, should a process that it left
/// behind hold them open.
const AFTERGLOW: Duration = Duration::from_millis(500);

/// The longest line that is passed on whole, in bytes.
const LONGEST_LINE: usize = 4096;

/// How many of its last lines of stderr an error repeats, each cut to so many characters.
const LAST_LINES: usize = 5;
const LAST_LINE_LENGTH: usize = 300;

/// A program did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It is not there.
    #[error("running {program}: there is no such program in {place}; {remedy}")]
    NotFound {
        /// Its name.
        program: String,
        /// Where it was looked for.
        place: String,
        /// What to do.
        remedy: String,
    },
    /// It could not be started.
    #[error("starting {program} in {place}: {cause}")]
    Start {
        /// Its name.
        program: String,
        /// Where.
        place: String,
        /// The kernel's word.
        cause: io::Error,
    },
    /// It ended, but not with success.
    #[error("running {program}: it {}{}", ended(*status), last_words(last))]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last that it wrote to stderr.
        last: Vec<String>,
    },
    /// It was stopped before its end.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl ProcessError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::NotFound { .. } | Self::Failed { .. } | Self::Start { .. } => Class::Environment,
            Self::Interrupted(Interrupted::Cancelled) => Class::Internal,
            Self::Interrupted(Interrupted::TimedOut) => Class::Transient,
        }
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => {
            let name = Signal::try_from(signal).map_or("unknown", Signal::as_str);
            format!("was killed by signal {signal} ({name})")
        }
        (None, None) => format!("ended: {status}"),
    }
}

fn last_words(lines: &[String]) -> String {
    if lines.is_empty() {
        return ", and wrote nothing to stderr".to_owned();
    }
    format!("; the last it wrote to stderr: {}", lines.join(" | "))
}

/// What is run, in words for logs and errors. Arguments may be secrets, so they are none of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    /// The program.
    pub(crate) program: &'a str,
    /// Where it is looked for.
    pub(crate) place: &'a str,
    /// What to do if it is not there.
    pub(crate) remedy: &'a str,
}

/// Runs a program to its end, started by `spawn`; its output goes to the log, line by line.
pub(crate) fn run(
    command: &mut Command,
    named: Named<'_>,
    spawn: impl FnOnce(&mut Command) -> io::Result<Child>,
    context: &Context,
) -> Result<(), ProcessError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let (program, place) = (named.program.to_owned(), named.place.to_owned());
    let mut child = match spawn(command) {
        Ok(child) => child,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            return Err(ProcessError::NotFound { program, place, remedy: named.remedy.to_owned() });
        }
        Err(cause) => return Err(ProcessError::Start { program, place, cause }),
    };
    let (says, said) = mpsc::channel();
    read(child.stdout.take(), Stream::Output, says.clone());
    read(child.stderr.take(), Stream::Errors, says);
    let mut listener = Listener { said, last: VecDeque::new(), context };
    let status = match listener.until_the_end_of(&mut child) {
        Ok(status) => status,
        Err(interrupted) => {
            stop(&mut child);
            listener.drain();
            return Err(interrupted.into());
        }
    };
    let status = status.map_err(|cause| ProcessError::Start {
        program: program.clone(),
        place: place.clone(),
        cause,
    })?;
    listener.drain();
    if status.success() {
        return Ok(());
    }
    Err(ProcessError::Failed { program, status, last: listener.last.into() })
}

/// Ends a program and all of its group.
fn stop(child: &mut Child) {
    let group = Pid::from_raw(child.id().cast_signed());
    // Fails only if all of it has ended.
    let _ = killpg(group, Signal::SIGTERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(POLL);
    }
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Output,
    Errors,
}

/// Hears what a program says.
struct Listener<'a> {
    said: Receiver<(Stream, String)>,
    last: VecDeque<String>,
    context: &'a Context,
}

impl Listener<'_> {
    fn until_the_end_of(
        &mut self,
        child: &mut Child,
    ) -> Result<io::Result<ExitStatus>, Interrupted> {
        loop {
            self.context.check()?;
            match self.said.recv_timeout(POLL) {
                Ok((stream, line)) => self.hear(stream, line),
                Err(RecvTimeoutError::Timeout) => {}
                // It closed both pipes, and may live on.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(POLL),
            }
            match child.try_wait() {
                Ok(Some(status)) => return Ok(Ok(status)),
                Ok(None) => {}
                Err(cause) => return Ok(Err(cause)),
            }
        }
    }

    /// Hears the rest of what a program said that has ended.
    fn drain(&mut self) {
        let deadline = Instant::now() + AFTERGLOW;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok((stream, line)) => self.hear(stream, line),
                Err(_) => return,
            }
        }
    }

    fn hear(&mut self, stream: Stream, line: String) {
        if stream == Stream::Errors && !line.trim().is_empty() {
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            self.last.push_back(line.trim().chars().take(LAST_LINE_LENGTH).collect());
        }
        self.context.info(line);
    }
}

/// Reads a pipe to its end, on a thread of its own.
fn read(pipe: Option<impl Read + Send + 'static>, stream: Stream, says: Sender<(Stream, String)>) {
    let Some(mut pipe) = pipe else { return };
    // Without a thread the program's words are lost, not its work.
    let _ = thread::Builder::new().name("output".into()).spawn(move || {
        let mut line = Vec::new();
        let mut buffer = [0; LONGEST_LINE];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            for byte in &buffer[..count] {
                if *byte != b'\n' {
                    line.push(*byte);
                }
                if (*byte == b'\n' || line.len() == LONGEST_LINE)
                    && says.send((stream, text(&mut line))).is_err()
                {
                    return;
                }
            }
        }
        if !line.is_empty() {
            // Nobody listens any more if the program was given up.
            let _ = says.send((stream, text(&mut line)));
        }
    });
}

fn text(line: &mut Vec<u8>) -> String {
    let text = String::from_utf8_lossy(line).trim_end_matches('\r').to_owned();
    line.clear();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stop;
    use crate::context::tests::Heard;

    fn shell(script: &str, context: &Context) -> Result<(), ProcessError> {
        let named = Named { program: "sh", place: "this machine", remedy: "install it" };
        run(Command::new("/bin/sh").args(["-c", script]), named, Command::spawn, context)
    }

    #[test]
    fn what_a_program_says_is_the_log() {
        let heard = Heard::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        shell("echo one; echo two >&2; printf three", &heard.context(&runtime)).unwrap();
        let mut lines = heard.lines();
        lines.sort();
        assert_eq!(lines, ["one", "three", "two"]);
    }

    #[test]
    fn a_failure_has_the_status_and_the_last_words() {
        let heard = Heard::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let script = "for i in 1 2 3 4 5 6; do echo line $i >&2; done; echo hidden; exit 7";
        let error = shell(script, &heard.context(&runtime)).unwrap_err().to_string();
        let words = "line 2 | line 3 | line 4 | line 5 | line 6";
        assert_eq!(
            error,
            format!(
                "running sh: it ended with exit status 7; the last it wrote to stderr: {words}"
            )
        );
        let error = shell("kill -9 $$", &heard.context(&runtime)).unwrap_err().to_string();
        assert!(error.contains("was killed by signal 9 (SIGKILL), and wrote nothing"), "{error}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named_with_what_to_do() {
        let heard = Heard::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let named = Named { program: "mkfs.odd", place: "this machine", remedy: "install it" };
        let mut command = Command::new("/absent/mkfs.odd");
        let error = run(&mut command, named, Command::spawn, &heard.context(&runtime));
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "running mkfs.odd: there is no such program in this machine; install it");
    }

    #[test]
    fn the_whole_group_ends_at_the_deadline() {
        let heard = Heard::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let deadline = Some(Instant::now() + Duration::from_millis(300));
        let stop = Stop { deadline, ..Stop::default() };
        let context = Context { stop, ..heard.context(&runtime) };
        let script = "sleep 600 & echo $!; sleep 600";
        let error = shell(script, &context).unwrap_err();
        assert!(matches!(error, ProcessError::Interrupted(Interrupted::TimedOut)), "{error}");
        let child: i32 = heard.lines()[0].parse().unwrap();
        // A zombie until its new parent has seen to it.
        let gone = || {
            let state = std::fs::read_to_string(format!("/proc/{child}/stat"));
            state.map_or(true, |stat| stat.contains(") Z "))
        };
        let patience = Instant::now() + GRACE;
        while !gone() && Instant::now() < patience {
            thread::sleep(POLL);
        }
        assert!(gone());
    }

    #[test]
    fn a_process_left_behind_does_not_hold_up_its_parents_end() {
        let heard = Heard::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let begun = Instant::now();
        shell("sleep 20 & echo done", &heard.context(&runtime)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(heard.lines(), ["done"]);
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let heard = Heard::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        shell("head -c 10000 /dev/zero | tr '\\0' x", &heard.context(&runtime)).unwrap();
        let lengths: Vec<_> = heard.lines().iter().map(String::len).collect();
        assert_eq!(lengths, [4096, 4096, 1808]);
    }
}
