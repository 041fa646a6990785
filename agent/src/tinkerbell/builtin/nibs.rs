//! `nibs`: any action of ours in a template. Its `command` is what `nibs action` is told:
//! `["action", "stream-image", "--with", "image.url=http://…", "--with", "disk.path=/dev/sda"]`.
//!
//! The first word may be left out. Timeout and retries are the server's.

use clap::Parser;
use nibs_job::{Task, dotted};

use super::{BadInput, Inputs};
use crate::cli::{ActionArgs, Cli, Command};

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let words = match inputs.command {
        [] => {
            return Err(BadInput(
                "command: expected the words of `nibs action`, such as [\"action\", \"reboot\"], \
                 found none"
                    .into(),
            ));
        }
        [first, rest @ ..] if first == "action" => rest,
        all => all,
    };
    let words = words.iter().map(String::as_str);
    let cli = Cli::try_parse_from(["nibs", "action"].into_iter().chain(words));
    let Ok(Cli { command: Command::Action(args), .. }) = &cli else {
        let said = cli.err().map_or_else(String::new, |error| first_line(&error));
        return Err(BadInput(format!("command: expected the words of `nibs action`: {said}")));
    };
    let ActionArgs { name, with, timeout, retries, events, explain } = args;
    let misplaced = [
        ("--timeout", timeout.is_some(), "timeout of the action in the template"),
        ("--retries", *retries > 0, "server, which does not ask for any"),
        ("--events", events.is_some(), "agent, which logs them"),
        ("--explain", *explain, "command line"),
    ];
    if let Some((option, _, place)) = misplaced.iter().find(|(_, given, _)| *given) {
        return Err(BadInput(format!(
            "command: {option} is not taken here: it is for the {place}"
        )));
    }
    let task = dotted::table(with).and_then(|table| Task::decode(name, table));
    task.map_err(|error| BadInput(format!("command: {error}")))
}

/// The sentence of clap, without usage and colours.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nibs_job::params::Reboot;

    use super::*;

    fn made(command: &[&str]) -> Result<Task, String> {
        let command: Vec<_> = command.iter().map(ToString::to_string).collect();
        translate(Inputs { environment: &BTreeMap::new(), command: &command })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_is_that_of_nibs_action() {
        let reboot = Ok(Task::Reboot(Reboot::default()));
        assert_eq!(made(&["reboot"]), reboot);
        assert_eq!(made(&["action", "reboot"]), reboot);
        let url = "image.url=http://10.0.0.1/os.img";
        let words = ["action", "stream-image", "--with", url, "--with", "disk.path=/dev/sda"];
        assert!(matches!(made(&words), Ok(Task::StreamImage(_))));
    }

    #[test]
    fn what_is_no_such_command_is_told() {
        for (command, wrong) in [
            (&[][..], "command: expected the words of `nibs action`"),
            (&["agent"], "command: uses: name `agent` is not known"),
            (&["action"], "expected the words of `nibs action`"),
            (&["reboot", "--wit", "a=b"], "unexpected argument '--wit'"),
            (&["stream-image", "--with", "image.urll=x"], "`urll` is not known"),
            (&["reboot", "--timeout", "5m"], "--timeout is not taken here: it is for the timeout"),
            (&["reboot", "--retries", "1"], "--retries is not taken here"),
            (&["reboot", "--explain"], "--explain is not taken here"),
        ] {
            let error = made(command).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
