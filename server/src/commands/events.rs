//! `nibs-server events`

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use nibs_job::{Event, EventKind, Size};
use nibs_server::MachineId;
use nibs_server::Timestamp;
use nibs_server::client::Client;
use serde::Deserialize;
use serde_json::Value;

use super::text::plain;
use super::wait_for;
use crate::cli::Events;

/// Between two looks for new events.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn events(options: Events) -> Result<()> {
    let Events { server, machine, job, follow, json } = options;
    let client = Client::new(server.url)?;
    let mut reader = Reader { client, machine, job, seen: BTreeMap::new() };
    wait_for(async {
        print(&reader.news().await?, json)?;
        if follow { follow_on(reader, json).await } else { Ok(()) }
    })
}

/// Goes on for ever: a server that restarts is no reason to end.
async fn follow_on(mut reader: Reader, json: bool) -> Result<()> {
    let mut is_away = false;
    loop {
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        match reader.news().await {
            Ok(news) => {
                print(&news, json)?;
                is_away = false;
            }
            Err(error) if !is_away => {
                eprintln!("nibs-server: {error:#}; trying again until it answers");
                is_away = true;
            }
            Err(_) => {}
        }
    }
}

/// Reads each event once.
struct Reader {
    client: Client,
    machine: Option<MachineId>,
    job: Option<String>,
    /// Highest sequence number read of each run.
    seen: BTreeMap<(MachineId, String), u64>,
}

/// An event of a machine.
struct News {
    /// When, as far as its place among others goes.
    at: SystemTime,
    machine: MachineId,
    event: Event,
    source: Value,
}

impl Reader {
    /// What came since the last call, in order of time, and each run's in its own order.
    async fn news(&mut self) -> Result<Vec<News>> {
        let mut news = Vec::new();
        for machine in self.client.machines().await? {
            if self.machine.as_ref().is_some_and(|wanted| *wanted != machine.id) {
                continue;
            }
            for run in machine.runs {
                if self.job.as_ref().is_some_and(|wanted| *wanted != run.job) {
                    continue;
                }
                let seen = self.seen.entry((machine.id.clone(), run.job.clone())).or_default();
                // A machine's clock may be set back; its events stay in their order all the same.
                let mut at = SystemTime::UNIX_EPOCH;
                while *seen < run.last_sequence {
                    let events = self.client.events(&machine.id, &run.job, *seen).await?;
                    if events.is_empty() {
                        break;
                    }
                    for source in events {
                        let event = Event::deserialize(&source).context("decoding an event")?;
                        *seen = event.sequence;
                        at = at.max(event.time);
                        news.push(News { at, machine: machine.id.clone(), event, source });
                    }
                }
            }
        }
        news.sort_by_key(|news| news.at);
        Ok(news)
    }
}

fn print(news: &[News], json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    for News { machine, event, source, .. } in news {
        let line = if json {
            let mut source = source.clone();
            source["machine"] = machine.as_str().into();
            source.to_string()
        } else {
            let time = Timestamp(event.time);
            format!("{time}  {machine}  {}  {}", event.job, plain(&describe(&event.kind)))
        };
        match writeln!(out, "{line}") {
            // `| head` has what it wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            written => written.context("writing to standard output")?,
        }
    }
    out.flush().context("writing to standard output")
}

/// What happened, as a line. Actions are counted from 1, as people do.
fn describe(kind: &EventKind) -> String {
    match kind {
        EventKind::JobStarted { name, actions, agent } => {
            format!("job started: {name}, {actions} actions, agent {agent}")
        }
        EventKind::ActionStarted { action, name, uses, attempt } => {
            let attempt = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            format!("action {} started: {name} ({uses}{attempt})", action + 1)
        }
        EventKind::Progress { action, progress } => {
            let done = progress.fraction().map(|done| format!("{:.0} %, ", done * 100.0));
            format!(
                "action {}: {}{} written, {}/s",
                action + 1,
                done.unwrap_or_default(),
                Size(progress.bytes_out),
                Size(progress.rate)
            )
        }
        EventKind::AttemptFailed { action, attempt, class, message, retry_in_seconds } => {
            let next = retry_in_seconds.map(|wait| format!("; again in {wait:.0} s"));
            format!(
                "action {} attempt {attempt} failed ({class}): {message}{}",
                action + 1,
                next.unwrap_or_default()
            )
        }
        EventKind::Reset { action, reason } => {
            format!("action {} starts over: {reason}", action + 1)
        }
        EventKind::Warning { message, .. } => format!("warning: {message}"),
        EventKind::Log { message, .. } => message.clone(),
        EventKind::ActionFinished { action, outcome, seconds } => {
            format!("action {} {outcome}, {seconds:.1} s", action + 1)
        }
        EventKind::JobFinished { outcome, seconds, peak_memory } => {
            let memory = peak_memory.map(|peak| format!(", peak memory {}", Size(peak)));
            format!("job {outcome}, {seconds:.1} s{}", memory.unwrap_or_default())
        }
        EventKind::Unknown => "something this version does not know; see --json".into(),
    }
}
