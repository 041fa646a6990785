//! What the agent says, to a syslog receiver on the network: RFC 5424 over UDP (RFC 5426), as
//! smee of Tinkerbell wants it.
//!
//! smee takes version 1, structured data that is exactly `-`, and messages of at most 32 KiB. Who
//! waits for them is no reason to wait here: the socket never blocks, what cannot be sent because
//! the network is not up yet or is away is kept, within bounds, until the next line, and what is
//! dropped is counted and said.
//!
//! Severity, header and framing are `syslog_fmt`'s, which brings nothing with it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use syslog_fmt::Facility;
pub use syslog_fmt::Severity;
use syslog_fmt::v5424::{Config, Formatter, Msg};

use crate::net::resolver::Resolver;

/// Where receivers listen (RFC 5426 section 3.3).
pub const PORT: u16 = 514;

/// Longest message that smee takes, bytes.
const MAX_MESSAGE: usize = 32 << 10;

/// Room for what stands before the text; the longest host name has 255 bytes.
const MAX_HEADER: usize = 512;

/// Lines that are kept while the network is away.
const MAX_KEPT: usize = 500;

/// What the sender is called in its messages.
const APPLICATION: &str = "nibs";

/// Longest host name of a message, bytes (RFC 5424 section 6).
const MAX_HOST_NAME: usize = 255;

/// Pause before the receiver's name is looked up again.
const LOOKUP_PAUSE: Duration = Duration::from_secs(10);

/// Pause before what is said last is tried again.
const LAST_TICK: Duration = Duration::from_millis(20);

/// Who gets the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Address or name.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

/// Sends what is said. Lines that come before it is [`Syslog::open`] are kept.
#[derive(Default)]
pub struct Syslog {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    link: Option<Link>,
    kept: VecDeque<Line>,
    lost: usize,
}

/// The way to the receiver.
struct Link {
    socket: UdpSocket,
    to: SocketAddr,
    formatter: Formatter,
}

struct Line {
    severity: Severity,
    time: SystemTime,
    text: String,
}

impl Syslog {
    /// One that keeps what it is given until it is opened.
    pub fn new() -> Self {
        Self::default()
    }

    /// Finds the receiver, however long that takes, and begins to send, as the host `host_name`.
    /// Needs a tokio runtime.
    pub async fn open(&self, receiver: &Receiver, host_name: &str, resolver: &Resolver) {
        let address = loop {
            match resolver.lookup(&receiver.host).await {
                Ok(addresses) if !addresses.is_empty() => break addresses[0],
                Ok(_) => tracing::debug!("syslog receiver {}: it has no address", receiver.host),
                Err(e) => tracing::debug!("syslog receiver {}: {e}", receiver.host),
            }
            tokio::time::sleep(LOOKUP_PAUSE).await;
        };
        if let Err(e) = self.send_to(SocketAddr::new(address, receiver.port), host_name) {
            tracing::warn!("opening a socket for syslog: {e}; going on without");
        }
    }

    /// Begins to send to this address.
    pub fn send_to(&self, to: SocketAddr, host_name: &str) -> io::Result<()> {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        // Not connected: the word that nobody listens would come back as an error of the next line.
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        let (host_name, process) = (field(host_name), std::process::id().to_string());
        let formatter = Config {
            facility: Facility::Daemon,
            hostname: Some(&host_name),
            app_name: Some(APPLICATION),
            proc_id: Some(&process),
        }
        .into_formatter();
        let mut state = self.state();
        state.link = Some(Link { socket, to, formatter });
        state.send_kept();
        Ok(())
    }

    /// Says something. Never waits, and never fails.
    pub fn say(&self, severity: Severity, time: SystemTime, text: &str) {
        let mut state = self.state();
        if state.kept.len() == MAX_KEPT {
            state.kept.pop_front();
            state.lost += 1;
        }
        state.kept.push_back(Line { severity, time, text: plain(text) });
        state.send_kept();
    }

    /// Says what ends this process, and gives that some time to get out: no longer than `at_most`,
    /// since a receiver may have a name that nobody knows. Needs a tokio runtime.
    pub async fn say_last(&self, text: &str, at_most: Duration) {
        self.say(Severity::Err, SystemTime::now(), text);
        let deadline = Instant::now() + at_most;
        while !self.is_out() && Instant::now() < deadline {
            tokio::time::sleep(LAST_TICK).await;
        }
    }

    /// Sends what is kept; whether nothing is left.
    fn is_out(&self) -> bool {
        let mut state = self.state();
        state.send_kept();
        state.kept.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Sends what can be sent, in order.
    fn send_kept(&mut self) {
        let Some(link) = &self.link else { return };
        if self.lost > 0 {
            let text = format!("{} earlier lines were dropped", self.lost);
            let line = Line { severity: Severity::Warning, time: SystemTime::now(), text };
            match link.send(&line) {
                Err(e) if is_away(&e) => return,
                _ => self.lost = 0,
            }
        }
        while let Some(line) = self.kept.front() {
            match link.send(line) {
                Ok(()) => {}
                Err(e) if is_away(&e) => return,
                // One that can never be sent must not hold up the others.
                Err(_) => self.lost += 1,
            }
            self.kept.pop_front();
        }
    }
}

impl Link {
    fn send(&self, line: &Line) -> io::Result<()> {
        let mut message = Vec::with_capacity(MAX_HEADER);
        // Not its UTF-8 form, which puts a byte order mark before the text that smee would log.
        let text = Msg::NonUnicodeBytes(line.text.as_bytes());
        let time = humantime::format_rfc3339_millis(line.time).to_string();
        self.formatter.write_without_data(&mut message, line.severity, time, text, None)?;
        self.socket.send_to(&message, self.to).map(|_| ())
    }
}

impl fmt::Debug for Syslog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Syslog")
            .field("to", &state.link.as_ref().map(|link| link.to))
            .field("kept", &state.kept.len())
            .field("lost", &state.lost)
            .finish()
    }
}

