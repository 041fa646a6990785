//! The flags, as a table, and how arguments are read by it: like Go's `flag`, as `ff` extends it.
//!
//! `-x` and `--x` are the same. A flag's value stands behind `=` or is the next argument; a
//! boolean needs none, and takes the next argument only if that is a boolean. `ff` takes the next
//! argument for `-x=` too; here that is an empty value, so that no flag is swallowed.

use std::iter::Peekable;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use nibs_job::Secret;

use super::super::go;
use super::super::settings::Source;
use super::{Asked, Refusal};

/// A flag.
#[derive(Debug)]
pub(super) struct Flag {
    /// Its name, without dashes.
    pub(super) name: &'static str,
    takes: Takes,
    about: &'static str,
    /// Whether it has an effect.
    used: bool,
}

/// What a flag takes, and where that goes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Text(fn(&mut Asked, Option<String>)),
    Boolean(fn(&mut Asked, bool)),
    Time(fn(&mut Asked, Duration)),
    Number(fn(&mut Asked, i64)),
    Source,
    Runtime,
}

const BOOLEAN: &str = "true or false";
const TIME: &str = "a time such as 5s or 1m30s";
const NUMBER: &str = "a whole number";
const SOURCE: &str = "grpc, file or nats";
const RUNTIME: &str = "docker, containerd or kubernetes";

/// What flags take that have no effect: their values must be right nevertheless.
const TEXT_ONLY: Takes = Takes::Text(|_, _| {});
const TIME_ONLY: Takes = Takes::Time(|_, _| {});
const NUMBER_ONLY: Takes = Takes::Number(|_, _| {});
const BOOLEAN_ONLY: Takes = Takes::Boolean(|_, _| {});

const ID: Takes = Takes::Text(|to, text| to.settings.id = text);
const REGISTRY: Takes = Takes::Text(|to, text| to.settings.registries.name = text);
const USER: Takes = Takes::Text(|to, text| to.settings.registries.username = text);
const PASSWORD: Takes =
    Takes::Text(|to, text| to.settings.registries.password = text.map(Secret::new));
const SERVER: Takes = Takes::Text(|to, text| to.settings.server = text);
const TLS: Takes = Takes::Boolean(|to, value| to.settings.tls = value);
const INSECURE_TLS: Takes = Takes::Boolean(|to, value| to.settings.insecure_tls = value);

/// The flags of tink-agent, and below them those that were there before.
#[rustfmt::skip]
const FLAGS: &[Flag] = &[
    flag("id", ID, "by what the server knows this machine"),
    flag("log-level", Takes::Number(|to, level| to.verbosity = level), "more for more lines"),
    flag("version", Takes::Boolean(|to, value| to.version = value), "say the version and end"),
    flag("transport", Takes::Source, SOURCE),
    flag("attribute-detection", Takes::Boolean(|to, value| to.settings.attributes = value),
        "tell the server what this machine is (true)"),
    flag("backoff-max-interval", Takes::Time(|to, time| to.settings.backoff_max = time),
        "longest wait between two questions (5s)"),
    flag("registry-name", REGISTRY, "registry that user and password are for"),
    flag("registry-user", USER, "user of the registry"),
    flag("registry-pass", PASSWORD, "password of the registry"),
    flag("grpc-server", SERVER, "Tinkerbell server, HOST:PORT"),
    flag("grpc-tls", TLS, "speak TLS to the server"),
    flag("grpc-insecure-tls", INSECURE_TLS, "take any certificate for the server's"),
    flag("workflow-path", Takes::Text(|to, text| to.settings.workflow = text.map(PathBuf::from)),
        "file with actions, for -transport file"),
    flag("nats-server", Takes::Text(|to, text| to.settings.nats_server = text), "NATS server, HOST:PORT"),
    flag("nats-stream", Takes::Text(|to, text| replace(&mut to.settings.subjects.stream, text)),
        "first part of its subjects (tinkerbell)"),
    flag("nats-events", Takes::Text(|to, text| replace(&mut to.settings.subjects.events, text)),
        "last part of the one for reports (workflow_status)"),
    flag("nats-actions", Takes::Text(|to, text| replace(&mut to.settings.subjects.actions, text)),
        "last part of the one for actions (workflow_actions)"),
    unused("runtime", Takes::Runtime),
    unused("grpc-retry-interval", TIME_ONLY),
    unused("docker-socket", TEXT_ONLY),
    unused("containerd-namespace", TEXT_ONLY),
    unused("containerd-socket", TEXT_ONLY),
    unused("containerd-data-root", TEXT_ONLY),
    unused("containerd-registry-config-path", TEXT_ONLY),
    unused("kubernetes-namespace", TEXT_ONLY),
    unused("kubernetes-kubeconfig", TEXT_ONLY),
    unused("kubernetes-service-account", TEXT_ONLY),

    flag("docker-registry", REGISTRY, "older name of -registry-name"),
    flag("registry-username", USER, "older name of -registry-user"),
    flag("registry-password", PASSWORD, "older name of -registry-pass"),
    flag("tinkerbell-grpc-authority", SERVER, "older name of -grpc-server"),
    flag("tinkerbell-tls", TLS, "older name of -grpc-tls"),
    flag("tinkerbell-insecure-tls", INSECURE_TLS, "older name of -grpc-insecure-tls"),
];

