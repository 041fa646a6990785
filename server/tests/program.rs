//! The program itself: signals, a kill, exit codes, what it prints.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_nibs-server");
const MACHINE: &str = "52:54:00:12:34:56";

struct Serving {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    address: String,
}

impl Serving {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--address", "127.0.0.1:0", "--data"])
            .arg(data)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it listened");
        }
        let address = line.split("address=").nth(1).unwrap().split(' ').next().unwrap();
        Self { address: address.to_owned(), child, log }
    }

    fn post(&self, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }

    fn rest_of_log(mut self) -> String {
        let mut text = String::new();
        self.log.read_to_string(&mut text).unwrap();
        text
    }

    fn look(&self, arguments: &[&str]) -> Output {
        run(&[arguments, &["--server", &format!("http://{}", self.address)]].concat())
    }
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    for name in ["NIBS_DATA", "NIBS_SERVER", "NIBS_ADDRESS"] {
        command.env_remove(name);
    }
    command.args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn data() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    for folder in ["jobs", "matches"] {
        fs::create_dir(data.path().join(folder)).unwrap();
    }
    let job = r#"
name = "demo"
[[actions]]
uses = "write-files"
with.partition = { label = "root" }
with.files = [{ path = "/a", content = "hunter2" }]
"#;
    fs::write(data.path().join("jobs/demo.toml"), job).unwrap();
    fs::write(data.path().join("matches/all.toml"), "job = \"demo\"\nselector = {}\n").unwrap();
    data
}

fn report(sequence: u64, kind: &str) -> String {
    format!(
        "{{\"machine\":\"{MACHINE}\",\"events\":[{{\"job\":\"demo\",\"sequence\":{sequence},\
         \"time\":\"2026-01-01T00:00:00Z\",{kind}}}]}}"
    )
}

#[test]
fn an_acknowledged_event_survives_a_kill() {
    let data = data();
    let mut serving = Serving::start(data.path());
    for sequence in 1..=20 {
        let body = report(sequence, "\"event\":\"warning\",\"message\":\"m\"");
        let answer = serving.post("/v1/jobs/demo/events", &body);
        assert!(answer.contains(&format!("\"acknowledged\":{sequence}")), "{answer}");
    }
    assert_eq!(serving.signal("-KILL"), None);
    let serving = Serving::start(data.path());
    let path = format!("/v1/machines/{MACHINE}/job?wait=0");
    let answer = serving.post(&path, "{\"agent\":\"0\",\"facts\":{}}");
    assert!(answer.contains("\"first-sequence\":21"), "{answer}");
    let mut serving = serving;
    serving.signal("-KILL");
}

#[test]
fn a_signal_ends_it_well_and_no_secret_was_logged() {
    for signal in ["-TERM", "-INT"] {
        let data = data();
        let mut serving = Serving::start(data.path());
        let path = format!("/v1/machines/{MACHINE}/job?wait=0&token=hunter2");
        let answer = serving.post(&path, "{\"agent\":\"0\",\"facts\":{}}");
        assert!(answer.contains("hunter2"), "the agent gets the contents: {answer}");
        assert_eq!(serving.signal(signal), Some(0), "{signal}");
        let log = serving.rest_of_log();
        assert!(log.contains("offering a job") && log.contains("stopping"), "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }
}

#[test]
fn machines_and_events_are_shown_and_a_retry_is_asked_for() {
    let data = data();
    let mut serving = Serving::start(data.path());
    let action = "\"event\":\"action-started\",\"action\":0,\"name\":\"configure\",\"uses\":\"write-files\",\"attempt\":1";
    let end = "\"event\":\"job-finished\",\"seconds\":2.0,\"outcome\":{\"result\":\"failed\",\"class\":\"environment\",\"message\":\"no such \\u001b[31mpartition\"}";
    serving.post("/v1/jobs/demo/events", &report(1, action));
    serving.post("/v1/jobs/demo/events", &report(2, end));

    let table = stdout(&serving.look(&["machines"]));
    let row = table.lines().nth(1).unwrap();
    for cell in [MACHINE, "failed", "demo", "configure", "127.0.0.1"] {
        assert!(row.contains(cell), "{table}");
    }
    assert!(table.contains("no such  [31mpartition"), "{table:?}");
    let json = stdout(&serving.look(&["machines", "--json"]));
    let machines: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(machines[0]["id"], MACHINE);

    let events = stdout(&serving.look(&["events", "--machine", "52-54-00-12-34-56"]));
    assert_eq!(events.lines().count(), 2, "{events}");
    assert!(events.contains("action 1 started: configure (write-files)"), "{events}");
    assert!(events.contains("job failed (environment): no such"), "{events}");
    let json = stdout(&serving.look(&["events", "--job", "demo", "--json"]));
    let event: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&event["machine"], &event["sequence"]), (&MACHINE.into(), &1.into()));
    assert_eq!(stdout(&serving.look(&["events", "--job", "other"])), "");

    let retry = serving.look(&["retry", "--machine", MACHINE]);
    assert_eq!(retry.status.code(), Some(0), "{}", stderr(&retry));
    let again = serving.look(&["retry", "--machine", MACHINE]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("still offered"));
    serving.signal("-KILL");
}

