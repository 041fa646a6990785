use serde_json::json;

use super::*;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn update(variant: &str, arch: &str, version: &str, max: &str) -> serde_json::Value {
    json!({
        "variant": variant, "arch": arch, "version": version, "max_version": max,
        "waves": { "0": "2026-01-01T00:00:00Z" },
        "images": { "boot": "b", "root": "r", "hash": "h" },
    })
}

/// In no order, as repositories have them.
fn manifest() -> Manifest {
    let updates = [
        update("metal-dev", "x86_64", "1.9.0", "1.20.0"),
        update("metal-dev", "x86_64", "1.20.0", "1.20.0"),
        update("metal-dev", "x86_64", "1.10.0", "1.20.0"),
        update("metal-dev", "x86_64", "1.21.0", "1.20.0"),
        update("metal-dev", "aarch64", "1.22.0", "1.22.0"),
        update("aws-dev", "x86_64", "1.23.0", "1.23.0"),
    ];
    let json = json!({ "updates": updates, "migrations": { "(1.9.0, 1.10.0)": ["m"] } });
    Manifest::parse(json.to_string().as_bytes()).unwrap()
}

const TARGETS: [&str; 5] = [
    "manifest.json",
    "bottlerocket-metal-dev-x86_64-v1.9.0.img.lz4",
    "bottlerocket-metal-dev-x86_64-v1.20.0.img.lz4",
    "bottlerocket-metal-dev-x86_64-v1.21.0.img.lz4",
    "bottlerocket-metal-dev-x86_64-1.20.0-abc-root.ext4.lz4",
];

fn wanted(variant: &str, found: Option<&str>) -> Wanted {
    Wanted { variant: variant.into(), arch: "x86_64".into(), version: found.map(version) }
}

#[test]
fn the_newest_is_by_number_and_not_withdrawn() {
    let choice = manifest().choose(&wanted("metal-dev", None), &TARGETS).unwrap();
    assert_eq!(choice.version, version("1.20.0"));
    assert_eq!(choice.target, TARGETS[2]);
    assert_eq!(choice.remarks, [""; 0]);
}

#[test]
fn a_newer_version_without_an_image_is_passed_over_and_said() {
    let choice = manifest().choose(&wanted("metal-dev", None), &TARGETS[..2]).unwrap();
    assert_eq!(choice.version, version("1.9.0"));
    assert_eq!(choice.remarks.len(), 2);
    assert!(choice.remarks[0].contains("version 1.20.0 is passed over"), "{:?}", choice.remarks);
}

#[test]
fn a_version_that_is_named_is_taken_and_if_withdrawn_that_is_said() {
    let choice = manifest().choose(&wanted("metal-dev", Some("1.9.0")), &TARGETS).unwrap();
    assert_eq!((choice.target.as_str(), choice.remarks.len()), (TARGETS[1], 0));
    let choice = manifest().choose(&wanted("metal-dev", Some("1.21.0")), &TARGETS).unwrap();
    assert_eq!(choice.target, TARGETS[3]);
    assert!(choice.remarks[0].contains("max_version is 1.20.0"), "{:?}", choice.remarks);
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let error = |wanted: &Wanted, targets: &[&str]| {
        manifest().choose(wanted, targets).unwrap_err().to_string()
    };
    let text = error(&wanted("metal-k8s-1.28", None), &TARGETS);
    let there = "aws-dev for x86_64, metal-dev for aarch64, metal-dev for x86_64";
    assert!(text.contains("metal-k8s-1.28 for x86_64") && text.ends_with(there), "{text}");

    let text = error(&wanted("metal-dev", Some("1.19.3")), &TARGETS);
    assert!(text.contains("no version 1.19.3"), "{text}");
    assert!(text.ends_with("1.9.0, 1.10.0, 1.20.0, 1.21.0"), "{text}");

    let text = error(&wanted("metal-dev", Some("1.10.0")), &TARGETS);
    let target = "bottlerocket-metal-dev-x86_64-v1.10.0.img.lz4";
    assert!(text.contains(target) && text.contains(TARGETS[2]), "{text}");
    assert!(!text.contains("root.ext4"), "{text}");

    let text = error(&wanted("metal-dev", None), &TARGETS[..1]);
    assert!(text.contains("v1.20.0.img.lz4") && text.contains("it has: none"), "{text}");
}

#[test]
fn of_many_versions_an_error_names_the_neighbours_and_the_newest() {
    let updates: Vec<_> =
        (0..20).map(|n| update("m", "x86_64", &format!("1.{n}.0"), "2.0.0")).collect();
    let manifest = Manifest::parse(json!({ "updates": updates }).to_string().as_bytes()).unwrap();
    let error = manifest.choose(&wanted("m", Some("1.3.1")), &[]).unwrap_err();
    let ChooseError::NoVersion { there, .. } = error else { panic!("{error}") };
    let expected = ["1.3.0", "1.4.0", "1.16.0", "1.17.0", "1.18.0", "1.19.0"];
    assert_eq!(there, expected.map(version));
}

#[test]
fn a_repository_that_withdrew_everything_gives_nothing_unless_it_is_named() {
    let updates = [update("m", "x86_64", "2.0.0", "1.0.0")];
    let manifest = Manifest::parse(json!({ "updates": updates }).to_string().as_bytes()).unwrap();
    let image = "bottlerocket-m-x86_64-v2.0.0.img.lz4";
    let error = manifest.choose(&wanted("m", None), &[image]).unwrap_err().to_string();
    assert!(error.contains("withdrawn: 2.0.0"), "{error}");
    assert_eq!(manifest.choose(&wanted("m", Some("2.0.0")), &[image]).unwrap().target, image);
}

#[test]
fn a_manifest_that_is_none_is_refused() {
    for text in ["", "{}", "[]", r#"{"updates": [{"variant": "v", "version": "1.2"}]}"#] {
        let error = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("reading the repository's manifest.json: "), "{error}");
    }
}
