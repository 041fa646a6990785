//! The other two transports with the real worker: NATS against its real server, and a file.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::artefacts::missing_programs;
use lab::process::Daemon;
use nibs_agent::net::resolver::Resolver;
use nibs_agent::tinkerbell::transport::{File, Nats, Subjects};

use super::agent::{Agent, Machine, PATIENCE, wait_until};

const TWO: &str = "- {id: a1, name: one, image: noop, env: [{key: PASSWORD, value: hunter2}]}
- {id: a2, name: two, image: fail}
- {id: a3, name: three, image: noop}
";

#[test]
fn a_file_is_done_up_to_its_first_failure() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), TWO).unwrap();
    let list = File::read(file.path(), "m").unwrap();
    let agent = Agent::on(move || Box::new(list), Machine::default());
    wait_until(|| agent.machine.runs().len() == 2);
    // Nothing follows, and nothing ends: who restarts agents would have it all done again.
    std::thread::sleep(Duration::from_millis(200));
    assert!(!agent.has_ended());
    assert_eq!(agent.machine.runs(), ["noop", "fail"]);
    agent.stop();
}

/// A client of NATS in twenty lines: its protocol is text.
struct Peer {
    stream: BufReader<TcpStream>,
}

impl Peer {
    fn connect(address: &str) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Self { stream: BufReader::new(stream) };
        peer.send("CONNECT {\"verbose\":false}\r\nSUB tinkerbell.m.workflow_status 1\r\n");
        peer.sync();
        peer
    }

    fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line
    }

    /// Waits until the server has done all that was sent.
    fn sync(&mut self) {
        self.send("PING\r\n");
        while !self.line().starts_with("PONG") {}
    }

    fn publish(&mut self, text: &str) {
        let subject = "tinkerbell.m.workflow_actions";
        self.send(&format!("PUB {subject} {}\r\n{text}\r\n", text.len()));
    }

    /// The next event.
    fn event(&mut self) -> String {
        while !self.line().starts_with("MSG") {}
        self.line()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn lists_come_by_nats_and_events_go_there_also_after_its_server_was_restarted() {
    let missing = missing_programs(&["nats-server"]);
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?} is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let start = || {
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
        Daemon::spawn("nats-server", &mut command, &directory.path().join("log")).unwrap()
    };
    // The agent is there first.
    let server = address.clone();
    let nats = move || {
        Box::new(Nats::new(&server, "m", Subjects::default(), Resolver::default())) as Box<_>
    };
    let agent = Agent::on(nats, Machine::default());
    let mut daemon = start();
    for round in 1..=2 {
        let mut peer = Peer::connect(&address);
        // Nobody keeps messages: what is sent before somebody listens is lost.
        wait_until(|| somebody_listens(&address));
        peer.publish("this is no list");
        peer.publish(TWO);
        for (action, state) in
            [("one", "running"), ("one", "success"), ("two", "running"), ("two", "failure")]
        {
            let event = peer.event();
            assert!(event.starts_with("action: {") && event.contains(action), "{event}");
            assert!(event.trim_end().ends_with(&format!("state: {state}")), "{event}");
            assert!(!event.contains("hunter2"), "{event}");
        }
        assert_eq!(agent.machine.runs().len(), 2 * round);
        if round == 1 {
            daemon.kill().unwrap();
            daemon = start();
        }
    }
    agent.stop();
    daemon.stop().unwrap();
}

/// Whether somebody listens for lists: the server tells who asks a question that nobody hears.
fn somebody_listens(address: &str) -> bool {
    let mut peer = Peer::connect(address);
    peer.send("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n");
    peer.send("SUB answers 2\r\nPUB tinkerbell.m.workflow_actions answers 2\r\n[]\r\nPING\r\n");
    loop {
        match &peer.line() {
            line if line.starts_with("HMSG") => return false,
            line if line.starts_with("PONG") => return true,
            _ => {}
        }
    }
}