#[test]
fn a_check_names_every_fault() {
    let data = data();
    let directory = data.path().to_str().unwrap();
    let good = run(&["check", directory]);
    assert_eq!((good.status.code(), stderr(&good).as_str()), (Some(0), ""));
    fs::write(data.path().join("jobs/bad.toml"), "name = \"bad\"\nactoins = []\n").unwrap();
    fs::write(data.path().join("matches/b.toml"), "job = \"gone\"\nselector = { uuid = \"u\" }\n")
        .unwrap();
    let bad = run(&["check", directory]);
    assert_eq!(bad.status.code(), Some(1));
    let faults = stderr(&bad);
    assert!(faults.contains("jobs/bad.toml: key `actoins` is not known"), "{faults}");
    assert!(faults.contains("matches/b.toml: names job gone"), "{faults}");
    assert_eq!(run(&["check", "/nowhere"]).status.code(), Some(1));
}

#[test]
fn a_check_looks_into_the_files_that_jobs_write() {
    let data = data();
    let directory = data.path().to_str().unwrap();
    let job = |net: &str| {
        let text = format!(
            "name = \"b\"\n[[actions]]\nuses = \"bottlerocket\"\nwith.net.content = {net:?}\n"
        );
        fs::write(data.path().join("jobs/b.toml"), text).unwrap();
        run(&["check", directory])
    };
    let bad = job("version = 1\n[eno1]\ndhcp4 = 3\n");
    assert_eq!(bad.status.code(), Some(1));
    let lines = stderr(&bad);
    assert!(
        lines.starts_with(&format!("{directory}/jobs/b.toml: net.toml:3:9: error: ")),
        "{lines}"
    );
    let odd = job("version = 1\n");
    assert_eq!(odd.status.code(), Some(0));
    assert!(stderr(&odd).contains("b.toml: net.toml:1:11: warning: "), "{}", stderr(&odd));
    assert!(stdout(&odd).contains("2 jobs, 1 matches, 0 faults, 1 warnings"), "{}", stdout(&odd));
}

#[test]
fn wrong_usage_is_2_and_what_fails_is_1() {
    for usage in [
        &["serve"][..],
        &["serve", "--data", "d", "--address", "here"],
        &["serve", "--data", "d", "--url", "http://u:p@h/"],
        &["serve", "--data", "d", "--kernel", "vmlinuz"],
        &["serve", "--data", "d", "--kernel-parameters", "a || shell"],
        &["retry"],
        &["events", "--machine", "a b"],
        &["dance"],
    ] {
        assert_eq!(run(usage).status.code(), Some(2), "{usage:?}");
    }
    let away = run(&["machines", "--server", "http://127.0.0.1:9"]);
    assert_eq!(away.status.code(), Some(1));
    assert!(stderr(&away).contains("asking http://127.0.0.1:9"), "{}", stderr(&away));
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let no_directory = run(&["serve", "--data", path, "--address", "127.0.0.1:0"]);
    assert_eq!(no_directory.status.code(), Some(1));
    assert!(stderr(&no_directory).contains("opening the data directory"));
}
