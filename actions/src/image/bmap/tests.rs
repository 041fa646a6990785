//! Maps that are read, maps that are refused, and images that are held against them.
//!
//! A case is a map in `tests/bmaps/good` with what it says, or in `tests/bmaps/bad` with its error.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::super::Error;
use super::super::digest::Check as _;
use super::*;

fn cases(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bmaps").join(folder);
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut maps: Vec<_> = paths.filter(|path| path.extension().unwrap() == "bmap").collect();
    maps.sort();
    assert!(!maps.is_empty());
    maps.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn parse(bytes: &[u8]) -> std::result::Result<BlockMap, MapError> {
    match BlockMap::parse("test.bmap", bytes) {
        Ok(map) => Ok(map),
        Err(Error::Map { place, cause }) if place == "test.bmap" => Err(cause),
        Err(other) => panic!("{other}"),
    }
}

/// As `tests/bmaps/good` has it.
fn described(map: &BlockMap) -> String {
    let mut text = format!("{} bytes in blocks of {}\n", map.image_size, map.block_size);
    for Mapped { range, digest } in &map.mapped {
        write!(text, "{}..{}", range.start, range.end).unwrap();
        if let Some(digest) = digest {
            write!(text, " {} {}", map.algorithm.unwrap().name(), hex::encode(digest)).unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn good_maps_say_what_they_say() {
    for (path, bytes) in cases("good") {
        let map = parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let expected = fs::read_to_string(path.with_extension("txt")).unwrap();
        assert_eq!(described(&map), expected, "{}", path.display());
    }
}

#[test]
fn bad_maps_are_told_what_is_wrong() {
    for (path, bytes) in cases("bad") {
        let error = parse(&bytes).expect_err(&path.display().to_string()).to_string();
        let expected = fs::read_to_string(path.with_extension("txt")).unwrap();
        assert_eq!(error, expected.trim_end(), "{}", path.display());
    }
}

#[test]
fn more_than_a_map_can_have_is_none() {
    let error = parse(&vec![b' '; MAP_MAX + 1]).unwrap_err();
    assert!(matches!(error, MapError::Foreign { .. }), "{error}");
}

#[test]
fn a_map_with_a_flipped_bit_says_nothing_else() {
    for (path, bytes) in cases("good") {
        let map = parse(&bytes).unwrap();
        // Without a checksum of the map nothing could be proven.
        if path.file_name().unwrap().to_string_lossy().starts_with("v1.2") {
            continue;
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                if let Ok(other) = parse(&flipped) {
                    assert_eq!(other, map, "{} at {at}", path.display());
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_text_in_its_places_makes_the_parser_panic(
        version in prop::sample::select(vec!["1.2", "1.3", "1.4", "2.0", "9"]),
        numbers in prop::array::uniform4("[0-9]{1,21}|.{0,5}"),
        ranges in prop::collection::vec(("[0-9]{1,21}|.{0,5}", "[0-9]{1,21}|.{0,5}"), 0..4),
        tail in ".{0,20}",
    ) {
        let [size, block, count, mapped] = numbers;
        let mut text = format!(
            "<bmap version=\"{version}\"><ImageSize>{size}</ImageSize><BlockSize>{block}</BlockSize>\
             <BlocksCount>{count}</BlocksCount><MappedBlocksCount>{mapped}</MappedBlocksCount>\
             <BlockMap>"
        );
        for (first, last) in ranges {
            write!(text, "<Range>{first}-{last}</Range>").unwrap();
        }
        let _ = parse(format!("{text}</BlockMap></bmap>{tail}").as_bytes());
    }

    #[test]
    fn a_map_that_is_written_is_read(
        (block, steps) in (
            1..9_u64,
            prop::collection::vec((0..9_u64, 1..9_u64), 0..9),
        ),
        short in 0..9_u64,
    ) {
        let block = block * 512;
        let (mut ranges, mut next) = (Vec::new(), 0);
        for (gap, length) in steps {
            let start = next + gap;
            next = start + length;
            ranges.push(start..next);
        }
        let size = (next + 1) * block - short.min(block - 1);
        let text = written(size, block, &ranges, |_| String::new());
        let map = parse(text.as_bytes()).unwrap();
        let found: Vec<_> = map.mapped.iter().map(|mapped| mapped.range.clone()).collect();
        let bytes = ranges.iter().map(|range| range.start * block..range.end * block);
        prop_assert_eq!(found, bytes.collect::<Vec<_>>());
        prop_assert_eq!(map.image_size(), size);
        prop_assert_eq!(map.mapped_size(), ranges.iter().map(|r| (r.end - r.start) * block).sum::<u64>());
    }
}

/// A map of version 1.2, which needs no checksum of its own.
fn written(
    size: u64,
    block: u64,
    ranges: &[Range<u64>],
    attribute: impl Fn(&Range<u64>) -> String,
) -> String {
    let mut text = format!(
        "<bmap version=\"1.2\"><ImageSize>{size}</ImageSize><BlockSize>{block}</BlockSize>\
         <BlocksCount>{}</BlocksCount><MappedBlocksCount>{}</MappedBlocksCount><BlockMap>",
        size.div_ceil(block),
        ranges.iter().map(|range| range.end - range.start).sum::<u64>(),
    );
    for range in ranges {
        let (attribute, first, last) = (attribute(range), range.start, range.end - 1);
        write!(text, "<Range{attribute}>{first}-{last}</Range>").unwrap();
    }
    text + "</BlockMap></bmap>"
}

/// An image of 9 blocks and a half, with data where its map says so.
fn image_and_map() -> (Vec<u8>, BlockMap) {
    const BLOCK: usize = 512;
    let ranges = [0..2, 5..6, 8..10];
    let mut image = vec![0; 9 * BLOCK + 256];
    for range in &ranges {
        let end = (range.end as usize * BLOCK).min(image.len());
        image[range.start as usize * BLOCK..end].fill(7);
    }
    let digest = |range: &Range<u64>| {
        let end = (range.end as usize * BLOCK).min(image.len());
        let digest = Sha1::digest(&image[range.start as usize * BLOCK..end]);
        format!(" sha1=\"{}\"", hex::encode(digest))
    };
    let text = written(image.len() as u64, BLOCK as u64, &ranges, digest);
    let map = parse(text.as_bytes()).unwrap();
    (image, map)
}

/// Holds an image against a map, in parts of `step` bytes.
fn held_against(map: &BlockMap, image: &[u8], step: usize) -> std::result::Result<(), MapError> {
    let mut check = MapCheck::new(Arc::new(map.clone()));
    let passed = image.chunks(step).try_for_each(|part| check.update(part));
    match passed.and_then(|()| check.finish()) {
        Ok(()) => Ok(()),
        Err(Error::Map { cause, .. }) => Err(cause),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_image_is_held_against_its_map_in_whatever_parts() {
    let (image, map) = image_and_map();
    for step in 1..image.len() + 1 {
        held_against(&map, &image, step).unwrap();
    }
    let mut blocks_not_hashed = map.clone();
    blocks_not_hashed.mapped.iter_mut().for_each(|mapped| mapped.digest = None);
    let mut other = image.clone();
    other[5 * 512 + 9] = 1;
    held_against(&blocks_not_hashed, &other, 100).unwrap();
}

#[test]
fn every_byte_that_differs_is_found() {
    let (image, map) = image_and_map();
    for at in 0..image.len() {
        let mut other = image.clone();
        other[at] ^= 0x10;
        let error = held_against(&map, &other, 700).unwrap_err();
        let listed = map.mapped.iter().find(|mapped| mapped.range.contains(&(at as u64)));
        match (&error, listed) {
            (MapError::Digest { bytes, .. }, Some(mapped)) => assert_eq!(*bytes, mapped.range),
            (MapError::Unlisted { offset }, None) => assert_eq!(*offset, at as u64),
            _ => panic!("{at}: {error}"),
        }
    }
    let mut other = image.clone();
    other[8 * 512 + 1] = 1;
    let text = held_against(&map, &other, 4096).unwrap_err().to_string();
    assert!(text.contains("blocks 8 to 9 of the image (bytes 4096 to 4863)"), "{text}");
}

#[test]
fn an_image_of_another_length_is_refused() {
    let (image, map) = image_and_map();
    let cut = held_against(&map, &image[..image.len() - 1], 600).unwrap_err();
    assert_eq!(cut, MapError::Length { expected: 4864, found: 4863, at_least: false });
    let longer = [&image[..], &[0]].concat();
    let error = held_against(&map, &longer, 600).unwrap_err();
    assert_eq!(error, MapError::Length { expected: 4864, found: 4865, at_least: true });
}
