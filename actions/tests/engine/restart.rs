//! Transfers through the action: one that cannot go on where it broke starts over and says so, one
//! whose end tells that it does not fit is not begun.

use serde_json::json;

use super::loop_device::Loop;
use super::server::{Fault, Server, Tag};
use super::support::*;

const SIZE: usize = 8 << 20;

#[test]
fn a_changed_image_is_installed_from_its_first_byte() {
    let Some(disk) = Loop::attach(SIZE, &[]) else { return };
    let body = image(SIZE);
    let faults = vec![Fault::Cut(SIZE / 2), Fault::IgnoreRange, Fault::None];
    let server = Server::start(body.clone(), Tag::Strong, faults);
    let digest = sha256(&body).sha256.unwrap();
    let (result, ears) =
        disk.run(server.url.as_str(), &json!({ "sha256": digest, "bmap": "none" }));
    result.unwrap();
    assert!(disk.bytes() == body);
    let resets = ears.resets.lock().unwrap();
    assert_eq!(resets.len(), 1, "{resets:?}");
    assert!(resets[0].contains("ignores Range"), "{resets:?}");
    assert_eq!(server.requests()[2], None);
}

#[test]
fn a_server_that_never_gets_further_is_given_up() {
    let Some(disk) = Loop::attach(SIZE, &[]) else { return };
    let server = Server::start(image(SIZE), Tag::None, vec![Fault::Cut(SIZE / 2); 99]);
    let (result, ears) =
        disk.run(server.url.as_str(), &json!({ "stall-timeout": "1s", "bmap": "none" }));
    let error = result.unwrap_err();
    assert!(error.to_string().contains("cannot be resumed"), "{error}");
    let resets = ears.resets.lock().unwrap().len();
    assert!((1..=3).contains(&resets), "{resets} resets");
}

#[test]
fn an_xz_image_that_does_not_fit_is_found_by_its_index() {
    let Some(disk) = Loop::attach(SIZE, &[]) else { return };
    let before = disk.bytes();
    let server = Server::start(encode("xz", &image(2 * SIZE)), Tag::Strong, vec![]);
    let url = server.url.join("/image.xz").unwrap();
    let (result, _) = disk.run(url.as_str(), &json!({}));
    let error = result.unwrap_err().to_string();
    assert!(error.contains("needs at least 16777216 bytes"), "{error}");
    assert!(disk.bytes() == before);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn an_xz_image_from_a_server_without_ranges_is_installed_all_the_same() {
    let Some(disk) = Loop::attach(SIZE, &[]) else { return };
    let body = image(SIZE);
    let faults = vec![Fault::None, Fault::IgnoreRange];
    let server = Server::start(encode("xz", &body), Tag::Strong, faults);
    disk.run(server.url.join("/image.xz").unwrap().as_str(), &json!({})).0.unwrap();
    assert!(disk.bytes() == body);
}
