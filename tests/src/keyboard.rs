//! Typing on a machine's serial console.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};

/// A connection to the console, for input only: what the machine says is in its log.
///
/// It has to stay until the machine has read everything, since QEMU hands a guest a few bytes at
/// a time and forgets the rest when the other side is gone.
#[derive(Debug)]
pub struct Keyboard {
    console: UnixStream,
}

impl Keyboard {
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let connecting = || format!("connecting to {}", socket.display());
        let console = UnixStream::connect(socket).with_context(connecting)?;
        let mut output = console.try_clone().with_context(connecting)?;
        // QEMU, and the machine with it, waits for a reader that is connected and does not read.
        thread::spawn(move || io::copy(&mut output, &mut io::sink()));
        Ok(Self { console })
    }

    /// Types a line.
    pub fn line(&mut self, text: &str) -> Result<()> {
        self.console.write_all(format!("{text}\n").as_bytes()).context("typing on the console")
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        let _ = self.console.shutdown(Shutdown::Both);
    }
}
