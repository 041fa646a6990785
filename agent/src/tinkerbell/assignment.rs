//! One action of a workflow, as a Tinkerbell server hands it out, and what is reported of it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use nibs_job::Secret;

/// One action that this machine is to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assignment {
    /// `<namespace>/<name>` of the workflow.
    pub workflow: String,
    /// Id of the task in the workflow.
    pub task: String,
    /// The agent's id, as the server repeats it.
    pub agent: String,
    /// Id of the action in the workflow.
    pub action: String,
    /// What people call the action.
    pub name: String,
    /// Reference of the container image that does it.
    pub image: String,
    /// What is run in place of the image's `ENTRYPOINT`; no server says so, only lists of actions.
    pub entrypoint: Option<String>,
    /// How long it may take, the pull of its image included. None: no limit.
    pub timeout: Option<Duration>,
    /// Arguments, in place of the image's `CMD`; its `ENTRYPOINT` stays.
    pub command: Vec<String>,
    /// Bind mounts, `source:destination[:options]`.
    pub volumes: Vec<String>,
    /// Environment. Values may be secrets.
    pub environment: BTreeMap<String, Secret>,
    /// `host`, to share the machine's PID namespace.
    pub pid: Option<String>,
    /// `host`, to share the machine's network namespace.
    pub network: Option<String>,
}

/// How far an action is, in the words of a Tinkerbell server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has begun.
    Running,
    /// It reached its goal.
    Success,
    /// It did not.
    Failed,
    /// It did not end within its timeout.
    Timeout,
}

/// What a server is told of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How far it is.
    pub state: State,
    /// When it began.
    pub started: SystemTime,
    /// When it ended; none while it runs.
    pub stopped: Option<SystemTime>,
    /// One sentence for people: of a failure, the error itself.
    pub message: String,
}
