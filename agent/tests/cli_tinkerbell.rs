//! The binary under the names of Tinkerbell's agents, started as HookOS and CaptainOS start them;
//! and `nibs tinkerbell`.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longer than anything here should take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const NIBS: &str = env!("CARGO_BIN_EXE_nibs");

/// How every connection of HTTP/2 begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const WORKER: &str = "52:54:00:00:00:01";

/// The binary under another name, with nothing in its environment.
fn called(name: &str) -> Command {
    let mut command = Command::new(NIBS);
    command.arg0(name).env_clear();
    command
}

/// A process that is ended with the test.
struct Agent(Child);

impl Agent {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    /// Its exit code, and what it said on stdout and stderr.
    fn end(mut self) -> (Option<i32>, String, String) {
        let began = Instant::now();
        let status = loop {
            match self.0.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(began.elapsed() < PATIENCE, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let (mut out, mut err) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (status.code(), out, err)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Somewhere that a server could be.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let began = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(_) => assert!(began.elapsed() < PATIENCE, "nobody connects"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether that much of a connection's beginning is this.
fn begins_with(stream: &mut TcpStream, expected: &[u8]) -> bool {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    bytes == expected
}

/// Its exit code, and what it said on stdout and stderr.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    Agent::start(command).end()
}

/// The objects that stdout consists of.
fn objects(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn hookos_starts_it_by_its_environment() {
    let (listener, address) = listener();
    let agent = Agent::start(called("/usr/bin/tink-agent").envs([
        ("DOCKER_REGISTRY", "registry.lab"),
        ("REGISTRY_USERNAME", "me"),
        ("REGISTRY_PASSWORD", "hunter2"),
        ("TINKERBELL_GRPC_AUTHORITY", &address),
        ("TINKERBELL_TLS", "false"),
        ("TINKERBELL_INSECURE_TLS", ""),
        ("WORKER_ID", WORKER),
        ("ID", WORKER),
        ("HTTP_PROXY", ""),
        ("HTTPS_PROXY", ""),
        ("NO_PROXY", ""),
    ]));
    assert!(begins_with(&mut accept(&listener), PREFACE));
    agent.signal(Signal::SIGTERM);
    let (code, out, err) = agent.end();
    assert_eq!(code, Some(0), "{out}{err}");
    let lines = objects(&out);
    let first = &lines[0];
    assert!(first["msg"].as_str().unwrap().contains(&address), "{first}");
    assert_eq!((&first["level"], first["agentID"].as_str()), (&Value::from(0), Some(WORKER)));
    assert!(first["time"].as_str().unwrap().ends_with('Z'), "{first}");
    assert!(lines.last().unwrap()["msg"].as_str().unwrap().starts_with("stopped"), "{out}");
    assert!(!out.contains("hunter2") && err.is_empty(), "{out}{err}");
}

#[test]
fn captainos_takes_it_out_of_the_image_and_starts_it_by_flags() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("tink-agent");
    symlink(NIBS, &program).unwrap();
    let (listener, address) = listener();
    let mut command = Command::new(&program);
    command.env_clear().args(["-runtime", "containerd"]);
    command.args(["-containerd-socket", "/run/containerd/containerd.sock", "-transport", "grpc"]);
    command.args(["-grpc-server", &address, "-grpc-tls=false", "-grpc-insecure-tls=false"]);
    command.args(["-id", WORKER, "-registry-name", "r", "-registry-user", "u"]);
    command.args(["-registry-pass", "hunter2"]);
    command.envs([("TINKERBELL_GRPC_AUTHORITY", address.as_str()), ("WORKER_ID", WORKER)]);
    let agent = Agent::start(command.env("AGENT_LOG_LEVEL", "4"));
    assert!(begins_with(&mut accept(&listener), PREFACE));
    agent.signal(Signal::SIGHUP);
    let (code, out, err) = agent.end();
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("-containerd-socket: taken, without effect"), "{out}");
    assert!(!out.contains("hunter2") && err.is_empty(), "{out}{err}");
    objects(&out);
}

#[test]
fn tink_worker_speaks_tls_by_default() {
    let (listener, address) = listener();
    let _agent = Agent::start(called("/tink-worker").args([
        "--tinkerbell-grpc-authority",
        &address,
        "-i",
        WORKER,
    ]));
    // A handshake record of TLS (RFC 8446 section 5.1).
    assert!(begins_with(&mut accept(&listener), &[22, 3]));
}

#[test]
fn what_cannot_be_meant_ends_with_1_and_says_why() {
    for (arguments, variables, message) in [
        (&["-grpc-sever=h:1"][..], &[][..], "there is no flag -grpc-sever"),
        (&["-id", WORKER], &[], "expected -grpc-server HOST:PORT"),
        (&["-id=m", "-grpc-server=nonsense:port"], &[], "\"nonsense:port\" is no address"),
        (&["-grpc-server=127.0.0.1:1"], &[], "has no id"),
        (&[], &[("AGENT_GRPC_TLS", "maybe")], "AGENT_GRPC_TLS: expected true or false"),
        (&["-id=m", "-transport=file"], &[], "expected -workflow-path FILE"),
        (&["-id=m", "-transport=file", "-workflow-path=/no/such"], &[], "/no/such"),
        (&["-id=m", "-transport=nats"], &[], "expected -nats-server HOST:PORT"),
        (
            &["-id=m", "-grpc-server=127.0.0.1:1", "-grpc-tls"],
            &[("NIBS_CA", "/no/such/ca.pem")],
            "/no/such/ca.pem",
        ),
        (
            &["-id=m", "-grpc-server=127.0.0.1:1", "-grpc-tls"],
            &[("NIBS_CLIENT_CERTIFICATE", "/no/such/cert"), ("NIBS_CLIENT_KEY", "/no/such/key")],
            "client certificate /no/such/cert",
        ),
    ] {
        let mut command = called("tink-agent");
        let (code, _, said) = run(command.args(arguments).envs(variables.iter().copied()));
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(said.contains(message), "{message}: {said}");
    }
}

#[test]
fn version_and_help_are_answered_and_nothing_is_started() {
    let (code, out, _) = run(called("tink-agent").arg("-version"));
    assert_eq!((code, &out[..]), (Some(0), concat!("nibs ", env!("CARGO_PKG_VERSION"), "\n")));
    let (code, _, said) = run(called("tink-agent").arg("--help"));
    assert_eq!(code, Some(1), "as tink-agent has it");
    assert!(said.contains("-grpc-server"), "{said}");
}

#[test]
fn a_refused_connection_is_tried_again_until_it_is_told_to_stop() {
    let (listener, address) = listener();
    drop(listener);
    let mut command = called("tink-agent");
    command.args(["-grpc-server", &address, "-id", WORKER, "-backoff-max-interval=100ms"]);
    let agent = Agent::start(&mut command);
    std::thread::sleep(Duration::from_millis(1500));
    agent.signal(Signal::SIGINT);
    let (code, out, _) = agent.end();
    assert_eq!(code, Some(0), "{out}");
    let refused = out.matches("onnection refused").count();
    assert!(refused >= 2, "{out}");
    objects(&out);
}

#[test]
fn the_command_for_people_says_what_is_missing() {
    for (arguments, message) in [
        (&["tinkerbell", "--id=m"][..], "expected --server HOST:PORT, NIBS_TINKERBELL"),
        (&["tinkerbell", "--transport=file"], "--workflow-path"),
        (&["tinkerbell", "--transport=nats"], "--nats-server"),
        (&["tinkerbell", "--server=h:1", "--client-certificate=c"], "--client-key"),
        (&["tinkerbell", "--server=h:1", "--backoff-max=soon"], "soon"),
    ] {
        let (code, _, said) = run(Command::new(NIBS).env_clear().args(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(message), "{message}: {said}");
    }
}

#[test]
fn the_command_for_people_asks_the_server_that_is_named() {
    let (listener, address) = listener();
    let mut command = Command::new(NIBS);
    command.env_clear().args(["tinkerbell", "--id", WORKER]).env("NIBS_TINKERBELL", &address);
    let agent = Agent::start(&mut command);
    assert!(begins_with(&mut accept(&listener), PREFACE));
    agent.signal(Signal::SIGTERM);
    let (code, out, err) = agent.end();
    assert_eq!(code, Some(0), "{err}");
    assert!(out.is_empty() && err.contains(&address), "for people, on stderr: {err}");
}

#[test]
fn what_ends_the_agent_is_on_the_console_and_reaches_syslog() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to show another kernel command line");
        return;
    }
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = receiver.local_addr().unwrap().port();
    let file = tempfile::NamedTempFile::new().unwrap();
    let syslog = format!("syslog_host=127.0.0.1 syslog_port={port} worker_id={WORKER}");
    for (line, message) in [
        ("", "no Tinkerbell server is named"),
        ("grpc_authority=nonsense:port", "\"nonsense:port\" is no address"),
        ("grpc_authority=127.0.0.1:1 HTTPS_PROXY=ftp://h", "reading the proxy https_proxy"),
        ("grpc_authority=127.0.0.1:1 nibs.ca=/no/such.pem", "/no/such.pem"),
    ] {
        fs::write(file.path(), format!("{line} {syslog}\n")).unwrap();
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "sh",
            "-c",
            "mount --bind $0 /proc/cmdline && exec $1 tinkerbell",
        ]);
        let (code, _, said) = run(command.arg(file.path()).arg(NIBS).env_remove("NIBS_TINKERBELL"));
        if said.contains("mount:") || said.contains("unshare:") {
            eprintln!("skipped: needs mount namespaces: {said}");
            return;
        }
        assert!(code.is_some_and(|code| code != 0), "{line}: {said}");
        assert!(said.contains(message), "{line}: {said}");
        let mut buffer = [0; 4096];
        loop {
            let length = receiver.recv(&mut buffer).expect(message);
            let heard = String::from_utf8_lossy(&buffer[..length]);
            // Facility 3 (daemon) times 8, and severity 3 (error).
            if heard.starts_with("<27>1 ") && heard.contains(WORKER) && heard.contains(message) {
                break;
            }
        }
    }
}
