//! Job files as people write them: what a good one decodes to, and what a bad one is told.
//!
//! A case is a file in `jobs/good` with its JSON, or in `jobs/bad` with its error text.

use std::fs;
use std::path::{Path, PathBuf};

use nibs_job::{FileFormat, Job};

fn cases(folder: &str, expectation: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jobs").join(folder);
    let mut cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().unwrap() != expectation)
        .map(|path| {
            let expected = fs::read_to_string(path.with_extension(expectation)).unwrap();
            (path, expected)
        })
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn parse(path: &Path) -> Result<Job, String> {
    let text = fs::read_to_string(path).unwrap();
    Job::parse(&text, FileFormat::of(path)).map_err(|e| e.to_string())
}

#[test]
fn good_jobs_decode_to_their_json_and_back() {
    for (path, expected) in cases("good", "json") {
        let job = parse(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
        assert_eq!(serde_json::to_value(&job).unwrap(), expected, "{}", path.display());
        let again: Job = serde_json::from_value(expected).unwrap();
        assert_eq!(again, job, "{}", path.display());
    }
}

#[test]
fn bad_jobs_are_told_where_and_what_and_the_nearest_right_word() {
    for (path, expected) in cases("bad", "txt") {
        let error = parse(&path).expect_err(&path.display().to_string());
        assert_eq!(error, expected.trim_end(), "{}", path.display());
    }
}

#[test]
fn a_syntax_error_names_its_line() {
    let error = Job::parse("name = \"n\"\nactions = [", FileFormat::Toml).unwrap_err().to_string();
    assert!(error.contains("Toml") && error.contains("line 2"), "{error}");
    let error = Job::parse("{\"name\": }", FileFormat::Json).unwrap_err().to_string();
    assert!(error.contains("line 1 column 10"), "{error}");
}

#[test]
fn a_syntax_error_quotes_no_line_which_may_hold_a_secret() {
    for (format, text) in [
        (FileFormat::Toml, "name = \"n\"\ncontent = \"hunter2\" oops\n"),
        (FileFormat::Yaml, "name: n\ncontent: \"hunter2\" oops: [\n"),
        (FileFormat::Json, "{\"name\": \"n\",\n\"content\": \"hunter2\" oops}"),
    ] {
        let error = Job::parse(text, format).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_job_never_shows_the_contents_of_its_files() {
    let text = "name = \"n\"\n[[actions]]\nuses = \"write-files\"\nwith.partition.number = 1\n\
                with.files = [{ path = \"/a\", content = \"hunter2\" }]\n";
    let job = Job::parse(text, FileFormat::Toml).unwrap();
    let shown = format!("{job:?}");
    assert!(shown.contains("[7 bytes]") && !shown.contains("hunter2"), "{shown}");
}
