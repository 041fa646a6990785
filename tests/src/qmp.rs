//! QEMU's machine protocol: one JSON object a line over a socket (`docs/interop/qmp-spec.txt`).

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU has to open its socket and to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two tries to connect.
const POLL: Duration = Duration::from_millis(10);

/// What a disk has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Writes, those of zeros among them.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} writes, {} flushes", self.writes, self.flushes)
    }
}

/// A connection to one QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
    events: Vec<String>,
}

impl Qmp {
    /// Connects to the socket at `path` as soon as it is there.
    pub fn connect(path: &Path) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < deadline => thread::sleep(POLL),
                Err(error) => {
                    return Err(error).with_context(|| format!("connecting to {}", path.display()));
                }
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut qmp = Self { stream: BufReader::new(stream), events: Vec::new() };
        qmp.read().context("reading QEMU's greeting")?;
        qmp.execute("qmp_capabilities")?;
        Ok(qmp)
    }

    /// Runs a command without arguments and gives what it returns.
    pub fn execute(&mut self, command: &str) -> Result<Value> {
        let mut line = json!({ "execute": command }).to_string();
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes()).context("writing to QEMU")?;
        loop {
            let mut answer = self.read().with_context(|| format!("waiting for {command}"))?;
            if let Some(event) = answer["event"].as_str() {
                self.events.push(event.to_owned());
            } else if answer.get("error").is_some() {
                bail!("QEMU refused {command}: {}", answer["error"]["desc"]);
            } else {
                return Ok(answer["return"].take());
            }
        }
    }

    /// State of the machine, as `running`, `internal-error`, `shutdown`.
    pub fn status(&mut self) -> Result<String> {
        let answer = self.execute("query-status")?;
        Ok(answer["status"].as_str().unwrap_or_default().to_owned())
    }

    /// What the disk of this node has done since the machine was switched on.
    pub fn disk_work(&mut self, node: &str) -> Result<Work> {
        let answer = self.execute("query-blockstats")?;
        let mut disks = answer.as_array().into_iter().flatten();
        let disk = disks
            .find(|disk| disk["node-name"] == node)
            .with_context(|| format!("QEMU has no disk {node}"))?;
        let count = |name: &str| disk["stats"][name].as_u64().unwrap_or_default();
        Ok(Work { writes: count("wr_operations"), flushes: count("flush_operations") })
    }

    /// How often the machine was reset since the connection was made.
    pub fn resets(&mut self) -> Result<usize> {
        self.status()?;
        Ok(self.events.iter().filter(|event| *event == "RESET").count())
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("QEMU closed the connection");
        }
        serde_json::from_str(&line).context("reading QEMU's JSON")
    }
}
