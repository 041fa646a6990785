//! `nibs post-mortem`: the machine's init reports the job of an agent that died.

use std::path::PathBuf;
use std::sync::Arc;

use nibs_job::{Class, EventKind, Outcome};
use tokio::time::Instant;

use super::here::Here;
use super::{Exit, Usage};
use crate::cli::PostMortemArgs;
use crate::control::{Client, Endpoint, EndpointError, RunningJob};
use crate::journal::{Journal, Outlet};
use crate::reporter::{Flushed, Pace, Reporter};
use crate::view;

/// `nibs post-mortem`: done if there was no job, or its end is acknowledged.
pub(super) async fn post_mortem(args: PostMortemArgs, ca: Option<PathBuf>) -> anyhow::Result<Exit> {
    let Some(running) = RunningJob::read(&args.state)? else { return Ok(Exit::Done) };
    let endpoint: Endpoint =
        running.control.parse().map_err(|e: EndpointError| Usage(e.to_string()))?;
    let client = Client::new(Here::look(ca).http()?, endpoint, running.machine);
    let reporter = Arc::new(Reporter::start(client, &running.job, Pace::default()));
    let outlets = vec![view::for_people(), Arc::clone(&reporter) as Arc<dyn Outlet>];
    Journal::new(&running.job, running.next_sequence, outlets).record(EventKind::JobFinished {
        outcome: Outcome::Failed {
            class: Class::Internal,
            message: format!("the agent died while the job ran: {}", args.reason),
        },
        seconds: 0.0,
        peak_memory: None,
    });
    let flushed = reporter.flush(Instant::now().checked_add(args.timeout.0)).await;
    Ok(if flushed == Flushed::Acknowledged { Exit::Done } else { Exit::Failed })
}
