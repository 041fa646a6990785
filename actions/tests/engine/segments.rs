//! Several parts at once: in order and whole whatever happens to a part, and one stream where the
//! server cannot do it.

use std::sync::{Arc, LazyLock};

use nibs_actions::image::{Error, Fetch};

use super::server::{Fault, Server, Tag};
use super::support::*;

/// Five parts and a bit.
const SIZE: usize = (20 << 20) + 777;

/// Made once: a debug build takes its time for millions of bytes.
static BODY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..SIZE as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
});

fn body() -> Vec<u8> {
    BODY.clone()
}

fn fetch(server: &Server, connections: u8) -> Result<Vec<u8>, Error> {
    let (runtime, ears) = (runtime(), Arc::default());
    drain(Fetch { connections, ..plain(vec![server.url.clone()], &runtime, &ears) })
}

#[test]
fn parts_come_in_order_and_resume_by_themselves() {
    let faults = vec![
        Fault::None,
        Fault::Cut(1000),
        Fault::Status(503),
        Fault::Cut(3 << 20),
        Fault::None,
        Fault::Cut(0),
    ];
    for connections in [2, 4, 8] {
        let server = Server::start(body(), Tag::Strong, faults.clone());
        assert!(fetch(&server, connections).unwrap() == *BODY, "{connections} connections");
        let requests = server.requests();
        assert_eq!(requests[0].as_deref(), Some("bytes=0-4194303"));
        assert_eq!(requests.len(), 6 + 4, "{requests:?}");
    }
}

#[test]
fn an_image_of_less_than_a_part_is_one_request() {
    let server = Server::start(b"tiny".to_vec(), Tag::Strong, vec![]);
    assert_eq!(fetch(&server, 4).unwrap(), b"tiny");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_without_ranges_gives_one_stream() {
    let server = Server::start(body(), Tag::Strong, vec![Fault::IgnoreRange]);
    assert!(fetch(&server, 4).unwrap() == *BODY);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn parts_that_nothing_holds_together_are_one_stream() {
    for tag in [Tag::Weak, Tag::Date, Tag::None] {
        let server = Server::start(body(), tag, vec![]);
        assert!(fetch(&server, 4).unwrap() == *BODY);
        assert_eq!(server.requests()[1], None, "{tag:?}");
    }
}

#[test]
fn a_part_of_another_version_is_not_taken() {
    for fault in [Fault::OtherTag, Fault::IgnoreRange, Fault::OtherPlace(9)] {
        let server = Server::start(body(), Tag::Strong, vec![Fault::None, Fault::None, fault]);
        let error = fetch(&server, 4).unwrap_err();
        assert!(matches!(error, Error::NotResumable { .. }), "{fault:?}: {error}");
    }
}

#[test]
fn a_refusal_is_the_one_of_a_plain_request() {
    let server = Server::start(body(), Tag::Strong, vec![Fault::Status(404); 9]);
    let error = fetch(&server, 4).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
}
