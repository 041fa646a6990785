//! Images with block maps: what is nobody's stays as it was, and nothing else.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;

use nibs_actions::Stop;
use nibs_actions::image::{self, BlockMap, Error, MapError, Proof, Summary};
use nibs_job::Class;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::loop_device::Loop;
use super::qcow2::qcow2;
use super::support::*;

const MIB: u64 = 1 << 20;
const SIZE: usize = 24 << 20;
const BLOCK: usize = 4096;

/// What nobody cares for in an image of 24 MiB: its data end at 6 MiB, the first partition at 12
/// MiB, the EFI system partition at 18 MiB. The ends of those are wanted all the same.
fn idle() -> [Range<u64>; 3] {
    let image = image(SIZE);
    let esp =
        (0..SIZE).step_by(512).find(|at| image[*at..].starts_with(BOOT_SECTOR)).unwrap() as u64;
    let (data_ends, esp_ends) = ((6 * MIB + 20 * 1024), esp + (SIZE as u64 - 80 * 512) / 4);
    let esp_ends = esp_ends / 512 * 512;
    [data_ends..esp - MIB, esp + MIB..esp_ends - MIB, esp_ends..SIZE as u64 - MIB]
}

/// The map that lists every block with something in it.
fn map_text(image: &[u8]) -> String {
    let is_blank = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (index, _) in image.chunks(BLOCK).enumerate().filter(|(_, block)| !is_blank(block)) {
        match ranges.last_mut() {
            Some(last) if last.end == index => last.end += 1,
            _ => ranges.push(index..index + 1),
        }
    }
    map_of(image, &ranges)
}

