//! Workflows as a server has them, from values or from the rendered YAML of a template.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use prost_types::Timestamp;
use serde::Deserialize;

/// How far an action or a workflow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Its machine is being prepared; no action is handed out yet.
    Preparing,
    /// Not begun.
    #[default]
    Pending,
    /// Begun.
    Running,
    /// Done.
    Success,
    /// Ended without having reached its goal.
    Failed,
    /// Not ended in time.
    Timeout,
}

/// Actions for one machine after the other.
#[derive(Debug, Clone, Default)]
pub struct Workflow {
    /// `NAMESPACE/NAME`
    pub name: String,
    /// How far it is.
    pub state: State,
    /// What is to be done, in this order.
    pub tasks: Vec<Task>,
}

/// Actions for one machine.
#[derive(Debug, Clone, Default)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Id of the agent that is to do it.
    pub worker: String,
    /// What is to be done, in this order.
    pub actions: Vec<Action>,
}

/// One step.
#[derive(Debug, Clone, Default)]
pub struct Action {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Seconds.
    pub timeout: i64,
    /// In place of the image's CMD.
    pub command: Vec<String>,
    /// Bind mounts, those of the task first.
    pub volumes: Vec<String>,
    /// Variables, those of the task among them.
    pub environment: BTreeMap<String, String>,
    /// The PID namespace.
    pub pid: String,
    /// The network namespace.
    pub network: String,
    /// How far it is.
    pub state: State,
    /// What its last report says.
    pub status: Status,
}

/// What was reported of an action.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// When it began.
    pub start: Option<Timestamp>,
    /// When it ended.
    pub stop: Option<Timestamp>,
    /// How long it took, for people.
    pub duration: String,
    /// What was said of it.
    pub message: String,
}

#[derive(Deserialize)]
struct TemplateDoc {
    name: String,
    tasks: Vec<TaskDoc>,
}

#[derive(Deserialize)]
struct TaskDoc {
    name: String,
    worker: String,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    actions: Vec<ActionDoc>,
}

#[derive(Deserialize)]
struct ActionDoc {
    name: String,
    image: String,
    #[serde(default)]
    timeout: i64,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    pid: String,
    #[serde(default)]
    namespaces: NamespacesDoc,
}

#[derive(Deserialize, Default)]
struct NamespacesDoc {
    #[serde(default)]
    network: String,
    #[serde(default)]
    pid: String,
}

impl Workflow {
    /// Reads the rendered YAML of a template, with the keys that Tinkerbell knows
    /// (`tink/controller/internal/workflow/types.go` of its repository).
    pub fn from_template(name: &str, yaml: &str) -> Result<Self> {
        let template: TemplateDoc = serde_saphyr::from_str(yaml).context("reading a template")?;
        ensure!(!template.name.is_empty(), "the template has no name");
        ensure!(!template.tasks.is_empty(), "template {} has no task", template.name);
        let tasks = template.tasks.into_iter().enumerate().map(|(i, task)| task.read(i)).collect();
        Ok(Self { name: name.to_owned(), state: State::Pending, tasks })
    }

    /// A workflow of one task for the agent of this id.
    pub fn of(name: &str, worker: &str, actions: impl IntoIterator<Item = Action>) -> Self {
        let task = Task {
            id: "task-1".into(),
            name: "task".into(),
            worker: worker.into(),
            actions: actions.into_iter().collect(),
        };
        let mut workflow = Self { name: name.into(), state: State::Pending, tasks: vec![task] };
        for (index, action) in workflow.tasks[0].actions.iter_mut().enumerate() {
            action.id = format!("action-1-{}", index + 1);
        }
        workflow
    }

    /// All its actions.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.tasks.iter().flat_map(|task| &task.actions)
    }

    /// How far its actions are.
    pub fn states(&self) -> Vec<State> {
        self.actions().map(|action| action.state).collect()
    }

    /// The task that is not done yet.
    pub(super) fn current_task(&self) -> Option<&Task> {
        let is_left = |task: &&Task| task.actions.iter().any(|a| a.state != State::Success);
        self.tasks.iter().find(is_left)
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self.state, State::Pending | State::Running)
    }
}

impl Action {
    /// An action of this name and image, and nothing else.
    pub fn new(name: &str, image: &str) -> Self {
        Self { name: name.into(), image: image.into(), timeout: 60, ..Self::default() }
    }

    /// The same with a variable set.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.environment.insert(key.into(), value.into());
        self
    }
}

impl TaskDoc {
    fn read(self, index: usize) -> Task {
        let Self { name, worker, volumes, environment, actions } = self;
        let actions = actions
            .into_iter()
            .enumerate()
            .map(|(number, action)| Action {
                id: format!("action-{}-{}", index + 1, number + 1),
                name: action.name,
                image: action.image,
                timeout: action.timeout,
                command: action.command,
                volumes: volumes.iter().cloned().chain(action.volumes).collect(),
                environment: environment.clone().into_iter().chain(action.environment).collect(),
                pid: if action.namespaces.pid.is_empty() {
                    action.pid
                } else {
                    action.namespaces.pid
                },
                network: action.namespaces.network,
                ..Action::default()
            })
            .collect();
        Task { id: format!("task-{}", index + 1), name, worker, actions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_gives_its_volumes_and_variables_to_each_action() {
        let workflow = Workflow::from_template(
            "tink/a",
            "version: \"0.1\"
name: ubuntu
global_timeout: 1800
tasks:
- name: install
  worker: aa:bb
  volumes: [/dev:/dev]
  environment: {MODE: 0755, WHO: task}
  actions:
  - name: stream
    image: quay.io/tinkerbell/actions/image2disk:latest
    timeout: 600
    volumes: [/lib:/lib]
    environment: {WHO: action}
    pid: host
    on-failure: [ignored]
",
        )
        .unwrap();
        let action = &workflow.tasks[0].actions[0];
        assert_eq!((&workflow.tasks[0].worker[..], action.timeout), ("aa:bb", 600));
        assert_eq!(action.volumes, ["/dev:/dev", "/lib:/lib"]);
        assert_eq!(
            (&action.environment["WHO"][..], &action.environment["MODE"][..]),
            ("action", "0755")
        );
        assert_eq!((&action.pid[..], &action.id[..]), ("host", "action-1-1"));
    }

    #[test]
    fn a_template_without_tasks_is_refused() {
        let error = Workflow::from_template("n", "name: a\ntasks: []\n").unwrap_err().to_string();
        assert!(error.contains("no task"), "{error}");
    }
}
