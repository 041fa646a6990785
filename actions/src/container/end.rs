//! The end of a container: of its program, and of whatever else it has started.
//!
//! In a PID namespace of its own the program is the namespace's init, with which the kernel ends all
//! others. In the machine's, they are known by the container's mount namespace or by its session;
//! only what has left both, as `nsenter --mount` to the machine does, is the machine's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a program may take to end after SIGTERM, as with Docker.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// How long the kernel is given to end what it was told to kill.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// A container's processes.
#[derive(Debug, Clone)]
pub(super) struct Processes {
    /// Its program.
    pub(super) program: Pid,
    /// Its mount namespace, as `/proc/PID/ns/mnt` reads.
    pub(super) namespace: PathBuf,
}

impl Processes {
    /// Asks the program to end.
    pub(super) fn ask(&self) {
        // It may have ended by itself meanwhile.
        let _ = kill(self.program, Signal::SIGTERM);
    }

    /// Ends the program.
    pub(super) fn kill(&self) {
        let _ = kill(self.program, Signal::SIGKILL);
    }

    /// Ends what is left after the program's end, however fast it forks. `proc`: the machine's.
    pub(super) fn kill_rest(&self, proc: &Path) {
        let deadline = Instant::now() + KILL_TIMEOUT;
        loop {
            let rest = self.rest(proc);
            if rest.is_empty() || Instant::now() >= deadline {
                return;
            }
            for pid in rest {
                let _ = kill(pid, Signal::SIGKILL);
            }
            thread::sleep(POLL);
        }
    }

    fn rest(&self, proc: &Path) -> Vec<Pid> {
        let pids = fs::read_dir(proc).into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| self.is_one(&proc.join(pid.to_string()))).map(Pid::from_raw).collect()
    }

    fn is_one(&self, process: &Path) -> bool {
        let Ok(stat) = fs::read_to_string(process.join("stat")) else { return false };
        // proc_pid_stat(5): after the name, which may hold anything, state, parent, group, session.
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let (state, session) = (fields.next(), fields.nth(2));
        if state == Some("Z") {
            return false;
        }
        let of_session = session.and_then(|id| id.parse().ok()) == Some(self.program.as_raw());
        let namespace = fs::read_link(process.join("ns/mnt"));
        of_session || namespace.is_ok_and(|namespace| namespace == self.namespace)
    }
}