/// A map of these blocks, with all checksums.
fn map_of(image: &[u8], ranges: &[Range<usize>]) -> String {
    let zeros = "0".repeat(64);
    let blocks: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    let mut text = format!(
        "<bmap version=\"2.0\"><ImageSize>{}</ImageSize><BlockSize>{BLOCK}</BlockSize>\
         <BlocksCount>{}</BlocksCount><MappedBlocksCount>{blocks}</MappedBlocksCount>\
         <ChecksumType>sha256</ChecksumType><BmapFileChecksum>{zeros}</BmapFileChecksum><BlockMap>",
        image.len(),
        image.len().div_ceil(BLOCK),
    );
    for Range { start, end } in ranges {
        let digest = hex(&image[start * BLOCK..(end * BLOCK).min(image.len())]);
        text += &format!("<Range chksum=\"{digest}\">{start}-{}</Range>", end - 1);
    }
    text += "</BlockMap></bmap>";
    let digest = hex(text.as_bytes());
    text.replacen(&zeros, &digest, 1)
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn proof_by(map: &str) -> Proof {
    let map = BlockMap::parse("http://h/os.img.bmap", map.as_bytes()).unwrap();
    Proof { map: Some(Arc::new(map)), read_back: true, ..Proof::default() }
}

fn stream(served: Vec<u8>, disk: &MemoryDisk, proof: &Proof) -> Result<Summary, Error> {
    let source = Box::new(MemorySource::new(served));
    image::stream(source, disk, proof, &Stop::default(), &Ears::default())
}

fn cause(result: Result<Summary, Error>) -> MapError {
    match result.unwrap_err() {
        Error::Map { cause, .. } => cause,
        other => panic!("{other}"),
    }
}

/// Whether a disk of the image's size has the image, and old data in what is idle.
fn assert_installed(disk: &[u8], image: &[u8], idle: &[Range<u64>]) {
    for (index, (found, expected)) in disk.chunks(512).zip(image.chunks(512)).enumerate() {
        let at = index as u64 * 512;
        if idle.iter().any(|range| range.contains(&at)) {
            assert!(found.iter().all(|byte| *byte == 0x55), "byte {at} was written");
        } else {
            assert!(found == expected, "byte {at} is not the image's");
        }
    }
}

#[test]
fn old_data_stay_where_nobody_cares_and_nowhere_else() {
    let (image, idle) = (image(SIZE), idle());
    let proof = proof_by(&map_text(&image));
    for format in FORMATS {
        let disk = MemoryDisk::with_old_system(SIZE);
        let summary = stream(encode(format, &image), &disk, &proof).unwrap();
        assert_installed(&disk.bytes(), &image, &idle);
        let skipped: u64 = idle.iter().map(|range| range.end - range.start).sum();
        assert_eq!((summary.skipped, summary.image), (skipped, SIZE as u64), "{format}");
        let touched = disk.log.lock().unwrap();
        let places = touched.iter().filter_map(|done| match done {
            Done::Write(at, length) | Done::Zero(at, length) => Some(*at..at + length),
            Done::Flush => None,
        });
        for place in places {
            let is_apart = |idle: &&Range<u64>| idle.end <= place.start || place.end <= idle.start;
            assert_eq!(idle.iter().find(|idle| !is_apart(idle)), None, "{format}: {place:?}");
        }
    }
}

#[test]
fn a_larger_disk_gets_its_backup_table_all_the_same() {
    let image = image(SIZE);
    let disk = MemoryDisk::with_old_system(SIZE + (8 << 20));
    let summary = stream(encode("zstd", &image), &disk, &proof_by(&map_text(&image))).unwrap();
    assert!(summary.backup_moved && summary.skipped > 0);
    let table = gpt::GptConfig::new()
        .only_valid_headers(true)
        .open_from_device(std::io::Cursor::new(disk.bytes()))
        .unwrap();
    assert_eq!(table.partitions().len(), 2);
}

#[test]
fn what_has_to_be_written_once_more_is_held_against_the_same_map() {
    let image = image(SIZE);
    let all = proof_by(&map_text(&image));
    let disk = MemoryDisk::with_old_system(SIZE);
    stream(encode("lz4", &image), &disk, &all).unwrap();
    let rest = Proof { only: Some(std::iter::once(4 * MIB..8 * MIB).collect()), ..all };
    stream(encode("lz4", &image), &disk, &rest).unwrap();
    assert_installed(&disk.bytes(), &image, &idle());
}

#[test]
fn a_range_that_is_not_the_maps_is_named_and_nothing_boots() {
    let image = image(SIZE);
    let proof = proof_by(&map_text(&image));
    let mut damaged = image.clone();
    damaged[5 << 20] ^= 1;
    let disk = MemoryDisk::with_old_system(SIZE);
    let error = stream(encode("lz4", &damaged), &disk, &proof).unwrap_err();
    assert_eq!(error.class(), Class::InvalidInput);
    let text = error.to_string();
    assert!(
        text.starts_with("using the block map http://h/os.img.bmap: expected sha256 "),
        "{text}"
    );
    assert!(text.contains("of blocks 5 to 1540 of the image (bytes 20480 to 6311935)"), "{text}");
    assert!(text.contains("image.bmap = \"none\""), "{text}");
    assert!(disk.is_untouched() || !disk.has_table());
}

#[test]
fn a_map_that_does_not_know_of_all_data_loses_none() {
    let mut image = image(SIZE);
    let proof = proof_by(&map_text(&image));
    let at = (9 << 20) + 123;
    image[at] = 1;
    for format in ["raw", "lz4", "xz"] {
        let disk = MemoryDisk::with_old_system(SIZE);
        let found = cause(stream(encode(format, &image), &disk, &proof));
        assert_eq!(found, MapError::Unlisted { offset: at as u64 }, "{format}");
        assert!(disk.is_untouched() || !disk.has_table());
    }
}

#[test]
fn the_map_has_the_images_length() {
    let image = image(SIZE);
    for length in [SIZE - (1 << 20), SIZE - BLOCK, SIZE + BLOCK] {
        let mut other = image.clone();
        other.resize(length, 0);
        let disk = MemoryDisk::with_old_system(SIZE + (1 << 20));
        let found = cause(stream(encode("zstd", &image), &disk, &proof_by(&map_text(&other))));
        let MapError::Length { expected, found, .. } = found else { panic!("{found}") };
        assert_eq!((expected, found), (length as u64, SIZE as u64));
        // The image's own table says at once that it is longer. That it is shorter is known at its
        // end, before or after the first write.
        assert!(disk.is_untouched() || (length > SIZE && !disk.has_table()));
    }
}

#[test]
fn a_disk_that_is_too_small_by_the_map_is_refused_untouched() {
    // Neither its start nor its compression tells how long it is.
    let image = vec![7; SIZE];
    let disk = MemoryDisk::with_old_system(SIZE - BLOCK);
    let error = stream(encode("gzip", &image), &disk, &proof_by(&map_text(&image))).unwrap_err();
    let needed_in_all = |error: &Error| match error {
        Error::TooSmall { needed, at_least: false, .. } => Some(*needed),
        _ => None,
    };
    assert_eq!(needed_in_all(&error), Some(SIZE as u64), "{error}");
    assert!(disk.is_untouched());
}

#[test]
fn an_image_without_partitions_keeps_its_ends() {
    // A filesystem on the whole disk, say.
    let mut image = vec![0; SIZE];
    image[..64].fill(9);
    let disk = MemoryDisk::with_old_system(SIZE);
    stream(encode("lz4", &image), &disk, &proof_by(&map_text(&image))).unwrap();
    let middle = MIB..SIZE as u64 - MIB;
    assert_installed(&disk.bytes(), &image, &[middle]);
}

#[test]
fn a_disk_is_installed_by_a_map_that_bmaptool_made() {
    let Some(device) = Loop::attach(SIZE, &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("os.img");
    let image = image(SIZE);
    // Holes are where nothing is written.
    let file = File::create(&raw).unwrap();
    file.set_len(SIZE as u64).unwrap();
    for (index, block) in image.chunks(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, (index * BLOCK) as u64).unwrap();
        }
    }
    drop(file);
    let map = folder.path().join("os.img.bmap");
    let made = Command::new("bmaptool").arg("create").arg("-o").arg(&map).arg(&raw).output();
    if !matches!(&made, Ok(made) if made.status.success()) {
        eprintln!("skipped: no bmaptool here that makes maps: {made:?}");
        return;
    }
    let served = folder.path().join("os.img.zst");
    std::fs::write(&served, encode("zstd", &image)).unwrap();
    let digest = sha256(&image).sha256.unwrap().to_string();

    let (done, ears) = device.run(&served, &json!({ "uncompressed-sha256": digest }));
    done.unwrap();
    assert_installed(&device.bytes(), &image, &idle());
    let log = ears.log.lock().unwrap().join("\n");
    assert!(log.contains(&format!("using the block map {}", map.display())), "{log}");
    assert!(log.contains("left alone as its block map says"), "{log}");

    // Without it, all is written; with another image's, nothing boots.
    let (done, _) = device.run(&served, &json!({ "bmap": "none" }));
    done.unwrap();
    assert!(device.bytes() == image);
    let other = folder.path().join("other.img.bmap");
    std::fs::write(&other, map_text(&vec![1; SIZE])).unwrap();
    let (done, _) = device.run(&served, &json!({ "bmap": other }));
    let text = done.unwrap_err().to_string();
    assert!(text.contains(&other.display().to_string()) && text.contains("another one"), "{text}");
    assert!(!MemoryDisk::holding(device.bytes()).has_table());
}

