//! `nibs check`, `nibs action` and `nibs run` as a person or a script uses them.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nibs_job::{Class, Event, EventKind, Outcome, Task};
use tempfile::TempDir;

fn nibs(arguments: &[&str]) -> Output {
    nibs_with(arguments, "")
}

fn nibs_with(arguments: &[&str], stdin: &str) -> Output {
    started_as("nibs", arguments, stdin)
}

fn started_as(name: &str, arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_nibs"))
        .arg0(name)
        .args(arguments)
        .env_remove("NIBS_LOG")
        .env_remove("RUST_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn events(output: &Output) -> Vec<Event> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn file(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const GOOD: &str = r#"
name = "Good job"
[[actions]]
name = "write the image"
uses = "stream-image"
timeout = "20m"
retries = 1
with.image = { url = "http://127.0.0.1:9/os.img" }
with.disk = { path = "/dev/no-such-disk" }
"#;

#[test]
fn a_good_job_is_valid_in_each_notation() {
    let directory = TempDir::new().unwrap();
    let yaml = "name: Good job\nactions:\n  - uses: power-off\n";
    let json = r#"{"name": "Good job", "actions": [{"uses": "reboot"}]}"#;
    for (name, body) in [("a.toml", GOOD), ("a.yaml", yaml), ("a.json", json)] {
        let output = nibs(&["check", "job", text(&file(&directory, name, body))]);
        assert_eq!(code(&output), 0, "{name}: {}", stderr(&output));
        assert!(stdout(&output).contains("job good-job is valid"), "{}", stdout(&output));
    }
    for body in [GOOD, json] {
        assert_eq!(code(&nibs_with(&["check", "job", "-"], body)), 0);
    }
}

#[test]
fn a_bad_job_is_refused_with_the_place_and_the_nearest_word() {
    let cases = [
        ("uses = \"stream-image\"", "uses = \"steam-image\"", "actions[0]", "`stream-image`"),
        ("timeout =", "timeuot =", "actions[0]", "`timeout`"),
        ("with.disk = { path", "with.disk = { pth", "actions[0].with.disk", "`path`"),
        ("\"20m\"", "\"20 parsecs\"", "actions[0].timeout", "\"20m\""),
        ("name = \"Good job\"", "", "name", "missing"),
        ("[[actions]]", "[[actions", "not valid Toml", "line 3"),
    ];
    let directory = TempDir::new().unwrap();
    for (good, bad, place, word) in cases {
        let path = file(&directory, "bad.toml", &GOOD.replacen(good, bad, 1));
        let output = nibs(&["check", "job", text(&path)]);
        let said = stderr(&output);
        assert_eq!(code(&output), 1, "{bad}: {said}");
        assert!(said.contains(place) && said.contains(word), "{bad}: {said}");
        assert!(said.starts_with(text(&path)), "the file is named: {said}");
    }
}

const NET: &str = "version = 2\n\n[eno1]\ndhcp4 = true\n";
const USER_DATA: &str = "[settings]\nmotd = \"hello\"\n";
const BOOTCONFIG: &str = "kernel.console = \"ttyS0,115200n8\"\n";

#[test]
fn a_good_file_is_valid_from_a_path_and_from_stdin() {
    let directory = TempDir::new().unwrap();
    for (kind, text_of) in [("net-toml", NET), ("user-data", USER_DATA), ("bootconfig", BOOTCONFIG)]
    {
        let path = file(&directory, kind, text_of);
        let output = nibs(&["check", kind, text(&path)]);
        assert_eq!((code(&output), stdout(&output)), (0, format!("{}: valid\n", path.display())));
        let output = nibs_with(&["check", kind, "-"], text_of);
        assert_eq!((code(&output), stdout(&output)), (0, "<stdin>: valid\n".into()), "{kind}");
        let output = nibs_with(&["check", kind, "-", "--json"], text_of);
        assert_eq!((code(&output), stdout(&output)), (0, "[]\n".into()), "{kind}");
    }
}

#[test]
fn a_bad_file_is_told_with_its_place_as_compilers_do() {
    let directory = TempDir::new().unwrap();
    for (kind, bad, said) in [
        ("net-toml", "version = 1\n[eno1]\ndhpc4 = true\n", "3:1: error: eno1.dhpc4: is no key"),
        ("user-data", "[settings]\nmtod = 1\n", "2:1: error: settings.mtod: unknown key"),
        ("user-data", "W3NldHRpbmdzXQo=", " error: reading user data: it is base64"),
        ("bootconfig", "kernel {\n a = \"\n", "2:6: error: kernel.a: this \" is never closed"),
    ] {
        let path = file(&directory, kind, bad);
        let output = nibs(&["check", kind, text(&path)]);
        assert_eq!((code(&output), stdout(&output)), (1, String::new()), "{bad}");
        let expected = format!("{}:{said}", path.display());
        assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    }
    let output = nibs_with(&["check", "bootconfig", "-"], "");
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).starts_with("<stdin>:"), "{}", stderr(&output));
}