/// Whether this is an error of a network that may come back.
fn is_away(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
    ) || error.raw_os_error() == Some(libc::ENOBUFS)
}

/// A host name as a message can hold it: printable ASCII without spaces.
fn field(host_name: &str) -> String {
    let graphic = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let name: String = host_name.chars().map(graphic).take(MAX_HOST_NAME).collect();
    if name.is_empty() { "-".into() } else { name }
}

/// Text as a message can hold it: one line, and no longer than the receiver takes.
fn plain(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(MAX_MESSAGE - MAX_HEADER)];
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A receiver on this machine.
    fn receiver() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    fn next(receiver: &UdpSocket) -> String {
        let mut buffer = vec![0; 1 << 16];
        let length = receiver.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn noon() -> SystemTime {
        humantime::parse_rfc3339("2026-08-18T12:00:00.5Z").unwrap()
    }

    #[test]
    fn a_message_is_what_smee_reads() {
        let receiver = receiver();
        let syslog = Syslog::new();
        syslog.send_to(receiver.local_addr().unwrap(), "52:54:00:00:00:01").unwrap();
        syslog.say(Severity::Err, noon(), "writing /dev/sda: no space");
        let process = std::process::id();
        // Facility 3 (daemon) times 8, and severity 3 (error).
        let header = format!("<27>1 2026-08-18T12:00:00.500Z 52:54:00:00:00:01 nibs {process} - -");
        assert_eq!(next(&receiver), format!("{header} writing /dev/sda: no space"));
    }

    #[test]
    fn lines_from_before_the_network_come_first_and_in_order() {
        let receiver = receiver();
        let syslog = Syslog::new();
        syslog.say(Severity::Info, noon(), "first");
        syslog.say(Severity::Info, noon(), "second");
        syslog.send_to(receiver.local_addr().unwrap(), "m").unwrap();
        syslog.say(Severity::Info, noon(), "third");
        for text in ["first", "second", "third"] {
            assert!(next(&receiver).ends_with(&format!("- - {text}")));
        }
    }

    #[test]
    fn what_is_too_much_to_keep_is_counted() {
        let receiver = receiver();
        let syslog = Syslog::new();
        for n in 0..MAX_KEPT + 7 {
            syslog.say(Severity::Info, noon(), &n.to_string());
        }
        assert!(format!("{syslog:?}").contains("lost: 7"), "{syslog:?}");
        syslog.send_to(receiver.local_addr().unwrap(), "m").unwrap();
        assert!(next(&receiver).ends_with("7 earlier lines were dropped"));
        assert!(next(&receiver).ends_with(" 7"), "the oldest were");
    }

    #[test]
    fn a_line_is_one_line_and_no_longer_than_the_receiver_takes() {
        let receiver = receiver();
        let syslog = Syslog::new();
        syslog.send_to(receiver.local_addr().unwrap(), "rack 1\nunit 7").unwrap();
        syslog.say(Severity::Info, noon(), "two\nlines\u{1b}[0m");
        let message = next(&receiver);
        assert!(message.contains(" rack_1_unit_7 nibs "), "{message}");
        assert!(message.ends_with(" two lines [0m"), "{message}");
        syslog.say(Severity::Info, noon(), &"ä".repeat(MAX_MESSAGE));
        let message = next(&receiver);
        assert!(message.len() <= MAX_MESSAGE && message.len() > MAX_MESSAGE - 2 * MAX_HEADER);
        assert!(message.ends_with('ä'));
    }

    #[test]
    fn a_receiver_that_is_not_there_costs_no_time_and_no_error() {
        let gone = receiver().local_addr().unwrap();
        let syslog = Syslog::new();
        syslog.send_to(gone, "m").unwrap();
        let began = std::time::Instant::now();
        for _ in 0..1000 {
            syslog.say(Severity::Info, noon(), "hello?");
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(syslog.state().kept.len(), 0, "nothing is kept for one who will never hear");
    }

    #[tokio::test]
    async fn what_is_said_last_waits_for_the_way_to_the_receiver_but_not_for_ever() {
        let receiver = receiver();
        let syslog = std::sync::Arc::new(Syslog::new());
        let (later, to) = (syslog.clone(), receiver.local_addr().unwrap());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            later.send_to(to, "m").unwrap();
        });
        syslog.say_last("the end", Duration::from_secs(30)).await;
        assert!(next(&receiver).ends_with(" the end"));
        let began = Instant::now();
        Syslog::new().say_last("nobody hears", Duration::from_millis(50)).await;
        assert!(began.elapsed() >= Duration::from_millis(50));
    }

    #[tokio::test]
    async fn the_receiver_may_be_a_name() {
        let receiver = receiver();
        let etc = tempfile::tempdir().unwrap();
        std::fs::write(etc.path().join("hosts"), "127.0.0.1 log.lab\n").unwrap();
        let to = Receiver { host: "log.lab".into(), port: receiver.local_addr().unwrap().port() };
        let syslog = Syslog::new();
        syslog.say(Severity::Info, noon(), "hello");
        syslog.open(&to, "m", &Resolver::new(etc.path())).await;
        assert!(next(&receiver).ends_with(" hello"));
    }
}