#[test]
fn a_map_of_the_disk_in_a_qcow2_image_is_used_where_the_job_names_it_and_not_found_beside_it() {
    let Some(device) = Loop::attach(SIZE, &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = image(SIZE);
    let Some(bytes) = qcow2(&image, &["-c"]) else { return };
    let (served, map) = (folder.path().join("os.qcow2"), folder.path().join("disk.bmap"));
    std::fs::write(&served, bytes).unwrap();
    std::fs::write(&map, map_text(&image)).unwrap();
    let (done, _) = device.run(&served, &json!({ "bmap": map }));
    done.unwrap();
    assert_installed(&device.bytes(), &image, &idle());

    let beside = folder.path().join("os.qcow2.bmap");
    std::fs::rename(&map, &beside).unwrap();
    let (done, ears) = device.run(&served, &json!({}));
    done.unwrap();
    assert!(device.bytes() == image);
    let log = ears.log.lock().unwrap().join("\n");
    assert!(log.contains(&format!("passing over the block map {}", beside.display())), "{log}");

    // What it is held against is the disk.
    std::fs::write(&map, map_text(&vec![1; SIZE])).unwrap();
    let text = device.run(&served, &json!({ "bmap": map })).0.unwrap_err().to_string();
    assert!(text.contains(&map.display().to_string()) && text.contains("another one"), "{text}");
}
