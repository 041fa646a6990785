//! `cexec`: commands with an installed system as their root.
//!
//! `CHROOT` and `JSON_OUTPUT` do not count: there is nothing to run but the system's own programs,
//! and what they say is told by events. `/dev`, `/proc` and `/sys` come with all that is mounted in
//! them, so that `efibootmgr` and whatever wants a terminal works.

use nibs_job::Task;
use serde_json::{Map, Value};

use super::variables::Variables;
use super::{BadInput, Inputs, system};

/// Variables that have to say something.
pub(super) const REQUIRED: [&str; 3] = ["BLOCK_DEVICE", "FS_TYPE", "CMD_LINE"];

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let mut variables = Variables::of(inputs);
    system::root(&mut variables, "BLOCK_DEVICE")?;
    variables.required("FS_TYPE", "the type of the filesystem, such as ext4")?;
    let line = variables.required("CMD_LINE", "the commands, such as update-grub")?;
    let commands = match variables.text("DEFAULT_INTERPRETER") {
        Some(interpreter) => {
            let mut words: Vec<&str> = interpreter.split_ascii_whitespace().collect();
            words.push(line);
            vec![words]
        }
        None => parted(line)?,
    };
    variables.put("CMD_LINE", "commands", Value::from(commands));
    if variables.flag("UPDATE_RESOLV_CONF")? {
        variables.put("UPDATE_RESOLV_CONF", "resolv-conf", true);
    }
    // They see all that the action is told, as they do in its container.
    let environment = inputs.environment.iter();
    let environment: Map<_, _> =
        environment.map(|(name, value)| (name.clone(), value.expose().into())).collect();
    variables.put("environment", "environment", environment);
    variables.task("run-command")
}

/// Commands with `;` in between and words with blanks in between, as the original has it: there is
/// no quoting.
fn parted(line: &str) -> Result<Vec<Vec<&str>>, BadInput> {
    let commands = line.split(';').map(|command| command.split_ascii_whitespace().collect());
    let commands: Vec<Vec<&str>> = commands.filter(|words: &Vec<_>| !words.is_empty()).collect();
    if commands.is_empty() {
        return Err(BadInput("CMD_LINE: expected commands, found only blanks and `;`".into()));
    }
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::translated;
    use super::*;

    const ON: [(&str, &str); 2] = [("BLOCK_DEVICE", "/dev/sda3"), ("FS_TYPE", "ext4")];

    fn with(more: &[(&str, &str)]) -> Result<Task, String> {
        translated(translate, &[&ON[..], more].concat())
    }

    fn task(commands: &Value, more: &[(&str, &str)], resolv_conf: bool) -> Result<Task, String> {
        let environment: Map<_, _> =
            ON.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        let root = json!({"partition": {"path": "/dev/sda3"}, "filesystem": "ext4"});
        let with = json!({
            "root": root, "commands": commands, "environment": environment,
            "resolv-conf": resolv_conf,
        });
        Ok(Task::decode("run-command", with).unwrap())
    }

    #[test]
    fn without_an_interpreter_commands_are_parted_at_semicolons_and_blanks() {
        let more = [("CMD_LINE", "apt-get -y update;  apt-get install x ;")];
        let commands = json!([["apt-get", "-y", "update"], ["apt-get", "install", "x"]]);
        assert_eq!(with(&more), task(&commands, &more, false));
    }

    #[test]
    fn an_interpreter_gets_the_whole_line_as_its_last_word() {
        let more = [
            ("CMD_LINE", "echo 'a; b' > /etc/x"),
            ("DEFAULT_INTERPRETER", "/bin/sh -c"),
            ("CHROOT", "y"),
            ("UPDATE_RESOLV_CONF", "1"),
            ("JSON_OUTPUT", "whatever"),
        ];
        let commands = json!([["/bin/sh", "-c", "echo 'a; b' > /etc/x"]]);
        assert_eq!(with(&more), task(&commands, &more, true));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_variable_without_secrets() {
        for (environment, wrong) in [
            (&[][..], "BLOCK_DEVICE is missing"),
            (&[("BLOCK_DEVICE", "sda3")], "BLOCK_DEVICE: expected the path of a device below"),
            (&ON[..1], "FS_TYPE is missing"),
            (&ON, "CMD_LINE is missing"),
            (&[ON[0], ("FS_TYPE", "zfs"), ("CMD_LINE", "x")], "FS_TYPE: name `zfs` is not known"),
            (&[ON[0], ON[1], ("CMD_LINE", " ; ;")], "CMD_LINE: expected commands, found only"),
            (
                &[ON[0], ON[1], ("CMD_LINE", "hunter2"), ("UPDATE_RESOLV_CONF", "maybe")],
                "UPDATE_RESOLV_CONF: expected true or false, found \"maybe\"",
            ),
            (&[ON[0], ON[1], ("CMD_LINE", "a"), ("X", "hunter2\0")], "environment: \"X\" is no"),
        ] {
            let error = translated(translate, environment).unwrap_err();
            assert!(error.contains(wrong) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn every_filesystem_that_a_root_may_have_is_taken() {
        for (filesystem, driver) in [
            ("ext3", "ext4"),
            ("ext4", "ext4"),
            ("xfs", "xfs"),
            ("btrfs", "btrfs"),
            ("vfat", "vfat"),
        ] {
            let environment = [ON[0], ("FS_TYPE", filesystem), ("CMD_LINE", "true")];
            let Ok(Task::RunCommand(made)) = translated(translate, &environment) else { panic!() };
            assert_eq!(made.root.filesystem.unwrap().as_str(), driver);
        }
    }
}
