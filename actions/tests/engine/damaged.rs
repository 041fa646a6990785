//! Whole images arrive as they are; damaged ones never succeed, and never leave a disk bootable.

use super::support::*;
use gpt::disk::LogicalBlockSize;
use nibs_actions::image::{Error, Expected};
use nibs_actions::{Interrupted, Stop};
use nibs_job::Class;
use proptest::prelude::*;

/// Small enough to be cut at every byte, large enough for a GPT at both ends.
const SMALL: usize = 128 << 10;
const DISK: usize = 3 << 20;

#[test]
fn every_format_arrives_bit_by_bit_with_both_digests() {
    let image = image(5 << 20);
    for format in FORMATS {
        let served = encode(format, &image);
        let disk = MemoryDisk::with_old_system(image.len());
        let summary = install(served.clone(), &disk, sha256(&served), sha256(&image)).unwrap();
        assert!(disk.bytes() == image, "{format}");
        assert_eq!((summary.served, summary.image), (served.len() as u64, image.len() as u64));
        assert!(summary.zeroed > 2 << 20, "{summary:?}");
        assert!(!summary.backup_moved);
    }
}

#[test]
fn on_a_larger_disk_the_rest_is_untouched_and_the_backup_gpt_is_at_its_end() {
    let image = image(2 << 20);
    let disk = MemoryDisk::with_old_system(8 << 20);
    let before = disk.bytes();
    let summary = install(encode("lz4", &image), &disk, no_digest(), sha256(&image)).unwrap();
    assert!(summary.backup_moved);
    let after = disk.bytes();
    let backup = (2 << 20) - 33 * 512;
    assert!(after[34 * 512..backup] == image[34 * 512..backup]);
    assert!(after[backup..2 << 20].iter().all(|byte| *byte == 0), "the old place is empty");
    assert!(after[2 << 20..7 << 20] == before[2 << 20..7 << 20]);
    let table = gpt::GptConfig::new()
        .only_valid_headers(true)
        .open_from_device(std::io::Cursor::new(after))
        .unwrap();
    assert_eq!(table.partitions()[&1].name, "data");
    assert_eq!(table.primary_header().unwrap().backup_lba, (8 << 20) / 512 - 1);
}

#[test]
fn an_image_shorter_than_what_is_held_back_moves_its_backup_too() {
    let image = image(SMALL);
    for size in [SMALL + 512, SMALL + 40 * 512, DISK] {
        let disk = MemoryDisk::with_old_system(size);
        install(encode("gzip", &image), &disk, no_digest(), sha256(&image)).unwrap();
        let table = gpt::GptConfig::new()
            .only_valid_headers(true)
            .open_from_device(std::io::Cursor::new(disk.bytes()))
            .unwrap();
        assert_eq!(table.primary_header().unwrap().backup_lba, size as u64 / 512 - 1);
        let data = 34 * 512..SMALL - 33 * 512;
        assert!(disk.bytes()[data.clone()] == image[data]);
    }
}

#[test]
fn an_image_without_a_table_is_written_too() {
    let mut image = vec![3; (1 << 20) + 512];
    image[1 << 20..].fill(7);
    let disk = MemoryDisk::with_old_system(DISK);
    install(encode("zstd", &image), &disk, no_digest(), no_digest()).unwrap();
    assert!(disk.bytes().starts_with(&image));
    assert!(!disk.has_table());
}

#[test]
fn the_table_comes_last_after_a_flush() {
    let image = image(2 << 20);
    let disk = MemoryDisk::with_old_system(2 << 20);
    install(image, &disk, no_digest(), no_digest()).unwrap();
    let log = disk.log.lock().unwrap().clone();
    let (mib, end) = (1 << 20, 2 << 20);
    assert_eq!(log[0], Done::Zero(0, mib));
    let cleared = log.iter().position(|done| *done == Done::Flush).unwrap();
    assert!(log[..cleared].iter().all(|done| matches!(done, Done::Zero(..))), "{log:?}");
    let [.., flushed, entries, esp, backup, flushed_again, first, last, at_end] = &log[..] else {
        panic!("too little: {log:?}");
    };
    assert_eq!([flushed, flushed_again, at_end], [&Done::Flush; 3]);
    assert_eq!(entries, &Done::Write(1024, mib - 1024));
    assert!(matches!(esp, Done::Write(at, length) if *at >= mib && at + length < end), "{esp:?}");
    assert_eq!(backup, &Done::Write(end - 33 * 512, 32 * 512));
    assert_eq!([first, last], [&Done::Write(0, 1024), &Done::Write(end - 512, 512)]);
}

