//! What is kept of a machine and of a run: a job on a machine.

use nibs_job::{Event, EventKind, Facts, Outcome, Progress};
use serde::{Deserialize, Serialize};

use crate::{Labels, MachineId, Timestamp};

/// A machine that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Machine {
    /// Its id.
    pub id: MachineId,
    /// When it was seen first.
    pub first_seen: Timestamp,
    /// When it was seen last: a boot request, a question for work or a report.
    pub last_seen: Timestamp,
    /// Address it called from last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How often it asked for a boot script.
    pub boots: u64,
    /// When it did so last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_boot: Option<Timestamp>,
    /// Version of its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What its agent says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
}

impl Machine {
    pub(super) fn new(id: &MachineId, now: Timestamp) -> Self {
        Self {
            id: id.clone(),
            first_seen: now,
            last_seen: now,
            address: None,
            boots: 0,
            last_boot: None,
            agent: None,
            facts: None,
        }
    }

    /// What matches can ask for.
    pub fn labels(&self) -> Labels {
        Labels::of(&self.id, self.facts.as_ref().unwrap_or(&Facts::default()))
    }
}

/// A job on a machine, from its first event over all retries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Run {
    /// Id of the job.
    pub job: String,
    /// Where it is.
    pub phase: Phase,
    /// Highest sequence number stored. It rises over retries too, so that an old run's late
    /// report cannot be taken for a new one's.
    pub last_sequence: u64,
    /// How often it was asked for again after it had finished.
    pub retries: u32,
    /// When the newest event was stored.
    pub updated: Timestamp,
    /// Name of the action that ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// How far that action is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum Phase {
    /// A retry was asked for and no agent has taken it up.
    Asked,
    /// An agent works on it, or did when it was last heard of.
    Running,
    /// It ended. It is not offered again until a retry is asked for.
    Finished {
        /// How.
        outcome: Outcome,
    },
}

impl Run {
    pub(super) fn new(job: &str, now: Timestamp) -> Self {
        Self {
            job: job.to_owned(),
            phase: Phase::Running,
            last_sequence: 0,
            retries: 0,
            updated: now,
            action: None,
            progress: None,
        }
    }

    /// How it ended, if it did.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Finished { outcome } => Some(outcome),
            Phase::Asked | Phase::Running => None,
        }
    }

    /// Takes the next event in. An event after the end is kept but reopens nothing.
    pub(super) fn apply(&mut self, event: &Event, now: Timestamp) {
        self.last_sequence = event.sequence;
        self.updated = now;
        if self.outcome().is_some() {
            return;
        }
        self.phase = Phase::Running;
        match &event.kind {
            EventKind::JobStarted { .. } => {
                self.action = None;
                self.progress = None;
            }
            EventKind::ActionStarted { name, .. } => {
                self.action = Some(name.clone());
                self.progress = None;
            }
            EventKind::Progress { progress, .. } => self.progress = Some(*progress),
            EventKind::JobFinished { outcome, .. } => {
                self.phase = Phase::Finished { outcome: outcome.clone() };
            }
            _ => {}
        }
    }

    /// Opens a finished run again.
    pub(super) fn ask_again(&mut self, now: Timestamp) {
        self.phase = Phase::Asked;
        self.retries += 1;
        self.updated = now;
        self.action = None;
        self.progress = None;
    }
}
