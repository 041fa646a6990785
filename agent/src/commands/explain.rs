//! `--explain`: what would be done to which disk and why it may, without doing any of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use nibs_actions::stream_image::Explanation;
use nibs_actions::{Sink, Stop};
use nibs_job::{Action, Job, LogLevel, Progress};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::here::Here;
use super::signals::cancelled_by_signals;
use super::{Exit, Usage, explanation};

/// One action of a job, explained if it can be.
#[derive(Serialize)]
struct Explained<'a> {
    action: &'a str,
    explanation: Option<Explanation>,
}

/// `nibs action NAME --explain`
pub(super) async fn action(
    action: &Action,
    ca: Option<PathBuf>,
    json: bool,
) -> anyhow::Result<Exit> {
    let cancel = cancelled_by_signals()?;
    let Some(explanation) = explain(action, &Here::look(ca), &cancel).await? else {
        let name = &action.name;
        let cause = format!(
            "action {name}: it cannot tell ahead what it does; stream-image and bottlerocket can"
        );
        return Err(Usage(cause).into());
    };
    if json {
        print_json(&explanation)?;
    } else {
        print!("{}", explanation::page(&explanation));
    }
    Ok(verdict([&explanation]))
}

/// `nibs run --explain JOBFILE`
pub(super) async fn job(job: &Job, ca: Option<PathBuf>, json: bool) -> anyhow::Result<Exit> {
    let (cancel, here) = (cancelled_by_signals()?, Here::look(ca));
    let mut all = Vec::new();
    for action in &job.actions {
        let explanation = explain(action, &here, &cancel).await?;
        all.push(Explained { action: &action.name, explanation });
    }
    if json {
        print_json(&all)?;
    } else {
        for Explained { action, explanation } in &all {
            println!("== {action}");
            match explanation {
                Some(explanation) => println!("{}", explanation::page(explanation)),
                None => println!("It cannot tell ahead what it does.\n"),
            }
        }
    }
    Ok(verdict(all.iter().filter_map(|explained| explained.explanation.as_ref())))
}

async fn explain(
    action: &Action,
    here: &Here,
    cancel: &CancellationToken,
) -> anyhow::Result<Option<Explanation>> {
    let deadline = action.timeout.and_then(|timeout| Instant::now().checked_add(timeout.0));
    let stop = Stop { cancel: cancel.clone(), deadline };
    let context = here.context(stop, Arc::new(Said))?;
    let task = action.task.clone();
    let explained =
        tokio::task::spawn_blocking(move || nibs_actions::explain(&task, &context)).await;
    let explained = explained.context("waiting for the explanation")?;
    explained.with_context(|| format!("explaining {}", action.name))
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("writing the explanation as JSON")?;
    println!("{text}");
    Ok(())
}

fn verdict<'a>(explanations: impl IntoIterator<Item = &'a Explanation>) -> Exit {
    let would_start = explanations.into_iter().all(|explained| explained.refusals.is_empty());
    if would_start { Exit::Done } else { Exit::Failed }
}

/// Says on the log what an explanation itself does not hold: how it goes while a server is slow.
struct Said;

impl Sink for Said {
    fn progress(&self, _: Progress) {}

    fn reset(&self, reason: String) {
        warn!("{reason}");
    }

    fn warning(&self, message: String) {
        warn!("{message}");
    }

    fn log(&self, level: LogLevel, message: String) {
        match level {
            LogLevel::Info => info!("{message}"),
            LogLevel::Debug | LogLevel::Unknown => debug!("{message}"),
        }
    }
}
