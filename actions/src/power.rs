//! `reboot` and `power-off`: whether this process may, and the change itself.
//!
//! Two halves, because a report has to be acknowledged in between: the action runs [`check`], the
//! agent calls [`perform`] when the control plane knows how the job ended.
//!
//! In a container under HookOS, which has no say over the machine, HookOS is asked to restart it:
//! it watches for a file in a directory that it shares with its containers.

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nibs_job::{Class, Span};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};

use crate::{Context, Done, Error};

/// Inode of the initial PID namespace (`PROC_PID_INIT_INO` of linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// `CAP_SYS_BOOT` of linux/capability.h.
const CAP_SYS_BOOT: u32 = 22;

/// Where HookOS shares a directory with containers that name it as a volume, and the file in it by
/// which it is asked to restart the machine (its images/hook-docker/main.go looks every second).
const HOOK_VOLUME: &str = "/worker";
const HOOK_REQUEST: &str = "/worker/reboot";

/// How long HookOS may take to act on it before this process tries by itself.
const HOOK_PATIENCE: Duration = Duration::from_secs(60);

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
    /// Starts the kernel that kexec_file_load(2) has put into memory.
    Kexec,
    /// One of these, after a wait.
    After(Duration, &'static PowerChange),
}

impl PowerChange {
    /// The change itself, without the wait before it.
    fn itself(self) -> Self {
        match self {
            Self::After(_, change) => change.itself(),
            change => change,
        }
    }

    fn wait(self) {
        if let Self::After(wait, _) = self {
            tracing::info!("{self}");
            thread::sleep(wait);
        }
    }
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
         {found}; run the container in the host's PID namespace (pid: host){}",
        if *change == PowerChange::Reboot { ", or under HookOS with the volume /worker:/worker" }
        else { "" }
    )]
    NotInitialNamespace {
        /// What was to be done.
        change: PowerChange,
        /// The namespace.
        found: String,
    },
    /// HookOS could not be asked.
    #[error("asking HookOS to reboot: writing {HOOK_REQUEST}: {cause}; is the volume read-only?")]
    Hook {
        /// The kernel's word.
        cause: std::io::Error,
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
        match self {
            Self::Reboot => f.write_str("reboot"),
            Self::PowerOff => f.write_str("power off"),
            Self::Kexec => f.write_str("start the kernel that is loaded"),
            Self::After(wait, change) => write!(f, "{change} in {}", Span(*wait)),
        }
    }
}

/// Does the action: finds out that the change can be made, and asks for it.
pub(crate) fn run(
    change: &'static PowerChange,
    delay: Option<Span>,
    context: &Context,
) -> Result<Done, Error> {
    check(&context.machine.proc, *change)?;
    let then = match delay {
        Some(Span(wait)) if !wait.is_zero() => PowerChange::After(wait, change),
        _ => *change,
    };
    Ok(Done { then: Some(then), ..Done::default() })
}

/// Whether this process can make the change, by the procfs at `proc`. Nothing is changed.
pub fn check(proc: &Path, change: PowerChange) -> Result<(), PowerError> {
    check_in(&proc.join("self"), std::process::id(), change.itself())
}

fn check_in(process: &Path, pid: u32, change: PowerChange) -> Result<(), PowerError> {
    if change == PowerChange::Reboot && hook_listens(process) {
        return Ok(());
    }
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

/// Whether the machine has to restart where it was to start a kernel without the firmware, by the
/// procfs at `proc`, and why: HookOS keeps its agent out of the machine's PID namespace, which no
/// template can change, but restarts the machine for it.
pub(crate) fn restarts_instead(proc: &Path) -> Result<Option<String>, PowerError> {
    let Err(error) = check(proc, PowerChange::Kexec) else { return Ok(None) };
    if !hook_listens(&proc.join("self")) {
        return Err(error);
    }
    Ok(Some(format!(
        "the machine restarts by its firmware instead of by kexec, since under HookOS the agent is in \
         a PID namespace of its own ({error})"
    )))
}

/// Whether HookOS shares the directory in which it looks for requests.
fn hook_listens(process: &Path) -> bool {
    let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    // proc_pid_mountinfo(5): the fifth field is the mount point.
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(HOOK_VOLUME))
}

/// Has HookOS make the change, where it listens; the machine goes on until it acts. None if this
/// process has to make the change itself.
pub fn ask_hook(change: PowerChange) -> Option<Result<(), PowerError>> {
    if change.itself() != PowerChange::Reboot || !hook_listens(Path::new("/proc/self")) {
        return None;
    }
    change.wait();
    // It restarts the machine within a second.
    settle_within(SYNC_TIMEOUT);
    Some(fs::write(HOOK_REQUEST, "").map_err(|cause| PowerError::Hook { cause }))
}

