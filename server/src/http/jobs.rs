//! `/v1/jobs` and `/v1/matches`: definitions, and the events of their runs.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use nibs_job::wire::Ack;
use nibs_job::{Event, EventKind};
use serde::Deserialize;
use serde_json::Value;
use tracing::{info, warn};

use super::App;
use super::error::ApiError;
use super::extract::{InBody, InPath, InQuery, block};
use crate::catalog::{Match, Stored};
use crate::store::{Reported, Store};
use crate::view::{JobView, Jobs, StoredView};
use crate::{MachineId, Timestamp};

/// `GET /v1/jobs`: what is defined and what is broken. No parameters of actions: those may hold
/// secrets.
pub(super) async fn list(State(app): State<App>) -> Json<Jobs> {
    Json(Jobs::new(&app.live.current()))
}

/// `PUT /v1/jobs/{job}`
pub(super) async fn put_job(
    State(app): State<App>,
    InPath(id): InPath<String>,
    InBody(job): InBody<Value>,
) -> Result<Json<StoredView>, ApiError> {
    let Stored { job, findings } = block(move || app.live.put_job(&id, job)).await?;
    info!(job = job.id, "stored a job");
    let job = JobView::new(&job, format!("jobs/{}.json", job.id));
    Ok(Json(StoredView { job, findings }))
}

/// `PUT /v1/matches/{name}`
pub(super) async fn put_match(
    State(app): State<App>,
    InPath(name): InPath<String>,
    InBody(rule): InBody<Value>,
) -> Result<Json<Match>, ApiError> {
    let rule = block(move || app.live.put_match(&name, &rule)).await?;
    info!(name = rule.name, job = rule.job, "stored a match");
    Ok(Json(rule))
}

/// [`nibs_job::wire::Report`], with the events as they came: a newer agent's are kept whole.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RawReport {
    machine: MachineId,
    events: Vec<Value>,
}

/// `POST /v1/jobs/{job}/events`: stores a report and acknowledges what is on the disk.
pub(super) async fn report(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    InPath(job): InPath<String>,
    InBody(RawReport { machine, events }): InBody<RawReport>,
) -> Result<Json<Ack>, ApiError> {
    let events = decode(&job, events)?;
    let is_defined = app.live.current().job(&job).is_some();
    let (store, address) = (Arc::clone(&app.store), peer.ip().to_string());
    let acknowledged = block(move || {
        // A run outlives its definition: an agent may still work on what was removed.
        if !is_defined && store.run(&machine, &job)?.is_none() {
            return Err(ApiError::not_found(format!(
                "job {job:?} is not defined here and never ran on machine {machine}"
            )));
        }
        let acknowledged =
            store.append_events(&machine, &address, &job, &events, Timestamp::now())?;
        tell(&machine, &job, &events);
        Ok(acknowledged)
    });
    Ok(Json(Ack { acknowledged: acknowledged.await? }))
}

fn decode(job: &str, events: Vec<Value>) -> Result<Vec<Reported>, ApiError> {
    let mut last = 0;
    let mut reported = Vec::with_capacity(events.len());
    for (index, source) in events.into_iter().enumerate() {
        let wrong = |why: String| ApiError::bad_request(format!("events[{index}]: {why}"));
        let event = Event::deserialize(&source).map_err(|e| wrong(e.to_string()))?;
        if event.job != job {
            return Err(wrong(format!(
                "is of job {:?}; expected {job:?}, as in the URL",
                event.job
            )));
        }
        if event.sequence <= last {
            return Err(wrong(format!(
                "has sequence {}; expected more than {last}: they are to come in order, from 1",
                event.sequence
            )));
        }
        last = event.sequence;
        reported.push(Reported { event, source });
    }
    Ok(reported)
}

/// Begin and end of a job are of note for those who read the log; the rest is in the store.
fn tell(machine: &MachineId, job: &str, events: &[Reported]) {
    for Reported { event, .. } in events {
        match &event.kind {
            EventKind::JobStarted { .. } => info!(%machine, job, "the job started"),
            EventKind::JobFinished { outcome, .. } if outcome.is_success() => {
                info!(%machine, job, outcome = ?outcome.to_string(), "the job finished");
            }
            EventKind::JobFinished { outcome, .. } => {
                warn!(%machine, job, outcome = ?outcome.to_string(), "the job finished");
            }
            _ => {}
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Since {
    machine: Option<MachineId>,
    #[serde(default)]
    after: u64,
}

/// `GET /v1/jobs/{job}/events`
pub(super) async fn events(
    State(app): State<App>,
    InPath(job): InPath<String>,
    InQuery(Since { machine, after }): InQuery<Since>,
) -> Result<Json<Vec<Value>>, ApiError> {
    let is_defined = app.live.current().job(&job).is_some();
    let events = block(move || {
        let Some(machine) =
            machine.map_or_else(|| only_machine(&app.store, &job), |m| Ok(Some(m)))?
        else {
            return if is_defined { Ok(Vec::new()) } else { Err(unknown(&job)) };
        };
        if !is_defined && app.store.run(&machine, &job)?.is_none() {
            return Err(unknown(&job));
        }
        Ok::<_, ApiError>(app.store.events(&machine, &job, after)?)
    });
    Ok(Json(events.await?))
}

fn unknown(job: &str) -> ApiError {
    ApiError::not_found(format!(
        "job {job:?} is not defined here; GET /v1/jobs lists those that are"
    ))
}

/// The machine on which a job has run, unless there are several.
fn only_machine(store: &Store, job: &str) -> Result<Option<MachineId>, ApiError> {
    let mut machines = store.machines_of(job)?;
    if machines.len() > 1 {
        let names: Vec<&str> = machines.iter().map(MachineId::as_str).collect();
        return Err(ApiError::conflict(format!(
            "job {job:?} has run on several machines; add machine= with one of {}",
            names.join(", ")
        )));
    }
    Ok(machines.pop())
}
