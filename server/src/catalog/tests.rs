use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::Labels;

fn write(directory: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn catalog(files: &[(&str, &str)]) -> Catalog {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), files);
    Catalog::read(directory.path())
}

const JOB: &str = "name = \"demo\"\nactions = [{ uses = \"reboot\" }]\n";

fn job(id: &str) -> String {
    format!("id = \"{id}\"\n{JOB}")
}

fn machine() -> Labels {
    Labels {
        machine: Some("52:54:00:12:34:56".parse().unwrap()),
        macs: ["52:54:00:12:34:56", "52:54:00:12:34:57"].map(|m| m.parse().unwrap()).into(),
        uuid: Some("4c4c4544-0051-3410-8051-b5c04f4e3332".into()),
        serial: Some("ABC123".into()),
        product: Some("R640".into()),
        vendor: Some("Dell Inc.".into()),
        architecture: Some("x86_64".into()),
    }
}

/// Which job the machine gets of matches given as selector and job.
fn chosen(matches: &[(&str, &str)]) -> Result<Option<String>, MatchError> {
    let mut files: Vec<(String, String)> =
        ["a", "b"].map(|id| (format!("jobs/{id}.toml"), job(id))).into();
    for (index, (selector, job)) in matches.iter().enumerate() {
        let text = format!("job = \"{job}\"\nselector = {selector}\n");
        files.push((format!("matches/{index}.toml"), text));
    }
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let catalog = catalog(&files);
    assert_eq!(catalog.faults(), &[], "{matches:?}");
    Ok(catalog.job_for(&machine())?.map(|job| job.id.clone()))
}

/// Matches as selector and job, and the job that the machine gets.
type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);

#[test]
fn the_most_specific_match_wins() {
    let table: &[Case<'_>] = &[
        (&[], None),
        (&[("{}", "a")], Some("a")),
        (&[("{ mac = \"52-54-00-12-34-57\" }", "a")], Some("a")),
        (&[("{ mac = \"5254.0012.3456\" }", "a")], Some("a")),
        (&[("{ mac = \"52:54:00:12:34:58\" }", "a")], None),
        (&[("{ machine = \"52-54-00-12-34-56\" }", "a")], Some("a")),
        (&[("{ machine = \"52-54-00-12-34-57\" }", "a")], None),
        (&[("{ uuid = \"4C4C4544-0051-3410-8051-B5C04F4E3332\" }", "a")], Some("a")),
        (&[("{ serial = \"ABC123\", product = \"R640\" }", "a")], Some("a")),
        (&[("{ serial = \"ABC123\", product = \"R650\" }", "a")], None),
        (&[("{ serial = \"abc123\" }", "a")], None),
        (&[("{}", "a"), ("{ product = \"R640\" }", "b")], Some("b")),
        (
            &[
                ("{ product = \"R640\", vendor = \"Dell Inc.\" }", "a"),
                ("{ product = \"R640\" }", "b"),
            ],
            Some("a"),
        ),
        // A machine's own label counts more than any number of its series' labels.
        (
            &[
                ("{ mac = \"525400123456\" }", "a"),
                ("{ product = \"R640\", vendor = \"Dell Inc.\", architecture = \"x86_64\" }", "b"),
            ],
            Some("a"),
        ),
        // Two that say the same are no riddle.
        (&[("{ serial = \"ABC123\" }", "a"), ("{ mac = \"525400123456\" }", "a")], Some("a")),
        // A tie below the best is none.
        (&[("{}", "a"), ("{}", "b"), ("{ serial = \"ABC123\" }", "b")], Some("b")),
    ];
    for (matches, expected) in table {
        assert_eq!(chosen(matches).unwrap().as_deref(), *expected, "{matches:?}");
    }
}

#[test]
fn a_tie_names_both_and_gives_neither() {
    let error = chosen(&[("{ serial = \"ABC123\" }", "a"), ("{ mac = \"525400123456\" }", "b")]);
    let text = error.unwrap_err().to_string();
    assert!(text.contains("matches/0.toml (job a), matches/1.toml (job b)"), "{text}");
}

