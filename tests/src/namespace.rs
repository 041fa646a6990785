//! Namespaces of the lab's own: a network that reaches nothing else, and a process tree that ends
//! with the lab.
//!
//! The program runs itself again under `unshare`. In the new PID namespace it is process 1: when
//! it ends, for whatever reason, the kernel kills every machine and service it started. Without
//! root, a user namespace gives it the rights it needs over its own network, and no others.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::thread;

use anyhow::{Context, Result};
use nix::unistd::Uid;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Set in the environment of a process that is inside.
const MARK: &str = "NIBS_LAB_NAMESPACE";
/// What a shell says of a program that was interrupted.
const EXIT_INTERRUPTED: i32 = 130;

/// Whether this process is in namespaces of its own.
pub fn is_inside() -> bool {
    env::var_os(MARK).is_some()
}

/// Goes on inside: replaces this process by itself, with the same arguments, in new namespaces.
///
/// Returns in the inner process only. To be called before any thread is started.
pub fn enter() -> Result<()> {
    if is_inside() {
        return end_on_interrupt();
    }
    Err(again(env::args_os().skip(1))?.exec()).context("starting unshare")
}

/// Runs one test of this test program inside; `None` if this is the inner process, which is to do
/// the test itself.
pub fn run_test(name: &str) -> Result<Option<ExitStatus>> {
    if is_inside() {
        end_on_interrupt()?;
        return Ok(None);
    }
    let arguments = ["--exact", name, "--nocapture", "--include-ignored"].map(OsString::from);
    again(arguments)?.status().map(Some).context("starting unshare")
}

/// Id of this process as those outside see it: `/proc` is still theirs.
pub fn outer_process() -> Result<String> {
    let link = fs::read_link("/proc/self").context("reading /proc/self")?;
    Ok(link.display().to_string())
}

fn again(arguments: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut command = Command::new("unshare");
    command.args(["--net", "--pid", "--fork", "--kill-child"]);
    if !Uid::effective().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .arg("--")
        .arg(env::current_exe().context("finding this program")?)
        .args(arguments)
        .env(MARK, "1");
    Ok(command)
}

/// Process 1 of a namespace is deaf to signals it has no handler for.
fn end_on_interrupt() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listen = |kind| {
        let _context = runtime.enter();
        signal(kind).context("listening for signals")
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(())
}
