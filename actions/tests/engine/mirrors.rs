//! Mirrors: one goes on where another broke, if it is proven to have the same image.

use std::sync::Arc;

use nibs_actions::image::{Error, Fetch};
use nibs_job::Class;

use super::server::{Fault, Server, Tag};
use super::support::*;

const CUT: usize = 30_000;

fn body() -> Vec<u8> {
    (0..100_000_u32).map(|i| (i ^ (i >> 7)) as u8).collect()
}

struct Outcome {
    result: Result<Vec<u8>, Error>,
    warnings: Vec<String>,
}

fn fetch(servers: &[&Server], proven_by_digest: bool) -> Outcome {
    let (runtime, ears) = (runtime(), Arc::new(Ears::default()));
    let urls = servers.iter().map(|server| server.url.clone()).collect();
    let result = drain(Fetch { proven_by_digest, ..plain(urls, &runtime, &ears) });
    let warnings = ears.warnings.lock().unwrap().clone();
    Outcome { result, warnings }
}

#[test]
fn the_first_that_gives_the_image_is_taken() {
    let absent = Server::start(body(), Tag::Strong, vec![Fault::Status(404); 9]);
    let ailing = Server::start(body(), Tag::Strong, vec![Fault::Status(503); 9]);
    let sound = Server::start(body(), Tag::Strong, vec![]);
    let spare = Server::start(body(), Tag::Strong, vec![]);
    let outcome = fetch(&[&absent, &ailing, &sound, &spare], false);
    assert!(outcome.result.unwrap() == body());
    assert!(spare.requests().is_empty());
    assert!(outcome.warnings[0].contains("404"), "{:?}", outcome.warnings);
    assert!(outcome.warnings[1].contains("503"), "{:?}", outcome.warnings);
}

#[test]
fn another_goes_on_where_one_died() {
    let mut faults = vec![Fault::Cut(CUT)];
    faults.resize(99, Fault::Status(500));
    let dying = Server::start(body(), Tag::Strong, faults);
    let sound = Server::start(body(), Tag::Strong, vec![Fault::Cut(CUT)]);
    let outcome = fetch(&[&dying, &sound], false);
    assert!(outcome.result.unwrap() == body());
    // The last good one is asked first: the dead one not again.
    let ranges = [CUT, 2 * CUT].map(|start| Some(format!("bytes={start}-")));
    assert_eq!(sound.requests(), ranges);
    assert_eq!(dying.requests().len(), 2);
}

#[test]
fn one_with_another_version_goes_on_only_if_a_digest_proves_the_whole() {
    let mut faults = vec![Fault::Cut(CUT)];
    faults.resize(99, Fault::Status(500));
    let pair = || {
        let dying = Server::start(body(), Tag::Strong, faults.clone());
        (dying, Server::start(body(), Tag::Strong, vec![Fault::OtherTag; 9]))
    };
    let (dying, other) = pair();
    assert!(fetch(&[&dying, &other], true).result.unwrap() == body());
    let (dying, other) = pair();
    let outcome = fetch(&[&dying, &other], false);
    // The one that is left keeps failing, until no byte came for too long.
    let error = outcome.result.unwrap_err();
    assert!(matches!(error, Error::Stalled { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("500") && text.contains("another one"), "{text}");
    assert!(text.contains(other.url.as_str()), "{text}");
}

#[test]
fn one_with_another_length_never_goes_on() {
    let longer: Vec<u8> = body().into_iter().chain([0; 512]).collect();
    let dying = Server::start(body(), Tag::Strong, vec![Fault::Cut(CUT), Fault::IgnoreRange]);
    let other = Server::start(longer, Tag::Strong, vec![]);
    let error = fetch(&[&dying, &other], true).result.unwrap_err();
    assert!(matches!(error, Error::NotResumable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("ignores Range") && text.contains("100512"), "{text}");
}

#[test]
fn when_none_gives_the_image_each_is_quoted() {
    let one = Server::start(body(), Tag::Strong, vec![Fault::Status(404); 9]);
    let two = Server::start(body(), Tag::Strong, vec![Fault::Status(403); 9]);
    let error = fetch(&[&one, &two], false).result.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("404") && text.contains("403") && text.contains("no mirror"), "{text}");
    assert_eq!(error.class(), Class::InvalidInput);
}