#[test]
fn a_match_says_what_it_selects_and_nothing_unknown() {
    for (text, word) in [
        ("job = \"a\"\n", "selector"),
        ("selector = {}\n", "job"),
        ("job = \"a\"\nselector = { macc = \"525400123456\" }\n", "did you mean `mac`?"),
        ("job = \"a\"\nselector = { mac = \"zz\" }\n", "selector.mac"),
        ("job = \"a\"\nselector = { serial = \"\" }\n", "selector.serial"),
        ("job = \"a\"\nselectors = {}\nselector = {}\n", "selectors"),
    ] {
        let catalog = catalog(&[("matches/m.toml", text)]);
        assert_eq!(catalog.faults().len(), 1, "{text}");
        assert_eq!(catalog.faults()[0].file, "matches/m.toml");
        assert!(catalog.faults()[0].error.contains(word), "{text}: {}", catalog.faults()[0].error);
    }
}

#[test]
fn a_broken_job_is_named_and_the_others_stay() {
    let good = job("good");
    let catalog = catalog(&[
        ("jobs/bad.toml", "name = \"bad\"\nactoins = []\n"),
        ("jobs/good.toml", &good),
        ("matches/1.toml", "job = \"good\"\nselector = {}\n"),
    ]);
    assert_eq!(catalog.faults().len(), 1);
    assert_eq!(catalog.faults()[0].file, "jobs/bad.toml");
    assert!(catalog.faults()[0].error.contains("did you mean `actions`?"));
    assert_eq!(catalog.job_for(&machine()).unwrap().unwrap().id, "good");
}

#[test]
fn a_match_that_cannot_be_read_stops_all_matching() {
    let good = job("wipe");
    let catalog = catalog(&[
        ("jobs/wipe.toml", &good),
        ("matches/all.toml", "job = \"wipe\"\nselector = {}\n"),
        ("matches/keep.toml", "job = \"keep\"\nselector = {"),
    ]);
    let error = catalog.job_for(&machine()).unwrap_err();
    assert_eq!(error, MatchError::Unreadable { files: vec!["matches/keep.toml".into()] });
}

#[test]
fn a_job_that_is_not_there_is_never_replaced_by_another_match() {
    let good = job("wipe");
    let catalog = catalog(&[
        ("jobs/wipe.toml", &good),
        ("jobs/keep.toml", "name = "),
        ("matches/all.toml", "job = \"wipe\"\nselector = {}\n"),
        ("matches/keep.toml", "job = \"keep\"\nselector = { serial = \"ABC123\" }\n"),
    ]);
    let text = catalog.job_for(&machine()).unwrap_err().to_string();
    assert!(text.contains("matches/keep.toml names job keep"), "{text}");
    assert!(text.contains("jobs/keep.toml"), "{text}");
}

#[test]
fn one_id_in_two_files_is_neither() {
    let (one, other) = (job("x"), job("x"));
    let catalog = catalog(&[("jobs/a.toml", &one), ("jobs/b.toml", &other)]);
    assert!(catalog.job("x").is_none());
    assert_eq!(catalog.faults().len(), 2);
    assert!(catalog.faults()[0].error.contains("jobs/a.toml, jobs/b.toml"));
}

#[test]
fn a_check_finds_what_reading_cannot() {
    let good = job("a");
    let catalog = catalog(&[
        ("jobs/a.toml", &good),
        ("matches/1.toml", "job = \"a\"\nselector = { serial = \"S\" }\n"),
        ("matches/2.toml", "job = \"b\"\nselector = { serial = \"S\" }\n"),
    ]);
    assert_eq!(catalog.faults(), &[]);
    let faults = catalog.check();
    assert_eq!(faults.len(), 2);
    assert!(faults[0].error.contains("names job b, which no file"));
    assert!(faults[1].error.contains("the same machines as matches/1.toml"));
}

/// A job that writes a `net.toml` onto a Bottlerocket machine.
fn job_with_net(id: &str, net: &str) -> serde_json::Value {
    json!({ "id": id, "name": id, "actions": [{ "uses": "write-files", "with": {
        "partition": { "name": "BOTTLEROCKET-PRIVATE" },
        "files": [{ "path": "/net.toml", "content": net }],
    } }] })
}

const BAD_NET: &str = "version = 1\n[eno1]\ndhcp4 = 3\ndhcp6 = 4\n";
const ODD_NET: &str = "version = 1\n";

