//! Running a job without a control plane, for `nibs run` and `nibs action`.

use std::fs::File;
use std::io::stdout;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nibs_actions::power;
use nibs_job::Job;
use tracing::info;

use super::here::Here;
use super::signals::cancelled_by_signals;
use super::{Exit, Usage};
use crate::executor::{Executor, Limits};
use crate::journal::{Journal, Outlet};
use crate::view::{self, JsonLines};

/// Sequence number of the first event of a job that no control plane knows.
const FIRST_SEQUENCE: u64 = 1;

/// The journal of a job that is shown and, if asked for, written as JSON lines.
pub(super) fn journal(id: &str, json: bool, events: Option<&Path>) -> Result<Arc<Journal>, Usage> {
    let to_stdout = events == Some(Path::new("-"));
    let mut outlets: Vec<Arc<dyn Outlet>> = Vec::new();
    if !json {
        outlets.push(view::for_people());
    }
    if json || to_stdout {
        outlets.push(Arc::new(JsonLines::new(stdout())));
    }
    if let Some(path) = events.filter(|_| !to_stdout) {
        let file = File::create(path)
            .map_err(|e| Usage(format!("creating the events file {}: {e}", path.display())))?;
        outlets.push(Arc::new(JsonLines::new(file)));
    }
    Ok(Arc::new(Journal::new(id, FIRST_SEQUENCE, outlets)))
}

/// Runs the job on this machine, then changes its power if the job says so.
pub(super) async fn run(
    job: &Job,
    journal: &Arc<Journal>,
    ca: Option<PathBuf>,
) -> anyhow::Result<Exit> {
    let cancel = cancelled_by_signals()?;
    let runner = Here::look(ca).runner()?;
    let ended = Executor::new(Arc::new(runner), Limits::default(), cancel).run(job, journal).await;
    if let Some(change) = ended.then {
        info!("the job is done, and asks for: {change}");
        // Who runs this process as an action has to hear of its end before the machine goes.
        if let Some(asked) = power::ask_hook(change) {
            asked?;
            return Ok(Exit::Done);
        }
        let Err(error) = power::perform(change);
        return Err(error.into());
    }
    Ok(if ended.outcome.is_success() { Exit::Done } else { Exit::Failed })
}
