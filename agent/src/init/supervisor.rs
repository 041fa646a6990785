//! Runs the agent as a child: copies its output to the consoles, reaps whatever dies, heeds
//! signals. One thread and one `poll`, so that there is nothing to go wrong.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, pipe2, read};

use super::consoles::Consoles;
use super::power;

/// This program, whatever it is called and wherever it lies.
const MYSELF: &str = "/proc/self/exe";

/// Where the kernel found it, for when `/proc` is not there.
const INIT: &str = "/init";

/// What the agent and its actions find in their environment, and nothing else.
const ENVIRONMENT: [(&str, &str); 3] =
    [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/"), ("TERM", "linux")];

/// Time for processes to end by themselves. The agent takes up to 10 s to report the job that it
/// then cancels.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// Time for the last words of a child that is dead.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Bytes copied to the consoles at a time.
const CHUNK: usize = 4096;

/// How a child ended, or why it is no longer waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal.
    Killed(Signal),
    /// It could not be started.
    NotStarted(String),
    /// It took too long.
    TimedOut,
    /// Init was told to stop.
    Stopped(Signal),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with exit code {code}"),
            Self::Killed(Signal::SIGKILL) => {
                write!(f, "was killed by SIGKILL, as the kernel does when memory runs out")
            }
            Self::Killed(signal) => write!(f, "was killed by {signal}"),
            Self::NotStarted(why) => write!(f, "could not be started: {why}"),
            Self::TimedOut => write!(f, "took too long"),
            Self::Stopped(signal) => write!(f, "was stopped by {signal}"),
        }
    }
}

/// What a turn of the loop brought.
#[derive(Debug, Default)]
struct Turn {
    stop: Option<Signal>,
    dead: Vec<(Pid, End)>,
}

/// Watches over children and consoles.
#[derive(Debug)]
pub(super) struct Supervisor {
    consoles: Consoles,
    signals: SignalFd,
    program: &'static str,
}

impl Supervisor {
    /// Takes the signals of this process over. Before other threads are started.
    pub(super) fn new(consoles: Consoles) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let program = if Path::new(MYSELF).exists() { MYSELF } else { INIT };
        Ok(Self { consoles, signals: SignalFd::with_flags(&mask, flags)?, program })
    }

    pub(super) fn consoles(&mut self) -> &mut Consoles {
        &mut self.consoles
    }

    /// Runs this program with other arguments until it ends, is past the deadline, or init is
    /// told to stop.
    pub(super) fn run(&mut self, arguments: &[&str], deadline: Option<Instant>) -> End {
        let (child, output) = match self.start(arguments) {
            Ok(started) => started,
            Err(e) => return End::NotStarted(e.to_string()),
        };
        let mut output = Some(output);
        let mut deadline = deadline;
        let mut stopped = None;
        loop {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                // It may be gone by now; then there is nothing to end.
                let _ = kill(child, Signal::SIGKILL);
                return stopped.map_or(End::TimedOut, End::Stopped);
            }
            let turn = self.turn(&mut output, deadline);
            if let Some((_, end)) = turn.dead.into_iter().find(|(pid, _)| *pid == child) {
                self.last_words(output);
                return stopped.map_or(end, End::Stopped);
            }
            if let Some(signal) = turn.stop.filter(|_| stopped.is_none()) {
                stopped = Some(signal);
                deadline = Some(Instant::now() + STOP_GRACE);
                self.consoles.say(&format!("{signal} came; stopping"));
                let _ = kill(child, Signal::SIGTERM);
            }
        }
    }

    /// Reaps for that long, or until init is told to stop.
    pub(super) fn idle(&mut self, time: Duration) {
        // None: longer than the clock can tell.
        let deadline = Instant::now().checked_add(time);
        while deadline.is_none_or(|deadline| Instant::now() < deadline) {
            if self.turn(&mut None, deadline).stop.is_some() {
                return;
            }
        }
    }

    /// Has every process end: first asked, then made to.
    pub(super) fn stop_all(&mut self) {
        for (signal, grace) in [(Signal::SIGTERM, STOP_GRACE), (Signal::SIGKILL, LAST_WORDS)] {
            power::signal_all(signal);
            let deadline = Instant::now() + grace;
            while has_children() && Instant::now() < deadline {
                self.turn(&mut None, Some(deadline));
            }
        }
    }

    fn start(&self, arguments: &[&str]) -> io::Result<(Pid, OwnedFd)> {
        let (output, input) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut command = Command::new(self.program);
        command.arg0("nibs").args(arguments).env_clear().envs(ENVIRONMENT);
        command.stdout(input.try_clone()?).stderr(input);
        if Path::new("/dev/null").exists() {
            command.stdin(Stdio::null());
        }
        // SAFETY: between fork and exec only sigprocmask is called, which is async-signal-safe.
        #[allow(unsafe_code)]
        unsafe {
            // The mask is inherited, and the agent wants its signals.
            command.pre_exec(|| Ok(SigSet::all().thread_unblock()?));
        }
        let child = command.spawn()?;
        Ok((Pid::from_raw(child.id() as i32), output))
    }

    /// Waits until something happens, at most until the deadline, and does what follows from it.
    fn turn(&mut self, output: &mut Option<OwnedFd>, deadline: Option<Instant>) -> Turn {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(output.as_ref().map(|o| PollFd::new(o.as_fd(), PollFlags::POLLIN)));
        // An interrupted or failed wait is a turn in which nothing happened.
        let _ = poll(&mut fds, timeout);
        let has_output = fds.get(1).and_then(PollFd::any).unwrap_or(false);
        drop(fds);
        if has_output {
            self.copy(output);
        }
        let mut turn = Turn::default();
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) | Err(_) => {}
                Ok(signal) => turn.stop = Some(signal),
            }
        }
        turn.dead = reap();
        turn
    }

    /// Copies what is there once; closes the pipe when nobody can write to it any more.
    fn copy(&mut self, output: &mut Option<OwnedFd>) -> bool {
        let Some(pipe) = output else { return false };
        let mut chunk = [0; CHUNK];
        match read(&*pipe, &mut chunk) {
            Ok(0) => *output = None,
            Ok(count) => {
                self.consoles.write(&chunk[..count]);
                return true;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => *output = None,
        }
        false
    }

    fn last_words(&mut self, mut output: Option<OwnedFd>) {
        let deadline = Instant::now() + LAST_WORDS;
        while Instant::now() < deadline && self.copy(&mut output) {}
    }
}

/// Takes note of all dead children, adopted ones too.
fn reap() -> Vec<(Pid, End)> {
    let mut dead = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => dead.push((pid, End::Exited(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                dead.push((pid, End::Killed(signal)));
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return dead,
            Ok(_) => {}
        }
    }
}

fn has_children() -> bool {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::WEXITED;
    waitid(Id::All, flags) != Err(Errno::ECHILD)
}