#[test]
fn an_image_cut_at_any_byte_never_succeeds() {
    let image = image(SMALL);
    for format in FORMATS {
        let served = encode(format, &image);
        let step = match format {
            "raw" => 509,
            // The same as plain lz4, in more and smaller blocks.
            "lz4 -B4 -BX" | "lz4 -B4 -BD" => 7,
            _ => 1,
        };
        // Making a disk takes longer than streaming to it.
        let disk = MemoryDisk::with_old_system(2 * SMALL);
        for cut in (0..served.len()).step_by(step) {
            disk.reset();
            let cut_image = served[..cut].to_vec();
            let result = install(cut_image, &disk, no_digest(), no_digest());
            assert!(result.is_err(), "{format} cut at {cut} of {}", served.len());
            // Before a GPT of an image is known to be sound, nothing is touched.
            assert!(disk.is_untouched() || !disk.has_table(), "{format} cut at {cut} is bootable");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn an_image_with_a_flipped_bit_never_boots_other_bytes(
        format in prop::sample::select(&FORMATS[..]),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let image = image(SMALL);
        let mut served = encode(format, &image);
        let right = sha256(&served);
        let at = at.index(served.len());
        served[at] ^= 1 << bit;

        let disk = MemoryDisk::with_old_system(DISK);
        prop_assert!(install(served.clone(), &disk, right, no_digest()).is_err());
        prop_assert!(disk.is_untouched() || !disk.has_table());

        // Without a digest the format's own checks have to do; raw has none outside its table.
        let disk = MemoryDisk::with_old_system(SMALL);
        let succeeded = install(served, &disk, no_digest(), no_digest()).is_ok();
        prop_assert!(!succeeded || format == "raw" || disk.bytes() == image, "{} at {}", format, at);
    }

    #[test]
    fn a_large_image_cut_anywhere_never_succeeds(
        format in prop::sample::select(&FORMATS[..]),
        at in any::<prop::sample::Index>(),
    ) {
        let image = image(2 << 20);
        let mut served = encode(format, &image);
        served.truncate(at.index(served.len()));
        let disk = MemoryDisk::with_old_system(DISK);
        prop_assert!(install(served, &disk, no_digest(), no_digest()).is_err());
        prop_assert!(disk.is_untouched() || !disk.has_table());
    }
}

fn failure(served: Vec<u8>, disk: &MemoryDisk, of_image: Expected) -> Error {
    install(served, disk, no_digest(), of_image).unwrap_err()
}

#[test]
fn a_wrong_digest_of_the_image_leaves_the_disk_without_a_table() {
    let disk = MemoryDisk::with_old_system(DISK);
    let error = failure(encode("gzip", &image(2 << 20)), &disk, sha256(b"something else"));
    assert!(matches!(error, Error::Digest { of: "image", .. }), "{error}");
    assert_eq!(error.class(), Class::InvalidInput);
    assert!(disk.is_untouched() || !disk.has_table());
}

#[test]
fn a_disk_that_is_too_small_is_not_touched_when_the_size_is_known() {
    let image = image(4 << 20);
    for format in FORMATS {
        let disk = MemoryDisk::with_old_system(DISK);
        let error = failure(encode(format, &image), &disk, no_digest());
        let Error::TooSmall { needed, size, at_least, .. } = error else { panic!("{error}") };
        assert_eq!((needed, size, at_least), (4 << 20, DISK as u64, false), "{format}");
        assert!(disk.is_untouched(), "{format}");
    }
}

#[test]
fn an_image_of_unknown_size_that_outgrows_the_disk_leaves_it_without_a_table() {
    let disk = MemoryDisk::with_old_system(6 << 20);
    let error = failure(encode("gzip", &vec![1; 9 << 20]), &disk, no_digest());
    assert!(matches!(error, Error::TooSmall { at_least: true, .. }), "{error}");
    assert!(!disk.has_table());
}

#[test]
fn an_image_for_other_sectors_is_refused_by_name() {
    let disk = MemoryDisk::with_old_system(4 << 20).with_sectors_of(4096);
    let error = failure(image(2 << 20), &disk, no_digest());
    assert!(matches!(error, Error::SectorSize { image: 512, found: 4096, .. }), "{error}");
    let disk = MemoryDisk::with_old_system(4 << 20);
    let error = failure(image_for(2 << 20, LogicalBlockSize::Lb4096), &disk, no_digest());
    assert!(matches!(error, Error::SectorSize { image: 4096, found: 512, .. }), "{error}");
    assert!(disk.is_untouched());
}

#[test]
fn a_disk_with_large_sectors_takes_an_image_made_for_it() {
    let image = image_for(2 << 20, LogicalBlockSize::Lb4096);
    let disk = MemoryDisk::with_old_system(4 << 20).with_sectors_of(4096);
    install(encode("xz", &image), &disk, no_digest(), sha256(&image)).unwrap();
    gpt::GptConfig::new()
        .only_valid_headers(true)
        .logical_block_size(LogicalBlockSize::Lb4096)
        .open_from_device(std::io::Cursor::new(disk.bytes()))
        .unwrap();
}

#[test]
fn a_disk_that_fails_is_named_with_the_place() {
    for fails_at in [0, (1 << 20) + 70_000, (2 << 20) - 512] {
        let disk = MemoryDisk::with_old_system(2 << 20).failing_at(fails_at);
        let mut image = image(2 << 20);
        image[1 << 20..(1 << 20) + 200_000].fill(9);
        let error = failure(encode("lz4", &image), &disk, no_digest());
        assert!(matches!(error, Error::Disk { .. }), "{error}");
        assert_eq!(error.class(), Class::Environment);
        let text = error.to_string();
        assert!(text.contains("/dev/memory at offset") && text.contains("os error 5"), "{text}");
    }
}

#[test]
fn a_cancelled_stream_says_so_and_does_not_boot() {
    let disk = MemoryDisk::with_old_system(DISK);
    let stop = Stop::default();
    stop.cancel.cancel();
    let source = Box::new(MemorySource::new(image(2 << 20)));
    let none = Expected::default();
    let error =
        nibs_actions::image::stream(source, &disk, &proof(none, none), &stop, &Ears::default())
            .unwrap_err();
    assert!(matches!(error, Error::Interrupted(Interrupted::Cancelled)), "{error}");
    assert!(disk.is_untouched());
}

#[test]
fn an_html_page_is_no_image() {
    let mut page = b"<!DOCTYPE html><title>404</title>".to_vec();
    page.resize(1024, b' ');
    let disk = MemoryDisk::with_old_system(DISK);
    let error = failure(page, &disk, no_digest());
    assert!(error.to_string().contains("the image is an HTML page"), "{error}");
    assert!(disk.is_untouched());
}
