//! The two calls of the protocol, over HTTP.

use std::time::Duration;

use nibs_job::wire::{Ack, Hello, Offer, Problem, Report};
use reqwest::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::{CallError, Endpoint};

/// Longest answer that is read, bytes. A job may carry whole files.
const MAX_ANSWER: usize = 8 << 20;

/// Longest part of an answer that is no problem document to be quoted, characters.
const MAX_QUOTE: usize = 120;

/// How long a call may take that the control plane answers at once.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A control plane, as seen by one machine.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
    machine: String,
}

impl Client {
    /// `http` brings names, trust and connections; `machine` is this machine's id.
    pub fn new(http: reqwest::Client, endpoint: Endpoint, machine: String) -> Self {
        Self { http, endpoint, machine }
    }

    /// Where the control plane is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Id of this machine.
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// Asks for a job; none came if there is none within `wait`.
    ///
    /// The job is left undecoded, so that a bad one can be refused by its id.
    pub async fn next_job(
        &self,
        hello: &Hello,
        wait: Duration,
    ) -> Result<Option<Offer<Value>>, CallError> {
        let mut url = self.endpoint.join(["v1", "machines", &self.machine, "job"]);
        url.query_pairs_mut().append_pair("wait", &wait.as_secs().to_string());
        let answer = self.post(url, hello, wait + CALL_TIMEOUT).await?;
        match answer.status() {
            StatusCode::NO_CONTENT => Ok(None),
            _ => self.read(answer).await.map(Some),
        }
    }

    /// Delivers events of a job, in order.
    pub async fn report(&self, job: &str, report: &Report) -> Result<Ack, CallError> {
        let url = self.endpoint.join(["v1", "jobs", job, "events"]);
        let answer = self.post(url, report, CALL_TIMEOUT).await?;
        self.read(answer).await
    }

    async fn post(
        &self,
        url: Url,
        body: &impl Serialize,
        timeout: Duration,
    ) -> Result<Response, CallError> {
        let request = self.http.post(url).json(body).timeout(timeout);
        let answer = request.send().await.map_err(|e| CallError::unreachable(&self.endpoint, e))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = self.body(answer).await.unwrap_or_default();
        let problem = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => problem.error,
            Err(_) => quote(&body),
        };
        Err(CallError::Refused { endpoint: self.endpoint.clone(), status, problem })
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response) -> Result<T, CallError> {
        let body = self.body(answer).await?;
        serde_json::from_slice(&body).map_err(|e| self.garbled(e.to_string()))
    }

    async fn body(&self, mut answer: Response) -> Result<Vec<u8>, CallError> {
        let mut body = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(|e| CallError::unreachable(&self.endpoint, e))?
        {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(self.garbled(format!("it is longer than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn garbled(&self, why: String) -> CallError {
        CallError::Garbled { endpoint: self.endpoint.clone(), why }
    }
}

/// The start of an answer that some other server gave, on one line.
fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        [] => "it says nothing more; is this a Nibs control plane?".into(),
        words => words.join(" ").chars().take(MAX_QUOTE).collect(),
    }
}
