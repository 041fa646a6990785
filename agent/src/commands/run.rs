//! `nibs run`: the job in a file.

use std::path::PathBuf;

use super::job_file::JobFile;
use super::{Exit, explain, local};
use crate::cli::RunArgs;
use crate::executor::refuse;

/// Stands in the events of a job that is so wrong that it has no id.
const NO_ID: &str = "job";

/// `nibs run JOBFILE`
pub(super) async fn run(args: RunArgs, ca: Option<PathBuf>, json: bool) -> anyhow::Result<Exit> {
    let file = JobFile::read(&args.job)?;
    match file.parse() {
        Ok(job) if args.explain => explain::job(&job, ca, json).await,
        Err(error) if args.explain => {
            eprintln!("nibs: {}: {error}", args.job.display());
            Ok(Exit::Failed)
        }
        Ok(job) => {
            let journal = local::journal(&job.id, json, args.events.as_deref())?;
            local::run(&job, &journal, ca).await
        }
        Err(error) => {
            let id = file.id();
            let id = id.as_deref().unwrap_or(NO_ID);
            let journal = local::journal(id, json, args.events.as_deref())?;
            refuse(&journal, format!("{}: {error}", args.job.display()));
            Ok(Exit::Failed)
        }
    }
}
