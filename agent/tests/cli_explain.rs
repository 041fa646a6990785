//! `--explain` as a person or a script uses it.

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// An image server that refuses at once, and a disk that is not there: both are told.
const NOWHERE: [&str; 4] =
    ["--with", "image.url=/nowhere/os.img", "--with", "disk.path=/dev/no-such-disk"];

fn nibs(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nibs"));
    command.args(arguments).env_remove("NIBS_LOG").env_remove("RUST_LOG").output().unwrap()
}

fn explain(arguments: &[&str]) -> Output {
    nibs(&[&["action", "stream-image", "--explain"], arguments].concat())
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn all_that_would_be_refused_is_told_at_once() {
    let output = explain(&NOWHERE);
    let page = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{page}");
    for part in ["no-such-disk", "opening /nowhere/os.img", "It would not start."] {
        assert!(page.contains(part), "{part:?} is not in\n{page}");
    }
    let output = explain(&[&NOWHERE[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["refusals"][0]["class"], "environment");
    assert_eq!(value["refusals"].as_array().unwrap().len(), 2, "{value}");
    assert_eq!(value["disk"], Value::Null);
}

#[test]
fn the_actions_of_a_job_are_explained_in_turn() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("job.toml");
    let job = "name = \"J\"\n[[actions]]\nuses = \"stream-image\"\n\
               with = { image.url = \"/nowhere/os.img\", disk.path = \"/dev/no-such-disk\" }\n\
               [[actions]]\nname = \"restart\"\nuses = \"reboot\"\n";
    std::fs::write(&path, job).unwrap();
    let path = path.to_str().unwrap();
    let output = nibs(&["run", "--explain", path]);
    let page = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{page}");
    assert!(page.contains("== stream-image\n") && page.contains("It would not start."), "{page}");
    assert!(page.contains("== restart\nIt cannot tell ahead what it does."), "{page}");
    let output = nibs(&["run", "--explain", path, "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value[1]["action"], "restart");
    assert_eq!(value[1]["explanation"], Value::Null);
    assert!(value[0]["explanation"]["refusals"][0]["message"].is_string(), "{value}");
}

#[test]
fn what_cannot_be_explained_or_meant_is_wrong_usage() {
    for arguments in [
        &["action", "reboot", "--explain"][..],
        &["action", "steam-image", "--explain"],
        &["action", "stream-image", "--explain", "--events", "-"],
        &["run", "--explain", "/no/such/file"],
    ] {
        let output = nibs(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}
