//! Each file of `tests/net_toml/VERSION/{good,bad,warned}`: whether it is taken, and every word
//! that is said of it, against the file beside it. A new case is two new files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nibs_bottlerocket::diagnostic::Severity;
use nibs_bottlerocket::net_toml::{Checked, MAX_FINDINGS, MAX_SIZE, check};
use semver::Version;

/// How long a hostile file of the largest size may take in a build without optimization.
const PATIENCE: Duration = Duration::from_secs(10);

fn cases(verdict: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/net_toml");
    let mut cases = Vec::new();
    for version in ["v1", "v2", "v3"] {
        for entry in fs::read_dir(root.join(version).join(verdict)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                cases.push(path);
            }
        }
    }
    assert!(cases.len() >= 3, "the {verdict} cases");
    cases
}

fn told(found: &Checked) -> String {
    found.diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

fn severity(found: &Checked) -> Option<Severity> {
    found.diagnostics.iter().map(|diagnostic| diagnostic.severity).max()
}

#[test]
fn of_good_files_nothing_is_said() {
    for path in cases("good") {
        let found = check(&fs::read(&path).unwrap(), None);
        assert_eq!(told(&found), "", "{}", path.display());
        let version = found.model.unwrap().version;
        let folder = path.ancestors().nth(2).unwrap();
        assert!(folder.ends_with(format!("v{version}")), "{}", path.display());
    }
}

#[test]
fn of_bad_and_warned_files_all_is_said() {
    for (verdict, worst) in [("bad", Severity::Error), ("warned", Severity::Warning)] {
        for path in cases(verdict) {
            let found = check(&fs::read(&path).unwrap(), None);
            let expected = fs::read_to_string(path.with_extension("expected")).unwrap();
            assert_eq!(told(&found), expected, "{}", path.display());
            assert_eq!(severity(&found), Some(worst), "{}", path.display());
            assert_eq!(found.is_valid(), worst == Severity::Warning, "{}", path.display());
        }
    }
}

#[test]
fn an_mtu_is_judged_by_the_release() {
    let text = b"version = 2\n[eno1]\ndhcp4 = true\nmtu = 9000\n";
    let of = |target: Option<&str>| {
        let target = target.map(|version| Version::parse(version).unwrap());
        severity(&check(text, target.as_ref()))
    };
    assert_eq!(of(Some("1.26.1")), Some(Severity::Error));
    assert_eq!(of(Some("1.64.0")), Some(Severity::Error));
    assert_eq!(of(Some("1.65.0")), Some(Severity::Warning));
    assert_eq!(of(None), Some(Severity::Warning));
}

#[test]
fn a_file_without_end_is_not_read() {
    let found = check(&vec![b'#'; 10_000_000], None);
    let expected = "error: the file is 10000000 bytes long; at most 262144 are read\n";
    assert_eq!(told(&found), expected);
}

/// Of each kind of repetition as much as is read: no stack overflows, no time is wasted.
#[test]
fn a_hostile_file_is_refused_soon() {
    let start = Instant::now();
    for (head, word) in [
        ("a = ", "["),
        ("a = ", "{a="),
        ("", "a."),
        ("", "[a]\n"),
        ("", "[[a]]\n"),
        ("", "x\n"),
        ("version = 3\n", "[[a.route]]\n"),
        ("a = [", "{},"),
        ("a = \"", "\\x41"),
    ] {
        let mut text = head.to_owned();
        text.push_str(&word.repeat((MAX_SIZE - head.len()) / word.len()));
        let found = check(text.as_bytes(), None);
        assert!(!found.is_valid(), "{word}");
        assert!(found.diagnostics.len() <= MAX_FINDINGS + 1, "{word}");
    }
    let mut devices = "version = 3\n".to_owned();
    for number in 0.. {
        let device = format!("[\"{number}\"]\nid=1\ndevice=\"a\"\n");
        if devices.len() + device.len() > MAX_SIZE {
            break;
        }
        devices.push_str(&device);
    }
    assert!(!check(devices.as_bytes(), None).is_valid());
    assert!(start.elapsed() < PATIENCE, "took {:?}", start.elapsed());
}
