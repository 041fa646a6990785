//! Upstream's own samples: the kernel's (GPL, so they lie beside the checkout, not in it), and
//! Bottlerocket's.

use std::fs;
use std::path::PathBuf;

use nibs_bottlerocket::bootconfig::{
    ParseErrorKind, compact, list, pack, parse, parse_bytes, render, unpack,
};

/// The samples, if they are there.
pub(crate) fn samples() -> Option<PathBuf> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance/bootconfig");
    if !path.is_dir() {
        eprintln!("skipped: no conformance samples at {}", path.display());
        return None;
    }
    Some(path)
}

/// The names without `.bconf`, and the bytes, of the samples that begin with `prefix`.
pub(crate) fn samples_of(prefix: &str) -> Vec<(String, Vec<u8>)> {
    let Some(folder) = samples() else { return Vec::new() };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut samples: Vec<_> = files
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_suffix(".bconf")?.to_owned();
            name.starts_with(prefix).then(|| (name, fs::read(&path).unwrap()))
        })
        .collect();
    samples.sort();
    assert!(!samples.is_empty(), "no sample begins with {prefix}");
    samples
}

#[test]
fn every_good_sample_is_taken_packed_and_printed_as_the_kernels_tool_prints_it() {
    let Some(folder) = samples() else { return };
    let samples = samples_of("good-");
    assert_eq!(samples.len(), 14);
    for (name, bytes) in samples {
        let text = std::str::from_utf8(&bytes).unwrap();
        let tree = parse(text).unwrap_or_else(|error| panic!("{name}: {error}")).tree;
        assert_eq!(unpack(&pack(text).unwrap()), Ok(text), "{name}");

        let file = format!("exp-{name}.bconf");
        let known = [folder.join(&file), folder.join("generated-exp").join(&file)];
        let expected = known.iter().find_map(|path| fs::read_to_string(path).ok());
        let expected = expected.unwrap_or_else(|| panic!("no {file}"));
        assert_eq!(compact(&tree), expected, "{name}");
        assert_eq!(parse(&compact(&tree)).unwrap().tree, tree, "{name}");
    }
}

#[test]
fn every_bad_sample_is_refused() {
    let samples = [samples_of("bad-"), samples_of("escaped")].concat();
    for (name, bytes) in &samples {
        assert!(parse_bytes(bytes).is_err(), "{name}");
    }
    assert!(samples.is_empty() || samples.len() == 18, "{}", samples.len());
}

#[test]
fn the_arrays_that_newer_kernels_refuse_are_refused_for_that() {
    for (name, bytes) in samples_of("bad-array-") {
        let expected = match name.as_str() {
            "bad-array-after-comment" | "bad-array-in-next-line" => {
                ParseErrorKind::ArrayOnLaterLine
            }
            _ => ParseErrorKind::Character { found: ',' },
        };
        let found = parse_bytes(&bytes).unwrap_err().kind;
        match found {
            ParseErrorKind::Character { .. } => assert!(name.ends_with("space-comment"), "{name}"),
            _ => assert_eq!(found, expected, "{name}"),
        }
    }
}

#[test]
fn what_was_refused_before_5_14_is_taken() {
    let Some(folder) = samples() else { return };
    for name in ["bad-override.bconf", "bad-override2.bconf"] {
        let bytes = fs::read(folder.join("pre-5.14").join(name)).unwrap();
        parse_bytes(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn bottlerockets_serialised_configuration_packs_to_its_initrd() {
    let Some(folder) = samples() else { return };
    let text = fs::read_to_string(folder.join("ser_good_bootconfig")).unwrap();
    let initrd = fs::read(folder.join("initrd_from_good_bootconfig")).unwrap();
    assert_eq!(pack(&text).unwrap(), initrd);
    assert_eq!(unpack(&initrd), Ok(text.as_str()));
    // And written from its tree it is the same, byte for byte.
    assert_eq!(render(&parse(&text).unwrap().tree).unwrap(), text);
}

#[test]
fn bottlerockets_console_configuration_repacks_to_itself_and_is_warned_about() {
    let Some(folder) = samples() else { return };
    let data = fs::read(folder.join("qemu-x86-console-bootconfig.data")).unwrap();
    let text = unpack(&data).unwrap();
    assert_eq!(pack(text).unwrap(), data);
    let parsed = parse(text).unwrap();
    assert_eq!(list(&parsed.tree).unwrap(), "kernel.console = \"ttyS0\", \"115200n8\"\n");
    assert!(parsed.warnings[0].message.contains("in quotes"), "{:?}", parsed.warnings);
}
