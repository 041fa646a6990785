//! `/v1/machines`: agents ask for work here, operators look and ask for retries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use nibs_job::wire::{Hello, Offer};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::{info, warn};

use super::error::ApiError;
use super::extract::{InBody, InPath, InQuery, block};
use super::{App, stopped};
use crate::control::{self, Plan};
use crate::store::StoreError;
use crate::view::{MachineDetail, MachineView, Retried};
use crate::{MachineId, Timestamp};

/// Longest time that a question for work is held open.
const MAX_WAIT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
pub(super) struct Patience {
    /// Seconds.
    #[serde(default)]
    wait: u64,
}

/// `POST /v1/machines/{machine}/job`: the job for this machine, once there is one.
pub(super) async fn ask(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    InPath(id): InPath<MachineId>,
    InQuery(Patience { wait }): InQuery<Patience>,
    InBody(hello): InBody<Hello>,
) -> Result<Response, ApiError> {
    let deadline = Instant::now() + Duration::from_secs(wait).min(MAX_WAIT);
    // Before the first look, so that no change falls between a look and the wait for the next.
    let mut changes = app.live.subscribe();
    let (store, address) = (Arc::clone(&app.store), peer.ip().to_string());
    let machine = {
        let id = id.clone();
        let record =
            move || store.record_hello(&id, &address, &hello.agent, &hello.facts, Timestamp::now());
        block(record).await?
    };
    let labels = Arc::new(machine.labels());
    let mut told = None;
    loop {
        let catalog = Arc::clone(&changes.borrow_and_update());
        let (store, labels, machine) = (Arc::clone(&app.store), Arc::clone(&labels), id.clone());
        let decision = block(move || control::decide(&catalog, &store, &machine, &labels)).await?;
        if let Plan::Run { job, first_sequence } = decision.plan {
            info!(machine = %id, job = job.id, first_sequence, "offering a job");
            return Ok(Json(Offer { job: &*job, first_sequence }).into_response());
        }
        if decision.problem != told {
            if let Some(problem) = &decision.problem {
                warn!(machine = %id, "{problem}");
            }
            told = decision.problem;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { break },
            () = tokio::time::sleep_until(deadline) => break,
            () = stopped(app.stopping.clone()) => break,
        }
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
pub(super) struct Which {
    job: Option<String>,
}

/// `POST /v1/machines/{machine}/retry`: offer a finished job once more.
pub(super) async fn retry(
    State(app): State<App>,
    InPath(id): InPath<MachineId>,
    InQuery(Which { job }): InQuery<Which>,
) -> Result<Json<Retried>, ApiError> {
    let catalog = app.live.current();
    let (store, machine) = (Arc::clone(&app.store), id.clone());
    let job = block(move || {
        let known = store.machine(&machine)?.ok_or_else(|| unknown(&machine))?;
        let job = match job {
            Some(job) => job,
            None => finished_job(&control::decide(&catalog, &store, &machine, &known.labels())?)?,
        };
        store.retry(&machine, &job, Timestamp::now())?;
        Ok::<_, ApiError>(job)
    })
    .await?;
    info!(machine = %id, job, "a retry was asked for");
    app.live.wake();
    Ok(Json(Retried { machine: id, job }))
}

fn finished_job(decision: &control::Decision) -> Result<String, ApiError> {
    if let Some(problem) = &decision.problem {
        return Err(ApiError::conflict(format!("{problem}; or name the job to be retried")));
    }
    match &decision.plan {
        Plan::Finished { job, .. } => Ok(job.clone()),
        Plan::Run { job, .. } => Err(ApiError::conflict(format!(
            "nothing to retry: job {} has not finished on this machine, so it is still offered",
            job.id
        ))),
        Plan::Idle => Err(ApiError::conflict("nothing to retry: this machine had no job")),
    }
}

fn unknown(id: &MachineId) -> ApiError {
    ApiError::not_found(format!("machine {id} was never seen; GET /v1/machines lists those known"))
}

/// `GET /v1/machines`
pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<MachineView>>, ApiError> {
    let catalog = app.live.current();
    let machines = block(move || {
        let known = app.store.machines()?.into_iter();
        Ok::<_, StoreError>(known.map(|(m, runs)| MachineView::new(&catalog, &m, &runs)).collect())
    });
    Ok(Json(machines.await?))
}

/// `GET /v1/machines/{machine}`
pub(super) async fn one(
    State(app): State<App>,
    InPath(id): InPath<MachineId>,
) -> Result<Json<MachineDetail>, ApiError> {
    let catalog = app.live.current();
    let detail = block(move || {
        let machine = app.store.machine(&id)?.ok_or_else(|| unknown(&id))?;
        let view = MachineView::new(&catalog, &machine, &app.store.runs(&id)?);
        Ok::<_, ApiError>(MachineDetail { view, agent: machine.agent, facts: machine.facts })
    });
    Ok(Json(detail.await?))
}