/// What tink-worker alone had.
#[rustfmt::skip]
const WORKER_FLAGS: &[Flag] = &[
    flag("i", ID, "tink-worker's -id"),
    flag("r", REGISTRY, "tink-worker's -docker-registry"),
    flag("u", USER, "tink-worker's -registry-username"),
    flag("p", PASSWORD, "tink-worker's -registry-password"),
    unused("retry-interval", TIME_ONLY),
    unused("timeout", TIME_ONLY),
    unused("max-retry", NUMBER_ONLY),
    unused("max-file-size", NUMBER_ONLY),
    unused("capture-action-logs", BOOLEAN_ONLY),
];

const fn flag(name: &'static str, takes: Takes, about: &'static str) -> Flag {
    Flag { name, takes, about, used: true }
}

const fn unused(name: &'static str, takes: Takes) -> Flag {
    Flag { name, takes, about: "taken, without effect", used: false }
}

/// The flags that have a variable too.
pub(super) fn with_variable() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter()
}

/// All flags.
fn all() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().chain(WORKER_FLAGS)
}

fn replace(slot: &mut String, text: Option<String>) {
    if let Some(text) = text {
        *slot = text;
    }
}

impl Flag {
    /// Does what a value of this flag asks for. `whence` names the flag or the variable.
    pub(super) fn set(
        &self,
        asked: &mut Asked,
        value: String,
        whence: &str,
    ) -> Result<(), Refusal> {
        if !self.used {
            asked.unused.push(whence.trim_start_matches("flag ").to_owned());
        }
        let refused = |expected, found: &str| Refusal::BadValue {
            whence: whence.to_owned(),
            expected,
            found: found.to_owned(),
        };
        match self.takes {
            Takes::Text(set) => set(asked, Some(value).filter(|value| !value.is_empty())),
            Takes::Boolean(set) => {
                set(asked, go::boolean(&value).ok_or_else(|| refused(BOOLEAN, &value))?);
            }
            Takes::Time(set) => {
                set(asked, go::duration(&value).ok_or_else(|| refused(TIME, &value))?);
            }
            Takes::Number(set) => set(asked, value.parse().map_err(|_| refused(NUMBER, &value))?),
            Takes::Source => {
                let source = Source::from_str(&value, false);
                asked.settings.source = source.map_err(|_| refused(SOURCE, &value))?;
            }
            Takes::Runtime if ["docker", "containerd", "kubernetes"].contains(&value.as_str()) => {}
            Takes::Runtime => return Err(refused(RUNTIME, &value)),
        }
        Ok(())
    }

    fn is_boolean(&self) -> bool {
        matches!(self.takes, Takes::Boolean(_))
    }
}

/// Flags with their values, in the order in which they were given. Not to be shown: some are
/// secrets.
pub(super) struct Given {
    flags: Vec<(&'static Flag, String)>,
    /// Arguments that no flag takes.
    left: usize,
}

impl Given {
    /// Whether this flag is among them.
    pub(super) fn has(&self, flag: &Flag) -> bool {
        self.flags.iter().any(|(given, _)| given.name == flag.name)
    }

    /// Does what they ask for. A later one counts.
    pub(super) fn apply(self, asked: &mut Asked) -> Result<(), Refusal> {
        for (flag, value) in self.flags {
            flag.set(asked, value, &format!("flag -{}", flag.name))?;
        }
        if self.left > 0 {
            asked.unused.push(format!("{} arguments after the flags", self.left));
        }
        Ok(())
    }
}

/// Reads arguments up to the first that is no flag, or `--`.
pub(super) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Given, Refusal> {
    let mut arguments = arguments.into_iter().peekable();
    let mut flags = Vec::new();
    while let Some(argument) = arguments.next_if(|a| a.len() > 1 && a.starts_with('-')) {
        if argument == "--" {
            break;
        }
        let dashes = if argument.starts_with("--") { 2 } else { 1 };
        let (name, value) = match argument[dashes..].split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (&argument[dashes..], None),
        };
        let Some(flag) = all().find(|flag| flag.name == name) else {
            let help = ["h", "help"].iter().any(|word| name.eq_ignore_ascii_case(word));
            return Err(if help { Refusal::Help } else { Refusal::Unknown(name.to_owned()) });
        };
        let value = match value {
            Some(value) if !(value.is_empty() && flag.is_boolean()) => value,
            _ => following(flag, &mut arguments).ok_or(Refusal::NoValue(flag.name))?,
        };
        flags.push((flag, value));
    }
    Ok(Given { flags, left: arguments.count() })
}

/// The value of a flag that has none behind `=`.
fn following(
    flag: &Flag,
    arguments: &mut Peekable<impl Iterator<Item = String>>,
) -> Option<String> {
    if flag.is_boolean() {
        let next = arguments.next_if(|argument| go::boolean(argument).is_some());
        return Some(next.unwrap_or_else(|| "true".to_owned()));
    }
    arguments.next()
}

/// The flags and variables, for people.
pub fn help() -> String {
    let mut text = String::from("Usage: tink-agent [flags]\n\nFlags (-x v, -x=v, --x v, --x=v):\n");
    for Flag { name, about, .. } in all() {
        text += &format!("  -{name:32} {about}\n");
    }
    text + "\nA flag that is not given is read from AGENT_<FLAG>, upper case, with _ for -.\n\
            Before all of these go WORKER_ID, ID, TINKERBELL_GRPC_AUTHORITY, TINKERBELL_TLS,\n\
            TINKERBELL_INSECURE_TLS, DOCKER_REGISTRY, REGISTRY_USERNAME, REGISTRY_PASSWORD.\n\
            Exit codes: 0 told to stop, or the last report was refused for good; 1 failed.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_there_twice() {
        let mut names: Vec<_> = all().map(|flag| flag.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
