//! `upload-image` from loop devices to an HTTP server of the test's own. Needs root and loop devices;
//! skips without.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, thread};

use nibs_actions::{Context, Done, Error, Machine, Sink, Stop, http};
use nibs_job::{Class, LogLevel, Progress, Task};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Sink for Lines {
    fn progress(&self, _: Progress) {}
    fn reset(&self, _: String) {}
    fn warning(&self, message: String) {
        self.0.lock().unwrap().push(message);
    }
    fn log(&self, _: LogLevel, message: String) {
        self.0.lock().unwrap().push(message);
    }
}

const SIZE: usize = 6 << 20;

/// A loop device with bytes on it, gone with the value.
struct Bench {
    device: PathBuf,
    content: Vec<u8>,
    backing: tempfile::NamedTempFile,
    lines: Arc<Lines>,
}

impl Bench {
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root for a loop device");
            return None;
        }
        let content: Vec<u8> = (0..SIZE).map(|at| (at / 77) as u8).collect();
        let backing = tempfile::NamedTempFile::new().unwrap();
        fs::write(backing.path(), &content).unwrap();
        let output =
            Command::new("losetup").args(["--find", "--show"]).arg(backing.path()).output().ok()?;
        if !output.status.success() {
            eprintln!("skipped: losetup makes no loop device here");
            return None;
        }
        let device = String::from_utf8(output.stdout).unwrap().trim().into();
        Some(Self { device, content, backing, lines: Arc::default() })
    }

    fn upload(&self, url: &str, more: &Value) -> Result<Done, Error> {
        let mut with = json!({ "disk": { "path": self.device }, "url": url, "file-name": "n.img" });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let task = Task::decode("upload-image", with).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let context = Context {
            machine: Machine::default(),
            stop: Stop::default(),
            sink: self.lines.clone(),
            runtime: runtime.handle().clone(),
            http: http::Options::default(),
            installed_disk: None,
        };
        nibs_actions::run(&task, &context)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// How a server treats what it is sent.
#[derive(Clone, Copy)]
enum Manner {
    /// It takes all and answers this.
    Answers(&'static str),
    /// It takes so many bytes, and nothing more.
    TakesOnly(usize),
    /// It takes all and says nothing.
    Silent,
}

/// What a server got: the head of the request, and its body without chunks.
struct Got {
    head: String,
    body: Vec<u8>,
    is_whole: bool,
}

fn serve(manner: Manner) -> (String, Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/image?token=s3cret", listener.local_addr().unwrap());
    let (send, got) = channel();
    thread::spawn(move || {
        let (connection, _) = listener.accept().unwrap();
        let _ = send.send(treat(&connection, manner));
        // Nobody hangs up before the client has read its answer.
        thread::sleep(Duration::from_secs(3));
    });
    (url, got)
}

fn treat(mut connection: &TcpStream, manner: Manner) -> Got {
    let mut reader = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).unwrap();
    }
    if let Manner::TakesOnly(most) = manner {
        let mut body = vec![0; most];
        reader.read_exact(&mut body).unwrap();
        thread::sleep(Duration::from_secs(3));
        return Got { head, body, is_whole: false };
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let (body, is_whole) = match length {
        Some(length) => {
            let mut body = vec![0; length.parse().unwrap()];
            let whole = reader.read_exact(&mut body).is_ok();
            (body, whole)
        }
        None => read_chunks(&mut reader),
    };
    if let (Manner::Answers(answer), true) = (manner, is_whole) {
        connection.write_all(answer.as_bytes()).unwrap();
    }
    Got { head, body, is_whole }
}

fn read_chunks(reader: &mut impl BufRead) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return (body, false);
        }
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        if reader.read_exact(&mut chunk).is_err() {
            return (body, false);
        }
        if length == 0 {
            return (body, true);
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

const OK: Manner = Manner::Answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");

/// The file of a form, and the lines in front of it.
fn file_of(got: &Got) -> (String, Vec<u8>) {
    let boundary = got.head.lines().find_map(|line| line.split_once("boundary=")).unwrap().1;
    let start = got.body.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let tail = format!("\r\n--{boundary}--\r\n");
    let end = got.body.len() - tail.len();
    assert_eq!(&got.body[end..], tail.as_bytes());
    assert!(got.body.starts_with(format!("--{boundary}\r\n").as_bytes()));
    (String::from_utf8(got.body[..start].to_vec()).unwrap(), got.body[start..end].to_vec())
}

#[test]
fn what_is_on_a_disk_is_the_file_of_a_form() {
    let Some(bench) = Bench::new() else { return };
    for compression in ["none", "gzip"] {
        let (url, got) = serve(OK);
        bench.upload(&url, &json!({ "compression": compression })).unwrap();
        let got = got.recv().unwrap();
        assert!(got.head.starts_with("POST /image?token=s3cret HTTP/1.1"), "{}", got.head);
        assert!(got.is_whole);
        let (lines, mut file) = file_of(&got);
        assert!(lines.contains("name=\"BootyImage\"; filename=\"n.img\"\r\n"), "{lines}");
        if compression == "gzip" {
            assert!(file.len() < SIZE / 4, "{} bytes", file.len());
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&file[..]).read_to_end(&mut unpacked).unwrap();
            file = unpacked;
        }
        assert!(file == bench.content, "{compression}");
    }
    let lines = bench.lines.0.lock().unwrap().join("\n");
    assert!(lines.contains(&hex::encode(Sha256::digest(&bench.content))), "{lines}");
    assert!(!lines.contains("s3cret"), "{lines}");
}

