//! What a machine is to do now: what the operator wrote, against what happened.
//!
//! A job is offered to a machine until its run there has finished, in whatever way. From then on
//! it is offered again only when a person asks for a retry: an edited job file must never
//! reinstall a machine by itself. While a run goes on, an agent that comes back gets the job as
//! it is written now, so that a mistake can be mended under it.

use std::sync::Arc;

use nibs_job::{Job, Outcome};

use crate::catalog::{Catalog, MatchError};
use crate::store::{Run, Store, StoreError};
use crate::{Labels, MachineId};

/// What a machine is to do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Run this job.
    Run {
        /// The job.
        job: Arc<Job>,
        /// Sequence number for its next event.
        first_sequence: u64,
    },
    /// Nothing: its job has finished.
    Finished {
        /// Id of the job.
        job: String,
        /// How it ended.
        outcome: Outcome,
    },
    /// Nothing: there has been no job for it.
    Idle,
}

/// What a machine is to do now, and why its job is not known if it is not.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What to do. If the job is not known, this is what was last finished, or nothing.
    pub plan: Plan,
    /// Why the job is not known.
    pub problem: Option<MatchError>,
}

/// Decides. `labels` are what is known of the machine.
pub fn decide(
    catalog: &Catalog,
    store: &Store,
    machine: &MachineId,
    labels: &Labels,
) -> Result<Decision, StoreError> {
    Ok(decide_by(catalog, &store.runs(machine)?, labels))
}

/// Decides by the runs that a machine has had.
pub fn decide_by(catalog: &Catalog, runs: &[Run], labels: &Labels) -> Decision {
    let (job, problem) = match catalog.job_for(labels) {
        Ok(job) => (job, None),
        Err(problem) => (None, Some(problem)),
    };
    let run = match &job {
        Some(job) => runs.iter().find(|run| run.job == job.id),
        None => latest_finished(runs),
    };
    let finished = run.and_then(|run| Some((run.job.clone(), run.outcome()?.clone())));
    let plan = match (finished, job) {
        (Some((job, outcome)), _) => Plan::Finished { job, outcome },
        (None, Some(job)) => {
            Plan::Run { job, first_sequence: run.map_or(0, |run| run.last_sequence) + 1 }
        }
        (None, None) => Plan::Idle,
    };
    Decision { plan, problem }
}

fn latest_finished(runs: &[Run]) -> Option<&Run> {
    runs.iter().filter(|run| run.outcome().is_some()).max_by_key(|run| run.updated)
}

#[cfg(test)]
mod tests;