#[test]
fn a_warning_is_an_error_to_a_strict_check_only() {
    let odd = "version = 1\n";
    let lax = nibs_with(&["check", "net-toml", "-"], odd);
    assert_eq!((code(&lax), stdout(&lax)), (0, "<stdin>: valid\n".into()));
    assert!(stderr(&lax).starts_with("<stdin>:1:11: warning: version: "), "{}", stderr(&lax));
    let strict = nibs_with(&["check", "net-toml", "-", "--strict"], odd);
    assert_eq!(code(&strict), 1);
    assert!(stderr(&strict).starts_with("<stdin>:1:11: error: version: "), "{}", stderr(&strict));
}

#[test]
fn findings_are_json_if_asked_for() {
    let bad = "version = 1\n[eno1]\ndhpc4 = true\n";
    let output = nibs_with(&["check", "net-toml", "-", "--json"], bad);
    assert_eq!((code(&output), stderr(&output)), (1, String::new()));
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &findings[0];
    assert_eq!(first["severity"], "error");
    assert_eq!((&first["line"], &first["column"]), (&3.into(), &1.into()));
    assert_eq!(first["key"], "eno1.dhpc4");
    let output = nibs_with(&["check", "job", "-", "--json"], "name = 1\n");
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &findings[0]["severity"]), (1, &"error".into()));
}

#[test]
fn a_file_is_checked_for_the_system_that_will_read_it() {
    let check = |arguments: &[&str], text: &str| {
        let output = nibs_with(&[&["check"], arguments].concat(), text);
        (code(&output), stderr(&output))
    };
    let mtu = format!("{NET}mtu = 1500\n");
    let (exit, said) = check(&["net-toml", "-", "--release", "1.28.0"], &mtu);
    assert!(exit == 1 && said.contains("mtu"), "{said}");
    let ecs = "[settings.ecs]\ncluster = \"c\"\n";
    let (exit, said) = check(&["user-data", "-", "--variant", "metal-k8s-1.28"], ecs);
    assert!(exit == 1 && said.contains("metal-k8s"), "{said}");
    assert_eq!(check(&["user-data", "-", "--variant", "aws-ecs-2"], ecs), (0, String::new()));
    let (exit, said) = check(&["user-data", "-", "--variant", "our-own"], USER_DATA);
    assert!(exit == 0 && said.contains("no variant of Bottlerocket's own"), "{said}");
    let dra = "[settings.bootstrap-commands.a]\ncommands = []\nmode = \"once\"\n";
    let (exit, said) = check(&["user-data", "-", "--release", "1.19.0"], dra);
    assert!(exit == 1 && said.contains("1.20.0 or later"), "{said}");
}

#[test]
fn a_job_is_checked_with_the_files_in_it() {
    let job = |net: &str| {
        format!("name = \"b\"\n[[actions]]\nuses = \"bottlerocket\"\nwith.net.content = {net:?}\n")
    };
    let bad = nibs_with(&["check", "job", "-"], &job("version = 1\n[eno1]\ndhcp4 = 3\n"));
    assert_eq!(code(&bad), 1);
    let said = stderr(&bad);
    assert!(said.starts_with("<stdin>: net.toml:3:9: error: eno1.dhcp4: "), "{said}");
    let odd = job("version = 1\n");
    let lax = nibs_with(&["check", "job", "-"], &odd);
    assert_eq!((code(&lax), stdout(&lax)), (0, "<stdin>: job b is valid\n".into()));
    assert!(stderr(&lax).contains("net.toml:1:11: warning: "), "{}", stderr(&lax));
    assert_eq!(code(&nibs_with(&["check", "job", "-", "--strict"], &odd)), 1);
    let json = nibs_with(&["check", "job", "-", "--json"], &odd);
    let findings: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&findings[0]["file"], code(&json)), (&"net.toml".into(), 0));
}

#[test]
fn a_boot_configuration_is_packed_shown_and_stripped() {
    let directory = TempDir::new().unwrap();
    let (source, packed) = (file(&directory, "text", BOOTCONFIG), directory.path().join("packed"));
    assert_eq!(code(&nibs(&["bootconfig", "pack", text(&source), text(&packed)])), 0);
    let shown = nibs(&["bootconfig", "show", text(&packed)]);
    assert_eq!((code(&shown), stdout(&shown)), (0, BOOTCONFIG.into()));
    assert_eq!(code(&nibs(&["check", "bootconfig", text(&packed)])), 0);

    let listed = started_as("/usr/sbin/bootconfig", &["-l", text(&packed)], "");
    assert_eq!((code(&listed), stdout(&listed)), (0, BOOTCONFIG.into()));
    assert_eq!(code(&nibs(&["bootconfig", "strip", text(&packed)])), 0);
    assert_eq!(std::fs::read(&packed).unwrap(), b"");
}

