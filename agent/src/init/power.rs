//! The last acts of a machine.

use std::io::{self, Write};
use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, sync};

/// How long a reboot that the kernel refused is left before it is asked for again.
const RETRY: Duration = Duration::from_secs(10);

/// Makes Ctrl-Alt-Del a SIGINT to init instead of a reset in the middle of a write.
pub(super) fn take_ctrl_alt_del() -> io::Result<()> {
    Ok(set_cad_enabled(false)?)
}

/// Sends a signal to every process but init.
pub(super) fn signal_all(signal: Signal) {
    // From any other process this would reach the whole machine.
    if getpid() == Pid::from_raw(1) {
        // Fails only if there is nobody left.
        let _ = kill(Pid::from_raw(-1), signal);
    }
}

/// Writes everything to the disks and restarts the machine.
pub(super) fn restart() -> ! {
    loop {
        sync();
        let Err(e) = reboot(RebootMode::RB_AUTOBOOT);
        // Not `eprintln`, which panics where stderr is gone: PID 1 must not.
        let _ = writeln!(io::stderr(), "init: rebooting: {e}; again in {} s", RETRY.as_secs());
        std::thread::sleep(RETRY);
    }
}