/// Brings dirty pages to the disks, unmounts what is mounted and makes the change; returns only if
/// it could not be made.
pub fn perform(change: PowerChange) -> Result<Infallible, PowerError> {
    match ask_hook(change) {
        Some(Ok(())) => thread::sleep(HOOK_PATIENCE),
        Some(Err(error)) => tracing::warn!("{error}; trying without it"),
        None => change.wait(),
    }
    let change = change.itself();
    settle_within(SYNC_TIMEOUT);
    let (mode, sysrq) = match change {
        PowerChange::PowerOff => (RebootMode::RB_POWER_OFF, "o"),
        PowerChange::Kexec => {
            let Err(cause) = reboot(RebootMode::RB_KEXEC);
            let sysrq = "cannot do that".to_owned();
            return Err(PowerError::Failed { change, sysrq, cause });
        }
        _ => (RebootMode::RB_AUTOBOOT, "b"),
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

fn settle_within(timeout: Duration) {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || {
        nix::unistd::sync();
        release_disks(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        // The receiver is gone when the time was over.
        let _ = done.send(());
    });
    if wait.recv_timeout(timeout).is_err() {
        tracing::warn!("dirty pages did not reach the disks within {} s", timeout.as_secs());
    }
}

/// Unmounts what is on a block device, the latest first; what is busy is made read-only. A next
/// kernel then finds no journal to replay.
fn release_disks(mountinfo: &str) {
    for point in disk_mounts(mountinfo) {
        let unmounted = umount2(point.as_str(), MntFlags::UMOUNT_NOFOLLOW);
        if unmounted.is_err() {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            // What can be neither stays as it is: it is synced.
            let _ = mount(None::<&str>, point.as_str(), None::<&str>, flags, None::<&str>);
        }
    }
}

/// Where block devices are mounted, the latest first (proc_pid_mountinfo(5)).
fn disk_mounts(mountinfo: &str) -> Vec<String> {
    let of = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let source = filesystem.split(' ').nth(1)?;
        let point = mount.split(' ').nth(4)?;
        // Blanks are the only characters of a path that are escaped and not rare.
        source.starts_with("/dev/").then(|| point.replace("\\040", " "))
    };
    mountinfo.lines().rev().filter_map(of).collect()
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
    fn under_hookos_a_container_with_its_volume_may_reboot_and_no_more() {
        let own = process("pid:[4026532198]", ALL);
        let mounts = "36 35 98:0 / / rw - overlay overlay rw\n\
                      37 36 0:31 /worker /worker rw,relatime - tmpfs tmpfs rw\n";
        fs::write(own.path().join("mountinfo"), mounts).unwrap();
        check_in(own.path(), 1, PowerChange::Reboot).unwrap();
        for change in [PowerChange::PowerOff, PowerChange::Kexec] {
            let error = check_in(own.path(), 1, change).unwrap_err().to_string();
            assert!(error.contains("(pid: host)") && !error.contains("/worker"), "{error}");
        }
    }

    #[test]
    fn under_hookos_a_machine_restarts_where_it_was_to_start_a_kernel() {
        let machine = tempfile::tempdir().unwrap();
        let link = |namespace: &Path| {
            let _ = fs::remove_file(machine.path().join("self"));
            symlink(namespace, machine.path().join("self")).unwrap();
        };
        let own = process("pid:[4026532198]", ALL);
        link(own.path());
        restarts_instead(machine.path()).unwrap_err();
        fs::write(own.path().join("mountinfo"), "37 36 0:31 /worker /worker rw - tmpfs t rw\n")
            .unwrap();
        let reason = restarts_instead(machine.path()).unwrap().unwrap();
        assert!(reason.contains("instead of by kexec"), "{reason}");
        let host = process(INITIAL_PID_NAMESPACE, ALL);
        link(host.path());
        assert_eq!(restarts_instead(machine.path()).unwrap(), None);
    }

    #[test]
    fn a_wait_changes_nothing_but_the_time() {
        let later = PowerChange::After(Duration::from_secs(10), &PowerChange::Reboot);
        assert_eq!(later.itself(), PowerChange::Reboot);
        assert_eq!(later.to_string(), "reboot in 10s");
        let own = process("pid:[4026532198]", ALL);
        check_in(own.path(), 1, later.itself()).unwrap_err();
    }

    #[test]
    fn disks_are_released_from_the_innermost_out() {
        let mounts = "1 0 0:2 / / rw - rootfs rootfs rw\n\
                      20 1 0:5 / /proc rw - proc proc rw\n\
                      21 1 8:1 / /srv rw shared:1 - ext4 /dev/sda1 rw\n\
                      22 21 8:2 / /srv/a\\040b rw - vfat /dev/sda2 rw\n";
        assert_eq!(disk_mounts(mounts), ["/srv/a b", "/srv"]);
    }

    #[test]
    fn the_first_process_needs_no_proc() {
        check_in(Path::new("/absent"), 1, PowerChange::Reboot).unwrap();
    }
}
