//! The control plane of the lab: the real `nibs-server`, and what the lab asks of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nibs_job::wire::Problem;
use nibs_job::{Event, Job};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::artefacts::Artefacts;
use crate::network::GATEWAY;
use crate::process::Daemon;

/// Port of the server on the gateway.
const PORT: u16 = 8080;
/// How long the server has to answer for the first time.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries to reach a server that starts.
const POLL: Duration = Duration::from_millis(20);
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A running `nibs-server` with its data and assets in the lab's directory.
#[derive(Debug)]
pub struct ControlPlane {
    program: PathBuf,
    directory: PathBuf,
    daemon: Daemon,
    http: reqwest::Client,
    runtime: Runtime,
}

impl ControlPlane {
    /// Starts the server; its data is `directory/data`, what it serves `directory/assets`, its
    /// log `directory/server.log`.
    pub fn start(artefacts: &Artefacts, directory: &Path) -> Result<Self> {
        for file in [artefacts.kernel(), artefacts.initramfs()] {
            link(&file, &directory.join("assets/hook"))?;
        }
        // The server is plain HTTP; a client wants to know its TLS all the same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder()
            .tls_certs_only([])
            .no_proxy()
            .timeout(CALL_TIMEOUT)
            .build()
            .context("making an HTTP client")?;
        let program = artefacts.server();
        let mut plane = Self {
            daemon: spawn(&program, directory)?,
            program,
            directory: directory.to_owned(),
            http,
            runtime: Builder::new_current_thread().enable_all().build()?,
        };
        plane.wait_until_up()?;
        Ok(plane)
    }

    /// What an agent is to be told.
    pub fn base() -> String {
        url("")
    }

    /// What iPXE is to load.
    pub fn boot_script() -> String {
        url("/boot.ipxe")
    }

    /// Serves a disk image and gives its URL.
    pub fn serve(&self, image: &Path) -> Result<String> {
        let name = link(image, &self.directory.join("assets/images"))?;
        Ok(url(&format!("/assets/images/{name}")))
    }

    /// Where an asset of this path is.
    pub fn asset(path: &str) -> String {
        url(&format!("/assets/{path}"))
    }

    /// Serves bytes as an asset of this path.
    pub fn publish(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = self.directory.join("assets").join(path);
        let folder = file.parent().context("an asset is in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        fs::write(&file, bytes).with_context(|| format!("writing {}", file.display()))
    }

    /// Serves the asset of this path no more.
    pub fn withdraw(&self, path: &str) -> Result<()> {
        let file = self.directory.join("assets").join(path);
        fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))
    }

    /// Stores a job and hands it to the machine of this id.
    pub fn assign(&self, job: &Job, machine: &str) -> Result<()> {
        let body = serde_json::to_value(job).context("encoding the job")?;
        self.call(&Method::PUT, &format!("/v1/jobs/{}", job.id), Some(&body))?;
        let rule = json!({ "selector": { "mac": machine }, "job": job.id });
        self.call(&Method::PUT, &format!("/v1/matches/{}", job.id), Some(&rule)).map(drop)
    }

    /// The job's events after sequence number `after`, in order.
    pub fn events(&self, job: &str, after: u64) -> Result<Vec<Event>> {
        let path = format!("/v1/jobs/{job}/events?after={after}");
        let answer = self.call(&Method::GET, &path, None)?;
        serde_json::from_value(answer).context("decoding events")
    }

    /// Fails if the server has ended.
    pub fn check(&mut self) -> Result<()> {
        self.daemon.check()
    }

    /// Kills the server at once and starts it anew on the same data.
    pub fn crash(&mut self) -> Result<()> {
        self.daemon.kill()?;
        self.daemon = spawn(&self.program, &self.directory)?;
        self.wait_until_up()
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_PATIENCE;
        while let Err(error) = self.call(&Method::GET, "/v1/machines", None) {
            self.daemon.check()?;
            if Instant::now() > deadline {
                return Err(error.context("waiting for nibs-server"));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = self.http.request(method.clone(), url(path));
        if let Some(body) = body {
            request = request.json(body);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.with_context(|| format!("{method} {path}"))?;
            let status = answer.status();
            let bytes = answer.bytes().await.with_context(|| format!("{method} {path}"))?;
            if !status.is_success() {
                let why = serde_json::from_slice(&bytes).map_or_else(
                    |_| String::from_utf8_lossy(&bytes).into_owned(),
                    |problem: Problem| problem.error,
                );
                bail!("{method} {path}: {status}: {why}");
            }
            if status == StatusCode::NO_CONTENT || bytes.is_empty() {
                return Ok(Value::Null);
            }
            serde_json::from_slice(&bytes).with_context(|| format!("{method} {path}"))
        })
    }
}

fn spawn(program: &Path, directory: &Path) -> Result<Daemon> {
    let mut command = Command::new(program);
    command
        .arg("serve")
        .args(["--address", &format!("{GATEWAY}:{PORT}")])
        .args(["--data".as_ref(), directory.join("data").as_os_str()])
        .args(["--assets".as_ref(), directory.join("assets").as_os_str()]);
    Daemon::spawn("nibs-server", &mut command, &directory.join("server.log"))
}

/// Links a file into a folder that is served, and gives its name there.
fn link(file: &Path, folder: &Path) -> Result<String> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let name = file.file_name().context("a served file has a name")?;
    let link = folder.join(name);
    // A copy where a hard link cannot be: a server need not follow symbolic ones.
    if fs::hard_link(file, &link).is_err() {
        fs::copy(file, &link).with_context(|| format!("copying {}", file.display()))?;
    }
    Ok(name.to_string_lossy().into_owned())
}

fn url(path: &str) -> String {
    format!("http://{GATEWAY}:{PORT}{path}")
}
