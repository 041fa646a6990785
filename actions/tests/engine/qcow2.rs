//! qcow2 images, made by qemu-img, from a file and over HTTP onto a loop device. Needs root and
//! qemu-img; skips without.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::loop_device::Loop;
use super::server::{Fault, Server, Tag};
use super::support::*;
use super::web::{Answer, Web};

/// A disk image as qcow2.
pub(crate) fn qcow2(image: &[u8], arguments: &[&str]) -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let (raw, made) = (directory.path().join("raw"), directory.path().join("qcow2"));
    std::fs::write(&raw, image).unwrap();
    let common = ["convert", "-f", "raw", "-O", "qcow2"];
    let output = Command::new("qemu-img").args(common).args(arguments).args([&raw, &made]).output();
    match output {
        Ok(output) if output.status.success() => Some(std::fs::read(made).unwrap()),
        other => {
            eprintln!("skipped: needs qemu-img: {other:?}");
            None
        }
    }
}

/// An image that hardly compresses, so that its parts are far from each other in a qcow2 of it too.
fn dense(size: usize) -> Vec<u8> {
    let mut image = image(size);
    let mut state = 7_u32;
    for byte in &mut image[1 << 20..size - (1 << 20)] {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8 & 0x7f;
    }
    image
}

/// Whether the disk has the image, but for where its tables and their backup are.
fn holds(device: &Loop, image: &[u8]) -> bool {
    let backup = image.len() - 33 * 512;
    device.bytes()[34 * 512..backup] == image[34 * 512..backup]
}

#[test]
fn the_disk_in_an_image_is_installed_from_a_file_and_over_a_line_that_breaks() {
    let Some(device) = Loop::attach(24 << 20, &["--partscan"]) else { return };
    let image = image(16 << 20);
    for arguments in [&[][..], &["-c"], &["-c", "-o", "compression_type=zstd,cluster_size=4k"]] {
        let Some(bytes) = qcow2(&image, arguments) else { return };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let of_disk = sha256(&image).sha256.unwrap().to_string();
        let of_file = sha256(&bytes).sha256.unwrap().to_string();
        let proofs = json!({ "uncompressed-sha256": of_disk, "sha256": of_file });
        let (done, ears) = device.run(file.path(), &proofs);
        assert_eq!(done.unwrap().degraded, [""; 0]);
        assert!(holds(&device, &image), "{arguments:?}");
        assert!(ears.warnings.lock().unwrap().is_empty(), "{ears:?}");

        let faults = vec![Fault::None, Fault::None, Fault::Cut(5000), Fault::Cut(9)];
        let server = Server::start(bytes, Tag::Strong, faults);
        let (done, ears) = device.run(server.url.as_str(), &json!({ "bmap": "none" }));
        done.unwrap();
        assert!(holds(&device, &image), "{arguments:?}");
        assert!(ears.warnings.lock().unwrap().iter().any(|said| said.contains("resuming")));
    }
}

#[test]
fn an_image_that_cannot_be_read_or_is_another_one_leaves_the_disk_alone() {
    let Some(device) = Loop::attach(24 << 20, &[]) else { return };
    let Some(bytes) = qcow2(&image(16 << 20), &[]) else { return };
    let before = device.bytes();
    let other = sha256(b"other").sha256.unwrap().to_string();
    let too_large = qcow2(&image(32 << 20), &["-c"]).unwrap();
    let compressed = encode("gzip", &bytes);
    let proven = json!({ "sha256": other, "bmap": "none" });
    let no_map = json!({ "bmap": "none" });
    let raw = json!({ "bmap": "none", "format": "raw" });
    for (served, tag, faults, more, says) in [
        (&bytes, Tag::Strong, vec![], &proven, "verifying the image: expected sha256"),
        (&bytes, Tag::None, vec![], &no_map, "by which two ranges belong together"),
        (&bytes, Tag::Strong, vec![Fault::IgnoreRange; 9], &no_map, "does not honour ranges"),
        (&too_large, Tag::Strong, vec![], &no_map, "the image needs"),
        (&compressed, Tag::Strong, vec![], &no_map, "without a compression around it"),
        (&bytes, Tag::Strong, vec![], &raw, "the image is qcow2"),
    ] {
        let server = Server::start(served.clone(), tag, faults);
        let (failed, _) = device.run(server.url.as_str(), more);
        let error = failed.unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
        assert!(device.bytes() == before, "{says}");
    }
}

