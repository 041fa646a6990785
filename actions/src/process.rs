//! Programs of others: what they say becomes the log, and their last words the error.
//!
//! A program is the leader of a process group of its own. When work has to end early, the whole
//! group is told to (SIGTERM), and after a grace it is killed.
//!
//! Who says more than is listened to waits, as at any pipe: little of it is ever held in memory.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
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

/// How many lines wait to be heard; then the program waits.
const QUEUED: usize = 64;

/// How much of what is left in its pipes is heard after a program's end, in bytes, and for how long
/// at most: more than it can have left there by itself, so the rest is of a process that talks on.
const REST: usize = 512 << 10;
const REST_TIME: Duration = Duration::from_secs(5);

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
    let (says, said) = mpsc::sync_channel(QUEUED);
    read(child.stdout.take(), Stream::Output, says.clone());
    read(child.stderr.take(), Stream::Errors, says);
    let mut listener = Listener { said, last: VecDeque::new(), context };
    let status = match listener.until_the_end_of(&mut child) {
        Ok(status) => status,
        Err(interrupted) => {
            listener.stop(&mut child);
            // Time is up already.
            let _ = listener.rest(|| Ok(()));
            return Err(interrupted.into());
        }
    };
    let status = status.map_err(|cause| ProcessError::Start {
        program: program.clone(),
        place: place.clone(),
        cause,
    })?;
    listener.rest(|| context.check())?;
    if status.success() {
        return Ok(());
    }
    Err(ProcessError::Failed { program, status, last: listener.last.into() })
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
            self.next();
            match child.try_wait() {
                Ok(Some(status)) => return Ok(Ok(status)),
                Ok(None) => {}
                Err(cause) => return Ok(Err(cause)),
            }
        }
    }

    /// Ends a program and all of its group, and hears what it has to say to that.
    fn stop(&mut self, child: &mut Child) {
        let group = Pid::from_raw(child.id().cast_signed());
        // Fails only if all of it has ended.
        let _ = killpg(group, Signal::SIGTERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
            self.next();
        }
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait();
    }

    /// Hears the rest of what a program said that has ended, unless `check` ends it. Others may hold
    /// its pipes, and say more without end.
    fn rest(&mut self, check: impl Fn() -> Result<(), Interrupted>) -> Result<(), Interrupted> {
        let ended = Instant::now();
        let mut heard = 0;
        while heard < REST && ended.elapsed() < REST_TIME {
            check()?;
            let left = AFTERGLOW.saturating_sub(ended.elapsed());
            let Ok((stream, line)) = self.said.recv_timeout(left) else { break };
            heard += line.len() + 1;
            self.hear(stream, line);
        }
        Ok(())
    }

    /// Hears a line, or waits a little for one.
    fn next(&mut self) {
        match self.said.recv_timeout(POLL) {
            Ok((stream, line)) => self.hear(stream, line),
            Err(RecvTimeoutError::Timeout) => {}
            // It closed both pipes, and may live on.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(POLL),
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
fn read(
    pipe: Option<impl Read + Send + 'static>,
    stream: Stream,
    says: SyncSender<(Stream, String)>,
) {
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
        assert_gone(&heard.lines()[0]);
    }

    /// Waits for a process to be gone, or a zombie until its new parent has seen to it.
    fn assert_gone(process: &str) {
        let gone = || {
            let state = std::fs::read_to_string(format!("/proc/{process}/stat"));
            state.map_or(true, |stat| stat.contains(") Z "))
        };
        let patience = Instant::now() + GRACE;
        while !gone() && Instant::now() < patience {
            thread::sleep(POLL);
        }
        assert!(gone());
    }

    #[test]
    fn a_process_that_talks_on_after_its_parents_end_is_left_talking_to_nobody() {
        let heard = Heard::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let begun = Instant::now();
        shell("setsid yes & echo $!; exit 0", &heard.context(&runtime)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let lines = heard.lines();
        assert!(lines.len() <= REST, "{} lines", lines.len());
        assert_gone(lines.iter().find(|line| *line != "y").unwrap());
    }

    #[test]
    fn the_deadline_counts_while_a_process_talks_on() {
        let heard = Heard::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        // Slowly, so that the end is not that enough was heard.
        let talk = "setsid sh -c 'while sleep 0.02; do echo more; done' & echo $!; exit 0";
        for script in [talk, "setsid yes & echo $!; sleep 600"] {
            let deadline = Some(Instant::now() + Duration::from_millis(300));
            let stop = Stop { deadline, ..Stop::default() };
            let context = Context { stop, ..heard.context(&runtime) };
            let error = shell(script, &context).unwrap_err();
            assert!(matches!(error, ProcessError::Interrupted(Interrupted::TimedOut)), "{error}");
        }
        let is_number = |line: &&String| line.parse::<i32>().is_ok();
        let lines = heard.lines();
        let processes: Vec<_> = lines.iter().filter(is_number).collect();
        assert_eq!(processes.len(), 2);
        processes.into_iter().for_each(|process| assert_gone(process));
    }

    #[test]
    fn what_a_program_says_when_it_is_told_to_end_is_heard() {
        let heard = Heard::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let deadline = Some(Instant::now() + Duration::from_millis(300));
        let stop = Stop { deadline, ..Stop::default() };
        let context = Context { stop, ..heard.context(&runtime) };
        // Far more than a pipe holds.
        let line = "x".repeat(100);
        let speech = format!("i=0; while [ $i -lt 3000 ]; do echo {line}; i=$((i+1)); done");
        let script = format!("trap '{speech}; echo bye; exit' TERM; while :; do sleep 0.05; done");
        let error = shell(&script, &context).unwrap_err();
        assert!(matches!(error, ProcessError::Interrupted(Interrupted::TimedOut)), "{error}");
        assert_eq!(heard.lines().last().map(String::as_str), Some("bye"));
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
