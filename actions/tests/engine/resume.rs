//! HTTP transfers that break: resumed with proof, or given up with the reason.

use std::time::{Duration, Instant};

use nibs_actions::Stop;
use nibs_actions::image::{self, Error, Expected, Fetch, Summary};
use nibs_job::Class;

use super::server::{Fault, Server, Tag};
use super::support::*;

const SIZE: usize = 2 << 20;

/// Long enough for a few attempts, short enough for a test.
const STALL: Duration = Duration::from_millis(1500);

struct Outcome {
    result: Result<Summary, Error>,
    disk: MemoryDisk,
    requests: Vec<Option<String>>,
    warnings: Vec<String>,
}

impl Outcome {
    fn error(self) -> Error {
        assert!(self.disk.is_untouched() || !self.disk.has_table(), "it is bootable");
        self.result.unwrap_err()
    }
}

fn fetch(body: &[u8], tag: Tag, faults: Vec<Fault>, stop: &Stop, digest: Expected) -> Outcome {
    let server = Server::start(body.to_vec(), tag, faults);
    let runtime = runtime();
    let ears = std::sync::Arc::new(Ears::default());
    let disk = MemoryDisk::with_old_system(SIZE);
    let fetch = Fetch {
        stop: stop.clone(),
        stall_timeout: STALL,
        proven_by_digest: !digest.is_empty(),
        ..plain(vec![server.url.clone()], &runtime, &ears)
    };
    let result = fetch
        .open()
        .and_then(|source| image::stream(source, &disk, &proof(digest, no_digest()), stop, &*ears));
    let warnings = ears.warnings.lock().unwrap().clone();
    Outcome { result, disk, requests: server.requests(), warnings }
}

