//! An action of Tinkerbell by its own name: what runs in a container whose image is called
//! `image2disk`, `cexec` and so on, where another agent than ours runs the workflow.
//!
//! Environment and arguments are those of the container; events go to stdout as JSON lines, and how
//! it ended is the exit code, as of the images that it stands in for.

use std::collections::BTreeMap;
use std::process::ExitCode;

use nibs_job::{Action, DEFAULT_REPORT_TIMEOUT, Job, Secret, Task};

use super::{Exit, block_on, local};
use crate::executor::refuse;
use crate::tinkerbell::builtin::{self, BadInput, Inputs};
use crate::view;

/// Our own name, under which the command line is the way in.
const OURSELVES: &str = "nibs";

/// Powers off or restarts after the action has ended and been reported, by staying behind. A
/// container that waits until it is time ends with the machine, and nobody hears of its success: so
/// only the agent does this one itself.
const AFTER_THE_END: &str = "waitdaemon";

/// How an action ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    Done = 0,
    Failed = 1,
    /// Of `cexec`: a variable cannot be understood.
    CexecParse = 10,
    /// Of `cexec`: a variable is missing.
    CexecMissing = 20,
    /// Of `cexec`: a command failed.
    CexecFailed = 30,
}

/// The name itself, if a container's process that is called so is an action.
pub fn known(name: &str) -> Option<&'static str> {
    builtin::known(name).filter(|known| ![OURSELVES, AFTER_THE_END].contains(known))
}

/// Does the action of this name with the environment and the arguments of this process.
pub fn main(name: &'static str) -> ExitCode {
    view::start_logging();
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let environment = std::env::vars_os();
    let environment = environment.map(|(name, value)| (text(name), Secret::new(text(value))));
    let command: Vec<String> = std::env::args_os().skip(1).map(text).collect();
    ExitCode::from(run(name, &environment.collect(), &command) as u8)
}

fn run(name: &'static str, environment: &BTreeMap<String, Secret>, command: &[String]) -> Code {
    let task = match builtin::find(name) {
        Some(translate) => translate(Inputs { environment, command }),
        None => Err(BadInput(format!("{name} is no action"))),
    };
    let ended = match task {
        Ok(task) => block_on(perform(name, task)),
        Err(BadInput(message)) => {
            eprintln!("{name}: {message}");
            if let Ok(journal) = local::journal(name, true, None) {
                refuse(&journal, message);
            }
            return bad_input(name, environment);
        }
    };
    match ended {
        Ok(Exit::Done) => Code::Done,
        Ok(Exit::Failed | Exit::Usage) => failed(name),
        Err(error) => {
            eprintln!("{name}: {error:#}");
            failed(name)
        }
    }
}

async fn perform(name: &str, task: Task) -> anyhow::Result<Exit> {
    let action = Action { name: name.to_owned(), task, timeout: None, retries: 0 };
    let job = Job {
        id: name.to_owned(),
        name: name.to_owned(),
        report_timeout: DEFAULT_REPORT_TIMEOUT,
        actions: vec![action],
    };
    let journal = local::journal(&job.id, true, None)?;
    local::run(&job, &journal, std::env::var_os("NIBS_CA").map(Into::into)).await
}

fn bad_input(name: &str, environment: &BTreeMap<String, Secret>) -> Code {
    let missing = |name: &&str| environment.get(*name).is_none_or(|it| it.expose().is_empty());
    match name {
        "cexec" if builtin::CEXEC_REQUIRED.iter().any(missing) => Code::CexecMissing,
        "cexec" => Code::CexecParse,
        _ => Code::Failed,
    }
}

fn failed(name: &str) -> Code {
    if name == "cexec" { Code::CexecFailed } else { Code::Failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(name: &'static str, environment: &[(&str, &str)], command: &[&str]) -> Code {
        let environment =
            environment.iter().map(|(k, v)| ((*k).to_owned(), Secret::new(*v))).collect();
        let command: Vec<_> = command.iter().map(ToString::to_string).collect();
        run(name, &environment, &command)
    }

    #[test]
    fn our_own_name_is_that_of_the_command_line() {
        assert_eq!(known("cexec"), Some("cexec"));
        assert_eq!(known("nibs"), None);
        assert_eq!(known("bash"), None);
    }

    #[test]
    fn what_acts_after_its_end_is_done_by_the_agent_alone() {
        assert_eq!(known("waitdaemon"), None);
        assert!(builtin::find("waitdaemon").is_some());
    }

    #[test]
    fn cexec_has_its_own_exit_codes() {
        let all = [("BLOCK_DEVICE", "/dev/absent"), ("FS_TYPE", "ext4"), ("CMD_LINE", "true")];
        assert_eq!(ended("cexec", &all[..2], &[]), Code::CexecMissing);
        let unclear = [&all[..], &[("UPDATE_RESOLV_CONF", "maybe")]].concat();
        assert_eq!(ended("cexec", &unclear, &[]), Code::CexecParse);
        assert_eq!(ended("cexec", &all, &[]), Code::CexecFailed);
    }

    #[test]
    fn others_end_with_one_whatever_is_wrong() {
        assert_eq!(ended("kexec", &[], &[]), Code::Failed);
        assert_eq!(ended("rootio", &[("MIRROR_HOST", "h")], &["explode"]), Code::Failed);
        let file = [("TEST", "1"), ("JSON_FILE", "/absent.json")];
        assert_eq!(ended("rootio", &file, &["wipe"]), Code::Failed);
    }

    #[test]
    fn what_is_done_ends_with_zero() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"metadata":{"instance":{"storage":{}}}}"#).unwrap();
        let environment = [("TEST", "1"), ("JSON_FILE", file.path().to_str().unwrap())];
        assert_eq!(ended("rootio", &environment, &["version"]), Code::Done);
    }
}
