//! The end of a container: of its program, and of whatever else it has started.
//!
//! In a PID namespace of its own the program is the namespace's init, with which the kernel ends all
//! others. In the machine's, they are known by the container's mount namespace or by its session;
//! only what has left both, as `nsenter --mount` to the machine does, is the machine's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// How long a program may take to end after SIGTERM, as with Docker.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// How long the kernel is given to end what it was told to kill.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// After how many looks in a row that find nothing, nothing is left: one may miss what forks and ends
/// while it reads on.
const QUIET: u32 = 3;

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

    /// Ends what is left after the program's end, and tells whether something still is. Its process
    /// group is ended at once, however fast it forks; what has left that is ended as it is found,
    /// which something that keeps forking and moving on can outrun. `proc`: the machine's.
    pub(super) fn kill_rest(&self, proc: &Path) -> bool {
        let deadline = Instant::now() + KILL_TIMEOUT;
        let mut quiet = 0;
        loop {
            // The kernel lets no process of the group fork meanwhile.
            let _ = killpg(self.program, Signal::SIGKILL);
            quiet = if self.kill_found(proc) { 0 } else { quiet + 1 };
            if quiet == QUIET {
                return false;
            }
            if Instant::now() >= deadline {
                return true;
            }
            thread::sleep(POLL);
        }
    }

    /// Ends what is there now, and tells whether anything was.
    fn kill_found(&self, proc: &Path) -> bool {
        let pids = fs::read_dir(proc).into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let mut found = false;
        for pid in pids.filter(|pid| self.is_one(&proc.join(pid.to_string()))) {
            found = true;
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        found
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_in_spite_of_all_is_told() {
        let directory = tempfile::tempdir().unwrap();
        // Above what any kernel gives out: nothing is hit.
        let program = Pid::from_raw(i32::MAX);
        let processes = Processes { program, namespace: "mnt:[0]".into() };
        assert!(!processes.kill_rest(directory.path()));
        let process = directory.path().join((i32::MAX - 1).to_string());
        fs::create_dir(&process).unwrap();
        let stat = |state: &str| format!("1 (a) b) {state} 1 1 {program} 0");
        fs::write(process.join("stat"), stat("Z")).unwrap();
        assert!(!processes.kill_rest(directory.path()));
        fs::write(process.join("stat"), stat("D")).unwrap();
        assert!(processes.kill_rest(directory.path()));
    }
}