#[test]
fn an_image_that_changes_while_it_is_read_starts_over_and_is_not_mixed() {
    let Some(device) = Loop::attach(24 << 20, &[]) else { return };
    let image = image(16 << 20);
    let Some(bytes) = qcow2(&image, &[]) else { return };
    // The answers after those are of another version, which then is read whole.
    let faults = [vec![Fault::None; 3], vec![Fault::OtherTag; 99]].concat();
    let server = Server::start(bytes, Tag::Strong, faults);
    let (done, ears) = device.run(server.url.as_str(), &json!({ "bmap": "none" }));
    done.unwrap();
    assert!(holds(&device, &image));
    let resets = ears.resets.lock().unwrap();
    assert!(resets.iter().any(|reset| reset.contains("cannot be resumed")), "{resets:?}");
}

#[test]
fn a_compressed_image_over_http_takes_a_few_requests_and_not_one_for_each_cluster() {
    let Some(device) = Loop::attach(24 << 20, &[]) else { return };
    let image = dense(16 << 20);
    for arguments in [&["-c"][..], &["-c", "-o", "cluster_size=4k"]] {
        let Some(bytes) = qcow2(&image, arguments) else { return };
        let of_disk = sha256(&image).sha256.unwrap().to_string();
        let server = Server::start(bytes, Tag::Strong, vec![]);
        let more = json!({ "bmap": "none", "uncompressed-sha256": of_disk });
        device.run(server.url.as_str(), &more).0.unwrap();
        assert!(holds(&device, &image), "{arguments:?}");
        let requests = server.requests();
        // One for each of its L2 tables at most, which are of 2 MiB here with the smaller clusters.
        assert!(requests.len() < 20, "{arguments:?}: {} {requests:?}", requests.len());
    }
}

#[test]
fn what_is_read_after_an_image_was_proven_has_to_be_what_was_proven() {
    let Some(device) = Loop::attach(24 << 20, &[]) else { return };
    let image = dense(16 << 20);
    let Some(bytes) = qcow2(&image, &[]) else { return };
    let of_file = sha256(&bytes).sha256.unwrap().to_string();
    let mut altered = bytes.clone();
    let at = altered.len() / 2;
    altered[at] ^= 1;
    for (lies, has_tag) in [(true, true), (true, false), (false, false)] {
        let (bytes, altered) = (bytes.clone(), altered.clone());
        let asked = AtomicUsize::new(0);
        // To tell what it is, whether there are ranges, and the whole of it to prove it.
        let web = Web::start(move |request| {
            let is_later = asked.fetch_add(1, Ordering::SeqCst) >= 3;
            let answer = Answer::part(request, if lies && is_later { &altered } else { &bytes });
            if has_tag { answer.with("ETag", "\"same\"") } else { answer }
        });
        let more = json!({ "bmap": "none", "sha256": of_file });
        let (done, _) = device.run(web.url("/os.qcow2").as_str(), &more);
        if lies {
            let error = done.unwrap_err().to_string();
            assert!(error.contains("expected sha256") && error.contains("once more"), "{error}");
            assert!(!has_sound_table(&device.bytes()));
        } else {
            done.unwrap();
            assert!(holds(&device, &image));
        }
    }
}

#[test]
fn a_tag_that_leads_elsewhere_meanwhile_brings_no_other_image() {
    let Some(device) = Loop::attach(24 << 20, &[]) else { return };
    let Some(asked_for) = qcow2(&image(16 << 20), &[]) else { return };
    let other = qcow2(&dense(16 << 20), &[]).unwrap();
    let digest = |bytes: &[u8]| sha256(bytes).sha256.unwrap().to_string();
    let of_job = digest(&asked_for);
    let before = device.bytes();
    let manifests = AtomicUsize::new(0);
    let web = Web::start(move |request| {
        let layers = [&asked_for, &other];
        if request.target.contains("/manifests/") {
            let layer = layers[manifests.fetch_add(1, Ordering::SeqCst).min(1)];
            let named =
                json!({ "digest": format!("sha256:{}", digest(layer)), "size": layer.len() });
            return Answer::ok(json!({ "schemaVersion": 2, "layers": [named] }).to_string());
        }
        let layer = layers.into_iter().find(|layer| request.target.ends_with(&digest(layer)));
        Answer::part(request, layer.unwrap()).with("ETag", "\"1\"")
    });
    let reference = format!("oci+http://{}/os/demo:1", web.address);
    let (done, _) = device.run(reference, &json!({ "sha256": of_job }));
    let error = done.unwrap_err().to_string();
    assert!(error.contains(&format!("expected a layer with sha256 {of_job}")), "{error}");
    assert!(device.bytes() == before);
}
