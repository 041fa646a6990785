//! A control plane in this process that misbehaves as it is told, for the agent's tests.

#![allow(dead_code)] // Each test file uses a part of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use nibs_agent::control::Client;
use nibs_job::Event;
use nibs_job::wire::{Ack, Problem, Report};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the next delivery of events meets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mood {
    /// Stored, but the answer never arrives: the agent has to send it again.
    StoreAndHangUp,
    /// Not stored, answered with this status.
    Refuse(u16),
    /// Only this many events of the batch are stored and acknowledged.
    StoreOnly(usize),
    /// Answered with something that is no acknowledgement.
    Babble,
}

/// What the control plane keeps, across its restarts.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Events as they were stored, in that order.
    pub events: Vec<Event>,
    /// Sequence numbers of each delivery that came, stored or not.
    pub deliveries: Vec<Vec<u64>>,
    /// What the next deliveries meet; after that all are stored.
    pub moods: VecDeque<Mood>,
    /// The job that is offered until it has finished.
    pub job: Option<Value>,
    /// Events whose log message holds this make the whole batch unreadable.
    pub indigestible: Option<&'static str>,
    /// How often a job was asked for.
    pub asked: usize,
}

/// A control plane that can be stopped and started at the same address.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    pub store: Arc<Mutex<Store>>,
    pub address: SocketAddr,
    running: Option<JoinHandle<()>>,
}

type Shared = State<Arc<Mutex<Store>>>;

impl ControlPlane {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut plane = Self { store: Arc::default(), address, running: None };
        plane.serve(listener);
        plane
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it: connections break, and new ones are refused.
    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
    }

    /// Starts it again with what it stored.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let app = Router::new()
            .route("/v1/machines/{machine}/job", post(offer))
            .route("/v1/jobs/{job}/events", post(events))
            .with_state(Arc::clone(&self.store));
        self.running = Some(tokio::spawn(async move {
            axum::serve(listener, app).await.unwrap();
        }));
    }

    /// A client of it, as the agent makes one.
    pub(crate) fn client(&self) -> Client {
        Client::new(http_client(), self.url().parse().unwrap(), "52:54:00:00:00:01".into())
    }

    /// Sequence numbers as they are stored.
    pub(crate) fn stored(&self) -> Vec<u64> {
        self.store.lock().unwrap().events.iter().map(|event| event.sequence).collect()
    }
}

pub(crate) fn http_client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let options = nibs_actions::http::Options {
            user_agent: "test".into(),
            ..nibs_actions::http::Options::default()
        };
        nibs_actions::http::client(&options).unwrap();
    });
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

async fn offer(State(store): Shared) -> Response {
    let (job, first_sequence) = {
        let mut store = store.lock().unwrap();
        store.asked += 1;
        let last = store.events.last();
        let has_finished =
            last.is_some_and(|event| matches!(event.kind, nibs_job::EventKind::JobFinished { .. }));
        let next = last.map_or(1, |event| event.sequence + 1);
        (store.job.clone().filter(|_| !has_finished), next)
    };
    match job {
        Some(job) => Json(json!({"job": job, "first-sequence": first_sequence})).into_response(),
        None => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            StatusCode::NO_CONTENT.into_response()
        }
    }
}

async fn events(
    State(store): Shared,
    Path(_job): Path<String>,
    Json(report): Json<Report>,
) -> Response {
    let hang_up = {
        let mut store = store.lock().unwrap();
        store.deliveries.push(report.events.iter().map(|event| event.sequence).collect());
        if let Some(word) = store.indigestible
            && report.events.iter().any(|event| format!("{:?}", event.kind).contains(word))
        {
            return problem(422, "cannot read an event");
        }
        let mood = store.moods.pop_front();
        match mood {
            Some(Mood::Refuse(status)) => return problem(status, "not now"),
            Some(Mood::Babble) => return "hello?".into_response(),
            _ => {}
        }
        let take = match mood {
            Some(Mood::StoreOnly(count)) => count,
            _ => report.events.len(),
        };
        let last = store.events.last().map_or(0, |event| event.sequence);
        let new = report.events.into_iter().take(take).filter(|event| event.sequence > last);
        store.events.extend(new);
        matches!(mood, Some(Mood::StoreAndHangUp))
    };
    if hang_up {
        // The connection breaks before the answer: hyper drops it when the handler panics.
        panic!("hanging up, as told");
    }
    let acknowledged = store.lock().unwrap().events.last().map_or(0, |event| event.sequence);
    Json(Ack { acknowledged }).into_response()
}

fn problem(status: u16, error: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, Json(Problem { error: error.into() })).into_response()
}
