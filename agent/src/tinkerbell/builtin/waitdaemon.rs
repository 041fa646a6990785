//! `waitdaemon`: another action, after the server knows that this one is done.
//!
//! What it is used for is to restart the machine, or to start another kernel, without outrunning the
//! report; so that is what it does here, by the name of `IMAGE` or by the command that a container
//! of that image would run. Of anything else nobody would hear how it ended.

use std::time::Duration;

use nibs_job::params::{PowerOff, Reboot};
use nibs_job::{Span, Task};

use super::variables::Variables;
use super::{BadInput, Inputs, find, name_of};

const NAME: &str = "waitdaemon";

/// How long the original waits if it is not told.
const DEFAULT_WAIT: u64 = 10;

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let variables = Variables::of(inputs);
    let image = variables.required("IMAGE", "the image of the action to do after the wait")?;
    let delay = Some(wait(&variables)?);
    let name = name_of(image);
    let task = match find(name).filter(|_| name != NAME) {
        Some(translate) => Some(translate(inputs)?),
        None => by_command(inputs.command),
    };
    match task {
        Some(Task::Reboot(_)) => Ok(Task::Reboot(Reboot { delay })),
        Some(Task::PowerOff(_)) => Ok(Task::PowerOff(PowerOff { delay })),
        Some(Task::Kexec(mut kexec)) => {
            kexec.delay = delay;
            Ok(Task::Kexec(kexec))
        }
        Some(other) => Err(BadInput(format!(
            "IMAGE: {image:?} is the action {}, of whose end nobody would hear; expected reboot or \
             kexec, or make it an action of the template",
            other.uses()
        ))),
        None => Err(BadInput(format!(
            "IMAGE: expected the image of reboot or kexec, or the command reboot or poweroff, found \
             {image:?} with another command; run it as an action of the template"
        ))),
    }
}

fn wait(variables: &Variables<'_>) -> Result<Span, BadInput> {
    let Some(text) = variables.text("WAIT_SECONDS") else {
        return Ok(Span(Duration::from_secs(DEFAULT_WAIT)));
    };
    let seconds: u32 = text.parse().map_err(|_| {
        BadInput(format!("WAIT_SECONDS: expected a number of seconds, found {text:?}"))
    })?;
    Ok(Span(Duration::from_secs(seconds.into())))
}

/// What a command that is all about the machine's power does; the same in a shell.
fn by_command(command: &[String]) -> Option<Task> {
    let mut words: Vec<&str> = command.iter().map(String::as_str).collect();
    if let [shell, "-c", script] = words[..]
        && matches!(base(shell), "sh" | "bash" | "ash")
    {
        words = script.split_ascii_whitespace().collect();
    }
    let (program, arguments) = words.split_first()?;
    let (reboot, off) = (Task::Reboot(Reboot::default()), Task::PowerOff(PowerOff::default()));
    match (base(program), arguments) {
        ("reboot", [] | ["-f" | "--force" | "-n" | "-nf"]) => Some(reboot),
        ("poweroff" | "halt", [] | ["-f" | "--force" | "-p"]) => Some(off),
        ("shutdown", ["-r", ..]) => Some(reboot),
        ("shutdown", ["-h" | "-P", ..]) => Some(off),
        _ => None,
    }
}

fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nibs_job::Secret;

    use super::*;

    fn made(environment: &[(&str, &str)], command: &[&str]) -> Result<Task, String> {
        let environment: BTreeMap<_, _> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), Secret::new(*v))).collect();
        let command: Vec<_> = command.iter().map(ToString::to_string).collect();
        translate(Inputs { environment: &environment, command: &command })
            .map_err(|error| error.to_string())
    }

    fn seconds(seconds: u64) -> Option<Span> {
        Some(Span(Duration::from_secs(seconds)))
    }

    #[test]
    fn the_usual_template_restarts_the_machine_after_its_wait() {
        let usual = [("IMAGE", "alpine"), ("WAIT_SECONDS", "30")];
        let expected = Ok(Task::Reboot(Reboot { delay: seconds(30) }));
        for command in [&["reboot"][..], &["/sbin/reboot"], &["sh", "-c", "reboot -f"]] {
            assert_eq!(made(&usual, command), expected, "{command:?}");
        }
        let off = Ok(Task::PowerOff(PowerOff { delay: seconds(10) }));
        assert_eq!(made(&[("IMAGE", "alpine:3")], &["poweroff"]), off);
        let none = [("IMAGE", "quay.io/tinkerbell/actions/reboot:latest"), ("WAIT_SECONDS", "0")];
        assert_eq!(made(&none, &[]), Ok(Task::Reboot(Reboot { delay: seconds(0) })));
    }

    #[test]
    fn kexec_keeps_its_own_variables() {
        let environment = [
            ("IMAGE", "quay.io/tinkerbell/actions/kexec@sha256:00"),
            ("BLOCK_DEVICE", "/dev/sda1"),
            ("FS_TYPE", "ext4"),
        ];
        let Ok(Task::Kexec(kexec)) = made(&environment, &[]) else { panic!() };
        assert_eq!(kexec.delay, seconds(10));
        assert_eq!(kexec.root.partition.path.as_deref(), Some("/dev/sda1"));
        let error = made(&environment[..1], &[]).unwrap_err();
        assert!(error.starts_with("BLOCK_DEVICE is missing"), "{error}");
    }

    #[test]
    fn what_nobody_would_hear_of_is_refused() {
        for (environment, command, wrong) in [
            (&[][..], &["reboot"][..], "IMAGE is missing"),
            (&[("IMAGE", "alpine")], &["rm", "-rf", "/"], "found \"alpine\" with another command"),
            (&[("IMAGE", "alpine")], &[], "with another command"),
            (&[("IMAGE", "waitdaemon")], &["true"], "with another command"),
            (&[("IMAGE", "reboot"), ("WAIT_SECONDS", "soon")], &[], "WAIT_SECONDS: expected a"),
            (
                &[
                    ("IMAGE", "cexec"),
                    ("BLOCK_DEVICE", "/dev/sda1"),
                    ("FS_TYPE", "ext4"),
                    ("CMD_LINE", "hunter2"),
                ],
                &[],
                "IMAGE: \"cexec\" is the action run-command, of whose end nobody would hear",
            ),
        ] {
            let error = made(environment, command).unwrap_err();
            assert!(error.contains(wrong) && !error.contains("hunter2"), "{error}");
        }
    }
}
