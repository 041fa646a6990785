//! What is said reaches a receiver that people use: Debian's rsyslog takes each part of a message
//! for what it is. Skipped with a reason where it is not installed.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nibs_agent::syslog::{Severity, Syslog};
use serde_json::{Value, json};

/// Longer than it takes to start a daemon on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon that is ended with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn rsyslog_finds_every_part_of_a_message() {
    let Some(program) =
        ["/usr/sbin/rsyslogd", "/usr/bin/rsyslogd"].into_iter().find(|p| fs::exists(p).unwrap())
    else {
        eprintln!("skipped: needs rsyslogd");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    // A port that is free, as it was a moment ago.
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let parts = ["pri", "protocol-version", "timereported:::date-rfc3339", "hostname", "app-name"];
    let parts = [&parts[..], &["msgid", "structured-data", "msg:::drop-last-lf"]].concat();
    let parts: Vec<_> = parts.iter().map(|part| format!("%{part}%")).collect();
    let conf = format!(
        "module(load=\"imudp\")\n\
         input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")\n\
         template(name=\"parts\" type=\"string\" string=\"{}\\n\")\n\
         action(type=\"omfile\" file=\"{}\" template=\"parts\")\n",
        parts.join("|"),
        at("log")
    );
    fs::write(at("conf"), conf).unwrap();
    let mut command = Command::new(program);
    command.args(["-n", "-f", &at("conf"), "-i", &at("pid")]).stdin(Stdio::null());
    let _daemon = Daemon(command.spawn().unwrap());

    let syslog = Syslog::new();
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    syslog.send_to(to, "52:54:00:00:00:01").unwrap();
    let began = Instant::now();
    let mut log = String::new();
    // What comes before it listens is lost, as it is on every network.
    while !log.contains('\n') {
        assert!(began.elapsed() < PATIENCE, "rsyslog has written nothing");
        syslog.say(Severity::Warning, SystemTime::UNIX_EPOCH, "no digest: \"größe\" [1/2] <x>");
        std::thread::sleep(Duration::from_millis(100));
        log = fs::read_to_string(at("log")).unwrap_or_default();
    }
    let found: Vec<Value> = log.lines().next().unwrap().split('|').map(Value::from).collect();
    let expected = json!([
        "28",
        "1",
        "1970-01-01T00:00:00.000Z",
        "52:54:00:00:00:01",
        "nibs",
        "-",
        "-",
        "no digest: \"größe\" [1/2] <x>",
    ]);
    assert_eq!(Value::from(found), expected);
}