#[test]
fn what_cannot_be_read_or_meant_is_wrong_usage() {
    for arguments in [
        &["check", "job", "/no/such/file"][..],
        &["check", "net-toml", "/no/such/file"],
        &["check", "user-data", "/"],
        &["check", "bootconfig"],
        &["check", "net-toml", "-", "--release", "new"],
        &["check", "bootconfig", "-", "--release", "1.28.0"],
        &["bootconfig", "pack", "only-one"],
        &["run", "/no/such/file"],
        &["check", "job"],
        &["chekc"],
        &["run", "--nonsense"],
        &["action"],
        &["action", "stream-image", "--with", "noequals"],
        &["action", "reboot", "--timeout", "soon"],
        &["agent", "--control", "10.0.0.1:8080", "--id", "x"],
        &["agent", "--control", "http://127.0.0.1:9", "--id", "x", "--ca", "/no/such/ca.pem"],
        &[],
    ] {
        let output = nibs(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    let output = nibs(&["check", "job", "/no/such/file"]);
    assert!(stderr(&output).contains("reading the job file /no/such/file"), "{}", stderr(&output));
}

#[test]
fn actions_are_listed_and_the_nearest_is_offered() {
    let help = stdout(&nibs(&["action", "--help"]));
    assert!(Task::NAMES.iter().all(|name| help.contains(name)), "{help}");
    let output = nibs(&["action", "steam-image"]);
    assert_eq!(code(&output), 2);
    let said = stderr(&output);
    assert!(said.contains("did you mean `stream-image`?"), "{said}");
    assert!(Task::NAMES.iter().all(|name| said.contains(name)), "{said}");
    let output = nibs(&["action", "stream-image", "--with", "disk.pth=/dev/vda"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("did you mean `path`?"), "{}", stderr(&output));
}

#[test]
fn a_job_that_is_not_valid_ends_before_it_begins() {
    let directory = TempDir::new().unwrap();
    let body = format!("id = \"j-7\"\n{}", GOOD.replace("stream-image", "steam-image"));
    let path = file(&directory, "bad.toml", &body);
    let output = nibs(&["run", text(&path), "--events", "-"]);
    assert_eq!(code(&output), 1);
    let events = events(&output);
    let [Event { job, sequence: 1, kind: EventKind::JobFinished { outcome, .. }, .. }] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(job, "j-7");
    let Outcome::Failed { class: Class::InvalidInput, message } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(message.contains("did you mean `stream-image`?"), "{message}");
}

#[test]
fn a_failed_job_tells_its_events_on_stdout_and_its_story_on_stderr() {
    let directory = TempDir::new().unwrap();
    let path = file(&directory, "job.toml", GOOD);
    let output = nibs(&["run", text(&path), "--events", "-"]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let events = events(&output);
    assert!(matches!(events[0].kind, EventKind::JobStarted { actions: 1, .. }), "{events:?}");
    assert!(events.iter().all(|event| event.job == "good-job"));
    let Some(EventKind::JobFinished { outcome, .. }) = events.last().map(|event| &event.kind)
    else {
        panic!("{events:?}")
    };
    let Outcome::Failed { class: Class::Environment, message } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(message.contains("write the image") && message.contains("no-such-disk"), "{message}");
    let story = stderr(&output);
    assert!(story.contains("[1/1] write the image: started (stream-image)"), "{story}");
    assert!(story.contains("job good-job: failed (environment)"), "{story}");
}

#[test]
fn events_go_to_a_file_or_alone_to_stdout() {
    let directory = TempDir::new().unwrap();
    let job = file(&directory, "job.toml", GOOD);
    let log = directory.path().join("events.jsonl");
    let output = nibs(&["run", text(&job), "--events", text(&log), "--json"]);
    assert_eq!(code(&output), 1);
    assert_eq!(stdout(&output), std::fs::read_to_string(&log).unwrap());
    assert!(events(&output).len() >= 4);
    assert!(!stderr(&output).contains("[1/1]"), "no story for people: {}", stderr(&output));
}

#[test]
fn the_inventory_is_a_table_or_json() {
    let table = nibs(&["inventory"]);
    assert_eq!(code(&table), 0);
    assert!(stdout(&table).starts_with("architecture "), "{}", stdout(&table));
    let json = nibs(&["inventory", "--json"]);
    let facts: nibs_job::Facts = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(facts.architecture, std::env::consts::ARCH);
    assert!(facts.memory > 0 && facts.processors > 0);
}

#[test]
fn the_version_is_told() {
    let output = nibs(&["--version"]);
    assert_eq!(
        (code(&output), stdout(&output)),
        (0, format!("nibs {}\n", env!("CARGO_PKG_VERSION")))
    );
}