#[test]
fn a_server_that_does_not_want_it_is_quoted() {
    let Some(bench) = Bench::new() else { return };
    for (answer, class, says) in [
        ("413 Too Large\r\nContent-Length: 8\r\n\r\nno\nroom!", Class::InvalidInput, "413"),
        ("503 Busy\r\nContent-Length: 0\r\n\r\n", Class::Transient, "503"),
        ("404 Not Found\r\nContent-Length: 0\r\n\r\n", Class::InvalidInput, "404 Not Found"),
    ] {
        let answer = format!("HTTP/1.1 {answer}").leak();
        let (url, _got) = serve(Manner::Answers(answer));
        let error = bench.upload(&url, &json!({})).unwrap_err();
        assert_eq!(error.class(), class, "{error}");
        let error = error.to_string();
        assert!(error.contains("the server answered") && error.contains(says), "{error}");
        assert!(says != "413" || error.ends_with(": no room!"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_redirect_is_no_success_and_tells_where_it_leads() {
    let Some(bench) = Bench::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        // A POST is sent elsewhere, where a GET is answered well.
        let mut statuses = ["301", "302", "303", "307"].into_iter();
        for mut connection in listener.incoming().flatten() {
            let mut first = [0; 4];
            connection.peek(&mut first).unwrap();
            if first == *b"GET " {
                let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            let to = "Location: /login?token=s3cret\r\nContent-Length: 0\r\nConnection: close\r\n";
            let answer = format!("HTTP/1.1 {} Moved\r\n{to}\r\n", statuses.next().unwrap());
            treat(&connection, Manner::Answers(answer.leak()));
        }
    });
    for status in ["301", "302", "303", "307"] {
        let url = format!("http://{address}/image");
        let error = bench.upload(&url, &json!({})).unwrap_err();
        assert_eq!(error.class(), Class::InvalidInput, "{error}");
        let error = error.to_string();
        assert!(error.contains(&format!("answered {status}")), "{error}");
        assert!(error.contains(&format!("sends to http://{address}/login")), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_connection_that_breaks_tells_how_much_had_been_sent() {
    let Some(bench) = Bench::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (connection, _) = listener.accept().unwrap();
        BufReader::new(connection).read_exact(&mut [0; 300_000]).unwrap();
    });
    let error = bench.upload(&url, &json!({})).unwrap_err().to_string();
    let sent = error.rsplit_once(", after ").and_then(|(_, sent)| sent.strip_suffix(" bytes"));
    let sent: usize = sent.expect(&error).parse().unwrap();
    assert!((256 << 10..=SIZE).contains(&sent), "{error}");
}

#[test]
fn a_server_that_takes_or_says_nothing_is_given_up() {
    let Some(bench) = Bench::new() else { return };
    for (manner, says) in [
        (Manner::TakesOnly(100_000), "the server takes no byte for 0.5 s"),
        (Manner::Silent, "the server does not answer for 0.5 s"),
    ] {
        // More than what sockets hold.
        bench.backing.as_file().set_len(64 << 20).unwrap();
        let device = bench.device.to_str().unwrap();
        assert!(
            Command::new("losetup").args(["--set-capacity", device]).status().unwrap().success()
        );
        let (url, _got) = serve(manner);
        let error = bench.upload(&url, &json!({ "stall-timeout": "500ms" })).unwrap_err();
        assert_eq!(error.class(), Class::Transient, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = bench.upload(&format!("http://{gone}/"), &json!({})).unwrap_err().to_string();
    assert!(error.contains("refused") && !error.contains("after"), "{error}");
}

#[test]
fn a_disk_that_cannot_be_read_to_its_end_is_no_whole_file() {
    let Some(bench) = Bench::new() else { return };
    for compression in ["none", "gzip"] {
        let (url, got) = serve(OK);
        // The kernel still says six MiB.
        bench.backing.as_file().set_len(3 << 20).unwrap();
        let _ = Command::new("blockdev").arg("--flushbufs").arg(&bench.device).status();
        let error = bench.upload(&url, &json!({ "compression": compression })).unwrap_err();
        assert_eq!(error.class(), Class::Environment, "{error}");
        let error = error.to_string();
        assert!(
            error.contains(bench.device.to_str().unwrap()) && error.contains("reading"),
            "{error}"
        );
        assert!(!got.recv().unwrap().is_whole, "{compression}");
    }
}
