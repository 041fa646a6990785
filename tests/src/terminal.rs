//! A terminal on a machine's serial console.

use std::io::{Read, Write, stdin, stdout};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Ctrl-], which leaves.
const LEAVE: u8 = 0x1d;

/// Connects the terminal of this process to the console at `socket`, until Ctrl-] or until the
/// machine is off.
pub fn attach(socket: &Path) -> Result<()> {
    let mut console = UnixStream::connect(socket)
        .with_context(|| format!("connecting to {} (is the machine on?)", socket.display()))?;
    println!("Ctrl-] leaves; Enter wakes a login up.");
    let _raw = Raw::enter();
    let mut output = console.try_clone().context("duplicating the connection")?;
    thread::spawn(move || {
        let mut input = stdin().lock();
        let mut key = [0];
        while input.read(&mut key).is_ok_and(|length| length == 1) {
            if key[0] == LEAVE || output.write_all(&key).is_err() {
                break;
            }
        }
        let _ = output.shutdown(std::net::Shutdown::Both);
    });
    let mut buffer = [0; 4096];
    loop {
        let length = console.read(&mut buffer).context("reading the console")?;
        if length == 0 {
            return Ok(());
        }
        stdout().write_all(&buffer[..length]).context("writing to the terminal")?;
        stdout().flush().context("writing to the terminal")?;
    }
}

/// The terminal in raw mode, so that each key goes to the machine; as before when dropped.
struct Raw(Termios);

impl Raw {
    /// Nothing where standard input is no terminal.
    fn enter() -> Option<Self> {
        let before = tcgetattr(stdin().as_fd()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin().as_fd(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin().as_fd(), SetArg::TCSANOW, &self.0);
    }
}
