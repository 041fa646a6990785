//! `good/NAME.bconf` and `bad/NAME.bconf`, each with what is said of it in `NAME.txt`: a good one's
//! list, its command line after `loader`, and its warnings; a bad one's error.

use std::fs;
use std::path::{Path, PathBuf};

use nibs_bottlerocket::bootconfig::{cmdline, list, parse, parse_bytes, render};
use nibs_bottlerocket::diagnostic::Diagnostic;

/// What the loader gives to the kernel of every case.
const LOADER: &str = "root=/dev/dm-0 -- systemd.log_color=0";

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bootconfig").join(folder);
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "bconf")).collect();
    cases.sort();
    assert!(cases.len() > 15, "{cases:?}");
    cases
}

fn compare(folder: &str, said: impl Fn(&[u8]) -> String) {
    let mut wrong = Vec::new();
    for case in cases(folder) {
        let said = said(&fs::read(&case).unwrap());
        let expected = fs::read_to_string(case.with_extension("txt")).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{}: expected\n{expected}found\n{said}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn good_cases_say_what_is_expected() {
    compare("good", |bytes| {
        let parsed = parse_bytes(bytes).unwrap();
        let list = list(&parsed.tree).unwrap_or_else(|cut| format!("{}{cut}\n", cut.printed));
        let warnings = parsed.warnings.iter().map(|warning| format!("{warning}\n"));
        let warnings: String = warnings.collect();
        format!("{list}$ {}\n{warnings}", cmdline(&parsed.tree, LOADER))
    });
}

#[test]
fn good_cases_are_written_and_read_again() {
    for case in cases("good") {
        let tree = parse_bytes(&fs::read(&case).unwrap()).unwrap().tree;
        let text = render(&tree).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let again = parse(&text).unwrap();
        assert_eq!(again.tree, tree, "{}", case.display());
        assert_eq!(again.warnings, [], "{}", case.display());
    }
}

#[test]
fn bad_cases_are_refused_with_place_and_reason() {
    compare("bad", |bytes| match parse_bytes(bytes) {
        Ok(parsed) => format!("taken as {:?}\n", parsed.tree),
        Err(error) => format!("{}\n", Diagnostic::from(error)),
    });
}
