//! `reboot` and `power-off`: whether this process may, and the change itself.
//!
//! Two halves, because a report has to be acknowledged in between: the action runs [`check`], the
//! agent calls [`perform`] when the control plane knows how the job ended.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nibs_job::Class;
use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};

use crate::{Context, Done, Error};

/// Inode of the initial PID namespace (`PROC_PID_INIT_INO` of linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// `CAP_SYS_BOOT` of linux/capability.h.
const CAP_SYS_BOOT: u32 = 22;

/// How long dirty pages may take to reach the disks: a dead disk must not keep a machine up.
const SYNC_TIMEOUT: Duration = Duration::from_secs(60);

const SYSRQ_TRIGGER: &str = "/proc/sysrq-trigger";

/// What a machine does at the end of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerChange {
    /// Restarts.
    Reboot,
    /// Switches off.
    PowerOff,
}

/// The machine cannot be restarted or switched off from here.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// The capability is missing.
    #[error(
        "checking whether this process may {change}: it lacks CAP_SYS_BOOT; run the agent as root, \
         a container of it privileged"
    )]
    NotPermitted {
        /// What was to be done.
        change: PowerChange,
    },
    /// reboot(2) would only end the container.
    #[error(
        "checking whether this process may {change}: it is in a PID namespace of its own, found \
         {found}; run the container in the host's PID namespace (pid: host)"
    )]
    NotInitialNamespace {
        /// What was to be done.
        change: PowerChange,
        /// The namespace.
        found: String,
    },
    /// The kernel did neither by reboot(2) nor by SysRq.
    #[error("trying to {change}: reboot(2): {cause}; {SYSRQ_TRIGGER}: {sysrq}")]
    Failed {
        /// What was to be done.
        change: PowerChange,
        /// What became of the second way.
        sysrq: String,
        /// What became of the first way.
        cause: Errno,
    },
}

impl PowerError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        Class::Environment
    }
}

impl std::fmt::Display for PowerChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reboot => "reboot",
            Self::PowerOff => "power off",
        })
    }
}

/// Does the action: finds out that the change can be made, and asks for it.
pub(crate) fn run(change: PowerChange, context: &Context) -> Result<Done, Error> {
    check(&context.machine.proc, change)?;
    Ok(Done { then: Some(change), ..Done::default() })
}

/// Whether this process can make the change, by the procfs at `proc`. Nothing is changed.
pub fn check(proc: &Path, change: PowerChange) -> Result<(), PowerError> {
    check_in(&proc.join("self"), std::process::id(), change)
}

fn check_in(process: &Path, pid: u32, change: PowerChange) -> Result<(), PowerError> {
    match fs::read_link(process.join("ns/pid")) {
        Ok(found) if found != Path::new(INITIAL_PID_NAMESPACE) => {
            let found = found.display().to_string();
            return Err(PowerError::NotInitialNamespace { change, found });
        }
        // Without a /proc to ask: the first process of a machine may, others are told by reboot(2).
        Err(_) if pid == 1 => return Ok(()),
        _ => {}
    }
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    if effective_capabilities(&status).is_some_and(|bits| bits & (1 << CAP_SYS_BOOT) == 0) {
        return Err(PowerError::NotPermitted { change });
    }
    Ok(())
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

/// Brings dirty pages to the disks and makes the change; returns only if it could not be made.
pub fn perform(change: PowerChange) -> Result<Infallible, PowerError> {
    sync_within(SYNC_TIMEOUT);
    let (mode, sysrq) = match change {
        PowerChange::Reboot => (RebootMode::RB_AUTOBOOT, "b"),
        PowerChange::PowerOff => (RebootMode::RB_POWER_OFF, "o"),
    };
    let Err(cause) = reboot(mode);
    let sysrq = match fs::write(SYSRQ_TRIGGER, sysrq) {
        // The kernel acts on it in its own time.
        Ok(()) => loop {
            thread::park();
        },
        Err(error) => error.to_string(),
    };
    Err(PowerError::Failed { change, sysrq, cause })
}

fn sync_within(timeout: Duration) {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || {
        nix::unistd::sync();
        // The receiver is gone when the time was over.
        let _ = done.send(());
    });
    if wait.recv_timeout(timeout).is_err() {
        tracing::warn!("dirty pages did not reach the disks within {} s", timeout.as_secs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const ALL: &str = "000001ffffffffff";
    const NO_BOOT: &str = "000001ffffbfffff";

    fn process(namespace: &str, capabilities: &str) -> tempfile::TempDir {
        let process = tempfile::tempdir().unwrap();
        fs::create_dir(process.path().join("ns")).unwrap();
        symlink(namespace, process.path().join("ns/pid")).unwrap();
        let status = format!("Name:\tnibs\nCapEff:\t{capabilities}\n");
        fs::write(process.path().join("status"), status).unwrap();
        process
    }

    #[test]
    fn root_in_the_initial_namespace_may() {
        let host = process(INITIAL_PID_NAMESPACE, ALL);
        check_in(host.path(), 77, PowerChange::Reboot).unwrap();
    }

    #[test]
    fn a_container_is_told_which_settings_it_lacks() {
        let own = process("pid:[4026532198]", ALL);
        let error = check_in(own.path(), 1, PowerChange::Reboot).unwrap_err();
        assert!(error.to_string().contains("pid: host"), "{error}");
        let weak = process(INITIAL_PID_NAMESPACE, NO_BOOT);
        let error = check_in(weak.path(), 1, PowerChange::PowerOff).unwrap_err();
        assert!(error.to_string().contains("may power off: it lacks CAP_SYS_BOOT"), "{error}");
        assert_eq!(error.class(), Class::Environment);
    }

    #[test]
    fn the_first_process_needs_no_proc() {
        check_in(Path::new("/absent"), 1, PowerChange::Reboot).unwrap();
    }
}
