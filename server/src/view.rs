//! What the server shows of itself: the answers of `GET /v1/machines` and `GET /v1/jobs`.
//!
//! Summaries: no parameter of an action is in them, since those may hold secrets.

use std::sync::Arc;

use nibs_job::{Facts, Job, Outcome, Progress};
use nibs_precheck::Finding;
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Fault, Match, Warning};
use crate::control::{self, Plan};
use crate::store::{Machine, Phase, Run};
use crate::{MachineId, Timestamp};

/// Where a machine or a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No agent has taken the job up, or there is no job.
    Waiting,
    /// An agent works on it, or did when it was last heard of.
    Running,
    /// It was done and proven.
    Succeeded,
    /// It was done by a fallback, or in part.
    Degraded,
    /// It was not done, or was told to stop.
    Failed,
    /// A state that a newer server knows and this build does not.
    #[serde(other)]
    Unknown,
}

/// A machine in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineView {
    /// Its id.
    pub id: MachineId,
    /// Where it is with its job.
    pub state: State,
    /// Id of the job it is given, or else of the last one that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Name of the action that ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// How far that action is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// How the job ended, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why no job can be chosen for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When it was seen last.
    pub last_seen: Timestamp,
    /// Address it called from last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How often it asked for a boot script.
    pub boots: u64,
    /// Every job that has run on it.
    pub runs: Vec<RunView>,
}

/// A run of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunView {
    /// Id of the job.
    pub job: String,
    /// Where it is.
    pub state: State,
    /// Highest sequence number of its events.
    pub last_sequence: u64,
    /// How often it was asked for again.
    pub retries: u32,
    /// When its newest event was stored.
    pub updated: Timestamp,
}

/// A machine by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineDetail {
    /// As in the list.
    #[serde(flatten)]
    pub view: MachineView,
    /// Version of its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What its agent says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
}

/// The answer to a retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Retried {
    /// The machine.
    pub machine: MachineId,
    /// Id of the job that is offered to it once more.
    pub job: String,
}

/// What is defined, and what is broken.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Jobs {
    /// The jobs, by id.
    pub jobs: Vec<JobView>,
    /// The matches, by file.
    pub matches: Vec<MatchView>,
    /// What is wrong in the data directory.
    pub faults: Vec<Fault>,
    /// What cannot work in the jobs.
    pub warnings: Vec<Warning>,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobView {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The file that defines it.
    pub file: String,
    /// What it does, in order.
    pub actions: Vec<ActionView>,
}

/// A job that was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StoredView {
    /// The job.
    #[serde(flatten)]
    pub job: JobView,
    /// What cannot work in the files that it writes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// An action in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ActionView {
    /// What people call it.
    pub name: String,
    /// Which action.
    pub uses: &'static str,
}

/// A match in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MatchView {
    /// The file that defines it.
    pub file: String,
    /// The match.
    #[serde(flatten)]
    pub rule: Match,
}

impl State {
    fn of(run: &Run) -> Self {
        match &run.phase {
            Phase::Asked => Self::Waiting,
            Phase::Running => Self::Running,
            Phase::Finished { outcome: Outcome::Succeeded } => Self::Succeeded,
            Phase::Finished { outcome: Outcome::Degraded { .. } } => Self::Degraded,
            Phase::Finished { .. } => Self::Failed,
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        })
    }
}

impl MachineView {
    /// A machine, its runs, and what the catalog has for it.
    pub fn new(catalog: &Catalog, machine: &Machine, runs: &[Run]) -> Self {
        let decision = control::decide_by(catalog, runs, &machine.labels());
        let given = match decision.plan {
            Plan::Run { job, .. } => Some(job.id.clone()),
            Plan::Finished { job, .. } => Some(job),
            Plan::Idle => None,
        };
        let run = match &given {
            Some(job) => runs.iter().find(|run| run.job == *job),
            None => runs.iter().max_by_key(|run| run.updated),
        };
        Self {
            id: machine.id.clone(),
            state: run.map_or(State::Waiting, State::of),
            job: given.or_else(|| run.map(|run| run.job.clone())),
            action: run.and_then(|run| run.action.clone()),
            progress: run.and_then(|run| run.progress),
            message: run.and_then(Run::outcome).map(ToString::to_string),
            problem: decision.problem.map(|problem| problem.to_string()),
            last_seen: machine.last_seen,
            address: machine.address.clone(),
            boots: machine.boots,
            runs: runs.iter().map(RunView::new).collect(),
        }
    }
}

impl RunView {
    fn new(run: &Run) -> Self {
        Self {
            job: run.job.clone(),
            state: State::of(run),
            last_sequence: run.last_sequence,
            retries: run.retries,
            updated: run.updated,
        }
    }
}

impl Jobs {
    /// All that a catalog has.
    pub fn new(catalog: &Catalog) -> Self {
        let matches = catalog.matches().iter();
        Self {
            jobs: catalog.jobs().map(|job| JobView::new(&job.value, job.file.clone())).collect(),
            matches: matches
                .map(|rule| MatchView { file: rule.file.clone(), rule: rule.value.clone() })
                .collect(),
            faults: catalog.check(),
            warnings: catalog.warnings().to_vec(),
        }
    }
}

impl JobView {
    /// A job and the file that defines it.
    pub fn new(job: &Arc<Job>, file: String) -> Self {
        let actions = job
            .actions
            .iter()
            .map(|action| ActionView { name: action.name.clone(), uses: action.task.uses() });
        Self { id: job.id.clone(), name: job.name.clone(), file, actions: actions.collect() }
    }
}
