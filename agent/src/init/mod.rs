//! The duties of PID 1 in the initramfs.
//!
//! PID 1 does little, so that it cannot fail: it mounts what Linux needs, loads drivers where there
//! is a modules tree, opens the consoles, and starts the agent as a child whose output it copies to
//! every console. What can crash runs in the child; the kernel, which panics when PID 1 ends, never
//! sees it.
//!
//! ```text
//!   kernel ─ /init ─ mounts, consoles, drivers, lo ─ `nibs agent --network` ─┬─ reboot(2) by the job
//!                                                                            ├─ SIGTERM, Ctrl-Alt-Del: stop, reboot
//!                                                                            └─ died: say so, `nibs post-mortem`,
//!                                                                               wait 30 s, stop, reboot
//! ```
//!
//! Where only a Tinkerbell server is named, the agent is `nibs tinkerbell --network`.
//!
//! A process does this only if it is PID 1 *and* was started as `init` ([`crate::cli::role`]): the
//! entry point of a container is PID 1 as well and has no business with mounts. Arguments do not
//! tell the two apart, since the kernel hands parameters that it does not know to init. It also
//! puts `key=value` ones into the environment, secrets among them; the agent gets a clean one.
//!
//! Whatever goes wrong on the way is a warning: a machine that came half up can still say so.

mod aliases;
mod consoles;
mod kmod;
mod modules;
mod mounts;
mod power;
mod supervisor;

use std::fs;
use std::panic;
use std::path::Path;
use std::time::{Duration, Instant};

use self::consoles::Consoles;
use self::supervisor::{End, Supervisor};
use crate::cli::STATE_FILE;
use crate::cmdline::Parameters;

const KERNEL_COMMAND_LINE: &str = "/proc/cmdline";

/// The machine's name until DHCP gives it one.
const HOST_NAME: &str = "localhost";

/// How much longer than it should take the report of a death may take before it is ended.
const REPORT_GRACE: Duration = Duration::from_secs(15);

/// How a boot ends.
#[derive(Debug)]
struct Ending {
    /// What the operator reads.
    why: String,
    /// How long it stays on the consoles.
    stay: Duration,
}

/// Does the duties of PID 1. Never returns, whatever happens: the kernel would panic.
pub fn main() -> ! {
    let ending = panic::catch_unwind(run).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
        Ending {
            why: format!("init panicked: {}", text.unwrap_or_default()),
            stay: crate::cmdline::DEFAULT_REBOOT_DELAY,
        }
    });
    // The consoles are opened anew: those of before went down with the panic, if there was one.
    let _ = panic::catch_unwind(|| end(&ending));
    power::restart()
}

fn run() -> Ending {
    let mut trouble = mounts::mount_all();
    let text = fs::read_to_string(KERNEL_COMMAND_LINE).unwrap_or_else(|e| {
        trouble.push(format!("reading {KERNEL_COMMAND_LINE}: {e}"));
        String::new()
    });
    let parameters = Parameters::parse(&text);
    let mut consoles = Consoles::open(&parameters.consoles);
    consoles.say(&format!("nibs {} is this machine's init", env!("CARGO_PKG_VERSION")));
    trouble.extend(prepare());
    for warning in trouble {
        consoles.say(&format!("warning: {warning}"));
    }
    match modules::load_all(Path::new("/"), &mut |line| consoles.say(line)) {
        0 => {}
        count => consoles.say(&format!("{count} kernel modules loaded")),
    }

    let mut supervisor = match Supervisor::new(consoles) {
        Ok(supervisor) => supervisor,
        Err(e) => return failed(&parameters, format!("watching for signals: {e}")),
    };
    let end = supervisor.run(agent(&parameters), None);
    match end {
        End::Stopped(signal) => {
            return Ending { why: format!("told to stop by {signal}"), stay: Duration::ZERO };
        }
        End::Exited(0) => {
            return Ending { why: "the agent has ended".into(), stay: Duration::ZERO };
        }
        _ => {}
    }
    let why = format!("the agent {end}");
    supervisor.consoles().say(&why);
    report(&mut supervisor, &parameters, &why);
    failed(&parameters, why)
}

/// The arguments of the agent that belongs to who is named on the kernel command line.
fn agent(parameters: &Parameters) -> &'static [&'static str] {
    match parameters.tinkerbell.authority {
        Some(_) => &["tinkerbell", "--network"],
        None => &["agent", "--network", "--state", STATE_FILE],
    }
}

fn failed(parameters: &Parameters, why: String) -> Ending {
    Ending { why, stay: parameters.reboot_delay }
}

/// What needs no decision: names, the loopback, what Ctrl-Alt-Del does.
fn prepare() -> Vec<String> {
    let mut trouble = Vec::new();
    let mut note = |what: &str, result: Result<(), std::io::Error>| {
        trouble.extend(result.err().map(|e| format!("{what}: {e}")));
    };
    if let Some(folder) = Path::new(STATE_FILE).parent() {
        note("making the folder of the job's state", fs::create_dir_all(folder));
    }
    note("naming this machine", nix::unistd::sethostname(HOST_NAME).map_err(Into::into));
    note("switching the loopback interface on", crate::net::switch_on_loopback());
    note("taking Ctrl-Alt-Del over", power::take_ctrl_alt_del());
    trouble
}

/// Has the control plane told of a job that the agent left behind.
fn report(supervisor: &mut Supervisor, parameters: &Parameters, why: &str) {
    if !Path::new(STATE_FILE).exists() {
        return;
    }
    supervisor.consoles().say("telling the control plane that its job has failed");
    let wait = format!("{}s", parameters.report_wait.as_secs());
    let arguments =
        ["post-mortem", "--state", STATE_FILE, "--reason", why, "--timeout", wait.as_str()];
    let deadline = Instant::now().checked_add(parameters.report_wait.saturating_add(REPORT_GRACE));
    match supervisor.run(&arguments, deadline) {
        End::Exited(0) => supervisor.consoles().say("the control plane knows"),
        end => supervisor.consoles().say(&format!("THE FAILURE IS NOT REPORTED: the report {end}")),
    }
}

/// Says why, lets it be read, and stops everything that runs.
fn end(ending: &Ending) {
    let text = fs::read_to_string(KERNEL_COMMAND_LINE).unwrap_or_default();
    let mut consoles = Consoles::open(&Parameters::parse(&text).consoles);
    let seconds = ending.stay.as_secs();
    match seconds {
        0 => consoles.say(&format!("{}; rebooting", ending.why)),
        _ => consoles
            .say(&format!("{}; rebooting in {seconds} s (Ctrl-Alt-Del: at once)", ending.why)),
    }
    match Supervisor::new(consoles) {
        Ok(mut supervisor) => {
            supervisor.idle(ending.stay);
            supervisor.stop_all();
        }
        Err(_) => std::thread::sleep(ending.stay),
    }
}