#[test]
fn a_job_with_files_that_the_machine_would_not_take_is_no_job() {
    let catalog = catalog(&[
        ("jobs/bad.json", &job_with_net("bad", BAD_NET).to_string()),
        ("jobs/odd.json", &job_with_net("odd", ODD_NET).to_string()),
        ("matches/1.toml", "job = \"bad\"\nselector = {}\n"),
    ]);
    let jobs: Vec<_> = catalog.jobs().map(|job| job.value.id.as_str()).collect();
    assert_eq!(jobs, ["odd"]);
    let faults: Vec<_> = catalog.faults().iter().map(|it| (&it.file[..], &it.error[..])).collect();
    assert!(
        matches!(faults[..], [("jobs/bad.json", one), ("jobs/bad.json", other)]
            if one.starts_with("net.toml:3:9: error: eno1.dhcp4: ")
                && other.starts_with("net.toml:4:9: error: eno1.dhcp6: ")),
        "{faults:?}"
    );
    let warnings = catalog.warnings();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].file, "jobs/odd.json");
    assert!(warnings[0].warning.contains("no devices"), "{warnings:?}");
    let error = catalog.job_for(&machine()).unwrap_err();
    assert!(matches!(&error, MatchError::NoSuchJob { faults, .. } if *faults == ["jobs/bad.json"]));
}

#[test]
fn such_a_job_is_not_stored_either() {
    let directory = tempfile::tempdir().unwrap();
    let live = Live::open(directory.path()).unwrap();
    let error = live.put_job("x", job_with_net("x", BAD_NET)).unwrap_err();
    assert_eq!(error.class(), Class::InvalidInput);
    let text = error.to_string();
    assert!(text.contains("storing jobs/x.json: net.toml:3:9: error: eno1.dhcp4"), "{text}");
    let PutError::Refused { findings, .. } = error else { panic!("{error}") };
    assert_eq!(findings.len(), 2);
    assert!(!directory.path().join("jobs/x.json").exists());
    let stored = live.put_job("x", job_with_net("x", ODD_NET)).unwrap();
    assert_eq!(stored.findings.len(), 1);
    assert_eq!(live.current().warnings().len(), 1);
}

#[test]
fn edited_files_are_seen_and_unchanged_ones_wake_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let live = Live::open(directory.path()).unwrap();
    let mut changes = live.subscribe();
    changes.mark_unchanged();
    live.look();
    assert!(!changes.has_changed().unwrap());
    write(directory.path(), &[("jobs/a.toml", &job("a"))]);
    live.look();
    assert!(changes.has_changed().unwrap());
    assert!(live.current().job("a").is_some());
    fs::remove_file(directory.path().join("jobs/a.toml")).unwrap();
    live.look();
    assert!(live.current().job("a").is_none());
}

#[test]
fn what_is_put_is_there_at_once_and_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let live = Live::open(directory.path()).unwrap();
    let value = json!({ "name": "demo", "actions": [{ "uses": "reboot" }] });
    live.put_job("x", value.clone()).unwrap();
    assert!(live.current().job("x").is_some());
    let file = directory.path().join("jobs/x.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    live.put_match("m", &json!({ "job": "x", "selector": {} })).unwrap();
    assert_eq!(live.current().job_for(&machine()).unwrap().unwrap().id, "x");
    // Again is an update.
    live.put_job("x", value).unwrap();
    assert_eq!(live.current().check(), []);
}

#[test]
fn nothing_is_put_outside_its_folder_or_over_another() {
    let directory = tempfile::tempdir().unwrap();
    write(
        directory.path(),
        &[
            ("jobs/hand.toml", &job("x")),
            ("jobs/y.json", "{\"id\":\"z\",\"name\":\"z\",\"actions\":[{\"uses\":\"reboot\"}]}"),
        ],
    );
    let live = Live::open(directory.path()).unwrap();
    let job = json!({ "name": "demo", "actions": [{ "uses": "reboot" }] });
    let rule = json!({ "job": "x", "selector": {} });
    for name in ["../up", "a/b", "", ".hidden", "a\0b", "é", &"a".repeat(200)] {
        assert!(
            matches!(live.put_job(name, job.clone()), Err(PutError::Invalid { .. })),
            "{name:?}"
        );
        assert!(matches!(live.put_match(name, &rule), Err(PutError::Invalid { .. })), "{name:?}");
    }
    for id in ["x", "y"] {
        let error = live.put_job(id, job.clone()).unwrap_err();
        assert!(matches!(error, PutError::Conflict { .. }), "{id}: {error}");
    }
    let error = live.put_job("w", json!({ "id": "v", "name": "v", "actions": [] })).unwrap_err();
    assert!(error.to_string().contains("actions"), "{error}");
    let error = live.put_match("m", &json!({ "name": "n", "job": "x", "selector": {} }));
    assert!(error.unwrap_err().to_string().contains("as in the URL"));
}
