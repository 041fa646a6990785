//! The consoles of the machine: everything the agent says goes to every one of them.
//!
//! A console must never hold the machine up: a serial line with flow control and nobody at its
//! end takes nothing for ever. Each gets a bounded time; one that is stuck is passed over until it
//! takes something again.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a console may take no byte before it counts as stuck. A serial line of 9600 baud
/// empties its buffer of 4 KiB in about four seconds, and takes bytes all the while.
const PATIENCE: Duration = Duration::from_secs(1);

const FALLBACK: &str = "console";
const KERNEL_LOG: &str = "/dev/kmsg";

/// Longest line that the kernel's log takes, bytes, with room for its prefix.
const KERNEL_LOG_LINE: usize = 900;

/// Everything that can be written to.
#[derive(Debug)]
pub(super) struct Consoles {
    terminals: Vec<Terminal>,
    /// Used while there is no terminal.
    kernel_log: Option<File>,
}

#[derive(Debug)]
struct Terminal {
    file: File,
    stuck: bool,
}

impl Consoles {
    /// Opens the terminals with these names, or `/dev/console` if none of them can be; the
    /// kernel's log if that cannot either.
    pub(super) fn open(names: &[String]) -> Self {
        Self::open_in(Path::new("/dev"), names)
    }

    fn open_in(dev: &Path, names: &[String]) -> Self {
        let mut unique: Vec<&str> = Vec::new();
        for name in names {
            if !unique.contains(&name.as_str()) {
                unique.push(name);
            }
        }
        let open = |name: &str| Terminal::open(&dev.join(name));
        let mut terminals: Vec<_> = unique.into_iter().filter_map(open).collect();
        if terminals.is_empty() {
            terminals.extend(open(FALLBACK));
        }
        let kernel_log = match terminals.is_empty() {
            true => OpenOptions::new().write(true).open(KERNEL_LOG).ok(),
            false => None,
        };
        Self { terminals, kernel_log }
    }

    /// Writes a line of init's own.
    pub(super) fn say(&mut self, line: &str) {
        self.write(format!("init: {line}\n").as_bytes());
    }

    /// Writes bytes as they are.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        for terminal in &mut self.terminals {
            terminal.write(bytes);
        }
        if let Some(log) = &mut self.kernel_log {
            for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                let line = &line[..line.len().min(KERNEL_LOG_LINE)];
                // There is nowhere left to say that this failed.
                let _ = log.write_all(line);
            }
        }
    }
}

impl Terminal {
    fn open(path: &Path) -> Option<Self> {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        // Appending changes nothing on a terminal.
        let file = OpenOptions::new().append(true).custom_flags(flags).open(path).ok()?;
        // A serial port that is not there opens, and then refuses everything.
        (&file).write_all(b"").ok()?;
        Some(Self { file, stuck: false })
    }

    fn write(&mut self, mut bytes: &[u8]) {
        let mut give_up = Instant::now() + PATIENCE;
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return,
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.stuck = false;
                    give_up = Instant::now() + PATIENCE;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock && !self.stuck => {
                    self.stuck = !self.wait_until(give_up);
                }
                // Stuck, or gone: what it missed is on the others.
                Err(_) => return,
            }
        }
    }

    /// Whether the terminal takes bytes before that time.
    fn wait_until(&self, give_up: Instant) -> bool {
        let left = give_up.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        !left.is_zero() && matches!(poll(&mut fds, timeout), Ok(1..) | Err(nix::Error::EINTR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_console_gets_every_line_once() {
        let dev = tempfile::tempdir().unwrap();
        for name in ["tty0", "ttyS0", "console"] {
            fs::write(dev.path().join(name), "").unwrap();
        }
        let mut consoles =
            Consoles::open_in(dev.path(), &names(&["ttyS0", "tty0", "ttyS9", "ttyS0"]));
        consoles.say("hello");
        consoles.write(b"raw");
        let text = |name| fs::read_to_string(dev.path().join(name)).unwrap();
        assert_eq!(text("ttyS0"), "init: hello\nraw");
        assert_eq!(text("tty0"), "init: hello\nraw");
        assert_eq!(text("console"), "");
    }

    #[test]
    fn the_system_console_stands_in_where_none_can_be_opened() {
        let dev = tempfile::tempdir().unwrap();
        fs::write(dev.path().join("console"), "").unwrap();
        Consoles::open_in(dev.path(), &names(&["ttyS9"])).say("hello");
        let text = fs::read_to_string(dev.path().join("console")).unwrap();
        assert_eq!(text, "init: hello\n");
    }

    #[test]
    fn a_console_that_takes_nothing_holds_nobody_up_for_long() {
        let dev = tempfile::tempdir().unwrap();
        let path = dev.path().join("ttyS0");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // Whoever reads opens first, or the console cannot be opened.
        let flags = libc::O_NONBLOCK;
        let mut end = OpenOptions::new().read(true).custom_flags(flags).open(&path).unwrap();
        let mut consoles = Consoles::open_in(dev.path(), &names(&["ttyS0"]));
        let began = Instant::now();
        for _ in 0..100 {
            consoles.write(&[b'x'; 4096]);
        }
        assert!(began.elapsed() < 2 * PATIENCE, "{:?}", began.elapsed());
        // When someone reads again, lines come again.
        let mut buffer = vec![0; 1 << 20];
        let taken = end.read(&mut buffer).unwrap();
        assert!(taken >= 4096);
        consoles.say("back");
        let taken = end.read(&mut buffer).unwrap();
        assert!(buffer[..taken].ends_with(b"init: back\n"));
    }
}