/// An image that does not compress: a transfer with a middle.
fn body() -> Vec<u8> {
    let mut body = image(SIZE);
    let mut state = 1_u32;
    for byte in &mut body[1 << 19..(SIZE - (1 << 16))] {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    body
}

fn install_with(tag: Tag, faults: Vec<Fault>) -> Outcome {
    fetch(&body(), tag, faults, &Stop::default(), no_digest())
}

#[test]
fn every_format_survives_cuts() {
    let body = body();
    for format in FORMATS {
        let served = encode(format, &body);
        let faults = vec![Fault::Cut(1000), Fault::Cut(served.len() / 2), Fault::Cut(0)];
        let outcome = fetch(&served, Tag::Strong, faults, &Stop::default(), sha256(&served));
        outcome.result.unwrap();
        assert!(outcome.disk.bytes() == body, "{format}");
        let third = 1000 + served.len() / 2;
        let expected = [None, Some(1000), Some(third), Some(third)]
            .map(|start| start.map(|start| format!("bytes={start}-")));
        assert_eq!(outcome.requests, expected, "{format}");
        assert!(outcome.warnings[0].contains("broke at offset 1000"), "{:?}", outcome.warnings);
    }
}

#[test]
fn a_stalled_transfer_is_taken_up_again() {
    // The quiet timeout is the stall timeout if that is short: the server ends it first.
    let faults = vec![Fault::Stall(70_000, Duration::from_millis(300))];
    let outcome = install_with(Tag::Date, faults);
    outcome.result.unwrap();
    assert_eq!(outcome.requests[1].as_deref(), Some("bytes=70000-"));
}

#[test]
fn server_errors_pass() {
    let faults = vec![Fault::Status(500), Fault::Status(429), Fault::Cut(9), Fault::Status(503)];
    let outcome = install_with(Tag::Strong, faults);
    outcome.result.unwrap();
    assert_eq!(outcome.requests.len(), 5);
    assert!(outcome.warnings[0].contains("500"), "{:?}", outcome.warnings);
}

#[test]
fn a_server_that_says_no_is_believed_at_once() {
    for status in [401, 403, 404, 410] {
        let outcome = install_with(Tag::Strong, vec![Fault::Status(status)]);
        assert_eq!(outcome.requests.len(), 1);
        let error = outcome.error();
        assert_eq!(error.class(), Class::InvalidInput);
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
}

#[test]
fn a_redirect_loop_ends() {
    let error = install_with(Tag::Strong, vec![Fault::Redirect; 50]).error();
    assert!(matches!(error, Error::Request { .. }), "{error}");
    assert!(error.to_string().contains("redirect"), "{error}");
}

#[test]
fn it_gives_up_when_no_byte_comes_for_too_long() {
    let begun = Instant::now();
    let mut faults = vec![Fault::Cut(5000)];
    faults.resize(100, Fault::Status(503));
    let error = install_with(Tag::Strong, faults).error();
    assert!(matches!(error, Error::Stalled { offset: 5000, .. }), "{error}");
    assert_eq!(error.class(), Class::Transient);
    assert!(error.to_string().contains("503"), "{error}");
    assert!(begun.elapsed() >= STALL && begun.elapsed() < 3 * STALL);
}

#[test]
fn nobody_there_is_a_transient_failure() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let runtime = runtime();
    let url = format!("http://127.0.0.1:{port}/image?token=s3cret").parse().unwrap();
    let fetch = Fetch {
        stall_timeout: Duration::from_millis(200),
        ..plain(vec![url], &runtime, &std::sync::Arc::default())
    };
    let Err(error) = fetch.open() else { panic!("somebody answered") };
    assert_eq!(error.class(), Class::Transient);
    let text = error.to_string();
    assert!(text.contains("refused") && !text.contains("s3cret"), "{text}");
}

/// A transfer that breaks once, and how its second half is answered wrongly.
fn not_resumable(tag: Tag, second: Fault) -> String {
    let error = install_with(tag, vec![Fault::Cut(400_000), second]).error();
    assert!(matches!(error, Error::NotResumable { offset: 400_000, .. }), "{error}");
    assert_eq!(error.class(), Class::Transient);
    error.to_string()
}

#[test]
fn what_is_not_proven_to_go_on_is_not_taken() {
    assert!(not_resumable(Tag::Strong, Fault::IgnoreRange).contains("200 OK"));
    assert!(not_resumable(Tag::Strong, Fault::OtherTag).contains("etag"));
    assert!(not_resumable(Tag::Date, Fault::OtherTag).contains("last-modified"));
    assert!(
        not_resumable(Tag::Strong, Fault::OtherPlace(399_999)).contains("asked for byte 400000")
    );
    for wrong in
        ["bytes 0-9/10", "bytes 400000-2097151/9999999", "bytes 400000-400001/2097152", "x"]
    {
        let text = not_resumable(Tag::Strong, Fault::WrongRange(wrong));
        assert!(text.contains("Content-Range"), "{text}");
    }
    assert!(not_resumable(Tag::Strong, Fault::Status(416)).contains("416"));
}

#[test]
fn without_a_validator_only_a_digest_lets_it_resume() {
    for tag in [Tag::None, Tag::Weak] {
        let faults = || vec![Fault::Cut(400_000)];
        let error = install_with(tag, faults()).error();
        assert!(error.to_string().contains("neither a strong ETag"), "{error}");
        let body = body();
        let outcome = fetch(&body, tag, faults(), &Stop::default(), sha256(&body));
        outcome.result.unwrap();
        assert!(outcome.disk.bytes() == body);
    }
}

#[test]
fn a_deadline_ends_a_wait_for_the_server() {
    let begun = Instant::now();
    let stop = Stop { deadline: Some(begun + Duration::from_millis(200)), ..Stop::default() };
    let faults = vec![Fault::Stall(1000, Duration::from_secs(20))];
    let error = fetch(&body(), Tag::Strong, faults, &stop, no_digest()).error();
    assert!(matches!(error, Error::Interrupted(nibs_actions::Interrupted::TimedOut)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_disk_that_fails_ends_the_wait_for_a_slow_server() {
    let begun = Instant::now();
    let served = body();
    let server =
        Server::start(served, Tag::Strong, vec![Fault::Stall(SIZE - 1, Duration::from_secs(20))]);
    let (runtime, stop) = (runtime(), Stop::default());
    let fetch = Fetch {
        stop: stop.clone(),
        stall_timeout: Duration::from_secs(60),
        ..plain(vec![server.url.clone()], &runtime, &std::sync::Arc::default())
    };
    // Too small for the image as the server announces it: found before anything is written.
    let disk = MemoryDisk::with_old_system(SIZE / 2);
    let source = fetch.open().unwrap();
    let error =
        image::stream(source, &disk, &proof(no_digest(), no_digest()), &stop, &Ears::default())
            .unwrap_err();
    assert!(matches!(error, Error::TooSmall { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2));
}
