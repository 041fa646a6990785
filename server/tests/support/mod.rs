//! A server on a free port of the loopback, and clients for it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nibs_job::wire::{Hello, Report};
use nibs_job::{Event, EventKind, Facts, Outcome};
use nibs_server::http::{Config, Server};
use nibs_server::ipxe::{Agent, DEFAULT_INITRAMFS, DEFAULT_KERNEL, Parameters};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const MACHINE: &str = "52:54:00:12:34:56";

/// A data directory and the server on it.
pub(crate) struct Plane {
    pub(crate) data: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<std::io::Result<()>>,
}

impl Plane {
    pub(crate) async fn start(data: &Path) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = Config {
            data: data.to_owned(),
            address: "127.0.0.1:0".parse().unwrap(),
            assets: data.join("assets"),
            url: None,
            agent: Agent {
                kernel: DEFAULT_KERNEL.parse().unwrap(),
                initramfs: DEFAULT_INITRAMFS.parse().unwrap(),
                parameters: Parameters::default(),
            },
        };
        let server = Server::bind(config).await.unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        Self { data: data.to_owned(), address, http, stop: Some(stop), ended }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Response {
        let mut request = self.http.request(method, self.url(path));
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        self.get(path).await.text().await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        self.get(path).await.json().await.unwrap()
    }

    /// Stores a job of one action for a machine.
    pub(crate) async fn assign(&self, job: &str, machine: &str) {
        let body = json!({ "name": job, "actions": [{ "uses": "reboot" }] });
        let stored = self.call(Method::PUT, &format!("/v1/jobs/{job}"), Some(body)).await;
        assert_eq!(stored.status(), 200, "{}", stored.text().await.unwrap());
        let rule = json!({ "selector": { "mac": machine }, "job": job });
        let name = machine.replace(':', "-");
        let path = format!("/v1/matches/{job}-{name}");
        assert_eq!(self.call(Method::PUT, &path, Some(rule)).await.status(), 200);
    }

    pub(crate) async fn ask(&self, machine: &str, wait: u64) -> Response {
        let hello = Hello { agent: "0.1.0".into(), facts: Facts::default() };
        let path = format!("/v1/machines/{machine}/job?wait={wait}");
        self.call(Method::POST, &path, Some(serde_json::to_value(hello).unwrap())).await
    }

    pub(crate) async fn report(&self, machine: &str, job: &str, events: Vec<Event>) -> Response {
        let report = Report { machine: machine.into(), events };
        let path = format!("/v1/jobs/{job}/events");
        self.call(Method::POST, &path, Some(serde_json::to_value(report).unwrap())).await
    }

    /// Sends bytes that no well-behaved client would, and gives the whole answer.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Ends in good order.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.ended.await.unwrap().unwrap();
    }

    pub(crate) fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.data.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
}

pub(crate) fn event(job: &str, sequence: u64, kind: EventKind) -> Event {
    Event { job: job.into(), sequence, time: SystemTime::now(), kind }
}

pub(crate) fn started(job: &str, sequence: u64) -> Event {
    let kind = EventKind::JobStarted { name: job.into(), actions: 1, agent: "0.1.0".into() };
    event(job, sequence, kind)
}

pub(crate) fn finished(job: &str, sequence: u64, outcome: Outcome) -> Event {
    event(job, sequence, EventKind::JobFinished { outcome, seconds: 1.0, peak_memory: None })
}

pub(crate) async fn problem(response: Response) -> String {
    let text = response.text().await.unwrap();
    let problem: nibs_job::wire::Problem =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text:?} is no problem: {e}"));
    problem.error
}
