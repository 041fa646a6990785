//! The binary under the names of Tinkerbell's actions, as in a container of such an image.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs an action with nothing in its environment but what is given.
fn run(name: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join(name);
    symlink(env!("CARGO_BIN_EXE_nibs"), &program).unwrap();
    let environment: BTreeMap<_, _> = environment.iter().copied().collect();
    Command::new(program).env_clear().envs(environment).args(arguments).output().unwrap()
}

/// All lines of stdout, each of which has to be JSON.
fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_exit_code_is_that_of_the_image_and_stdout_is_json_lines() {
    let on = [("BLOCK_DEVICE", "/dev/absent"), ("FS_TYPE", "ext4")];
    let missing = run("cexec", &on, &[]);
    assert_eq!(missing.status.code(), Some(20));
    let last = events(&missing).pop().unwrap();
    assert!(last.to_string().contains("CMD_LINE is missing"), "{last}");

    let bad = [&on[..], &[("CMD_LINE", "true"), ("UPDATE_RESOLV_CONF", "perhaps")]].concat();
    assert_eq!(run("cexec", &bad, &[]).status.code(), Some(10));

    let secret = [&on[..], &[("CMD_LINE", "echo hunter2")]].concat();
    let failed = run("cexec", &secret, &[]);
    assert_eq!(failed.status.code(), Some(30));
    let said = events(&failed);
    assert!(said.iter().any(|event| event.to_string().contains("/dev/absent")), "{said:?}");
    let all = String::from_utf8_lossy(&failed.stdout) + String::from_utf8_lossy(&failed.stderr);
    assert!(!all.contains("hunter2"), "{all}");

    assert_eq!(run("kexec", &[], &[]).status.code(), Some(1));
    assert_eq!(run("rootio", &[("MIRROR_HOST", "h")], &[]).status.code(), Some(1));
}

#[test]
fn what_is_done_ends_with_zero() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"metadata":{"instance":{"storage":{}}}}"#).unwrap();
    let environment = [("TEST", "1"), ("JSON_FILE", file.path().to_str().unwrap())];
    let output = run("rootio", &environment, &["version"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(events(&output).len() >= 4);
}
