//! The command line's side of the HTTP interface.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nibs_job::wire::Problem;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::MachineId;
use crate::view::{MachineView, Retried};

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A running server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

impl Client {
    /// The server at this URL. Nothing is sent yet.
    pub fn new(base: Url) -> Result<Self> {
        if !matches!(base.scheme(), "http" | "https") {
            bail!("the server's URL is {base}; expected such as http://10.0.0.1:8080");
        }
        // Another provider installed by the caller is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy();
        if base.scheme() == "http" {
            // So that a host without a certificate store can use what needs none.
            http = http.tls_certs_only([]);
        }
        Ok(Self { http: http.build().context("making an HTTP client")?, base })
    }

    /// All machines.
    pub async fn machines(&self) -> Result<Vec<MachineView>> {
        self.call(Method::GET, &["v1", "machines"], &[]).await
    }

    /// Events of a run after a sequence number, as the agent sent them; not always all at once.
    pub async fn events(&self, machine: &MachineId, job: &str, after: u64) -> Result<Vec<Value>> {
        let query = [("machine", machine.as_str()), ("after", &after.to_string())];
        self.call(Method::GET, &["v1", "jobs", job, "events"], &query).await
    }

    /// Asks for a finished job once more; without a job the one that the machine is given.
    pub async fn retry(&self, machine: &MachineId, job: Option<&str>) -> Result<Retried> {
        let query: Vec<_> = job.map(|job| ("job", job)).into_iter().collect();
        self.call(Method::POST, &["v1", "machines", machine.as_str(), "retry"], &query).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let doing = || format!("asking {} for {}", self.name(), path.join("/"));
        // The URL may have a password in it.
        let answer = self.http.request(method, url).send().await;
        let answer = answer.map_err(reqwest::Error::without_url).with_context(doing)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(reqwest::Error::without_url).with_context(doing)?;
        if !status.is_success() {
            let problem = serde_json::from_slice(&body)
                .map_or_else(|_| status.to_string(), |problem: Problem| problem.error);
            bail!("{problem}");
        }
        serde_json::from_slice(&body).with_context(|| {
            format!("decoding the answer of {}: is it a nibs-server?", self.name())
        })
    }

    /// The server without user and password.
    fn name(&self) -> String {
        self.base.origin().ascii_serialization()
    }
}
