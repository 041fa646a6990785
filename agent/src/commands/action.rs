//! `nibs action`: one action, with the keys of a job file.

use std::path::PathBuf;

use nibs_job::{Action, DEFAULT_REPORT_TIMEOUT, DecodeError, Job, Task, dotted};

use super::{Exit, Usage, explain, local};
use crate::cli::ActionArgs;

/// `nibs action NAME --with k=v…`
pub(super) async fn action(
    args: ActionArgs,
    ca: Option<PathBuf>,
    json: bool,
) -> anyhow::Result<Exit> {
    let job = job(&args).map_err(|e| Usage(format!("action {}: {e}", args.name)))?;
    if args.explain {
        return explain::action(&job.actions[0], ca, json).await;
    }
    let journal = local::journal(&job.id, json, args.events.as_deref())?;
    local::run(&job, &journal, ca).await
}

/// A job of this one action.
fn job(args: &ActionArgs) -> Result<Job, DecodeError> {
    let task = Task::decode(&args.name, dotted::table(&args.with)?)?;
    let action =
        Action { name: args.name.clone(), task, timeout: args.timeout, retries: args.retries };
    Ok(Job {
        id: args.name.clone(),
        name: args.name.clone(),
        report_timeout: DEFAULT_REPORT_TIMEOUT,
        actions: vec![action],
    })
}
