//! `nibs-server machines`

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use nibs_job::Progress;
use nibs_server::Timestamp;
use nibs_server::client::Client;
use nibs_server::view::{MachineView, State};

use super::text::{plain, table};
use super::wait_for;
use crate::cli::Machines;

const HEADLINE: [&str; 7] = ["MACHINE", "STATE", "JOB", "ACTION", "SEEN", "ADDRESS", "BOOTS"];

pub(crate) fn machines(options: Machines) -> Result<()> {
    let machines = wait_for(Client::new(options.server.url)?.machines())?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&machines).context("encoding machines")?);
        return Ok(());
    }
    let now = SystemTime::now();
    let rows: Vec<_> = machines.iter().map(|machine| row(machine, now)).collect();
    print!("{}", table(HEADLINE, &rows));
    for machine in &machines {
        let failure = machine.message.as_ref().filter(|_| machine.state != State::Succeeded);
        for remark in failure.into_iter().chain(&machine.problem) {
            println!("{}: {}", machine.id, plain(remark));
        }
    }
    Ok(())
}

fn row(machine: &MachineView, now: SystemTime) -> [String; 7] {
    let or_dash = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| plain(text));
    let mut action = or_dash(machine.action.as_ref());
    let fraction = machine.progress.as_ref().and_then(Progress::fraction);
    if let (State::Running, Some(fraction)) = (machine.state, fraction) {
        action.push_str(&format!(" {:.0} %", fraction * 100.0));
    }
    [
        machine.id.to_string(),
        machine.state.to_string(),
        or_dash(machine.job.as_ref()),
        action,
        ago(machine.last_seen, now),
        or_dash(machine.address.as_ref()),
        machine.boots.to_string(),
    ]
}

/// By this host's clock against the server's: a small difference is shown as no time at all.
fn ago(time: Timestamp, now: SystemTime) -> String {
    let seconds = now.duration_since(time.0).unwrap_or_default().as_secs();
    let seconds = match seconds {
        ..60 => seconds,
        60..3600 => seconds / 60 * 60,
        _ => seconds / 3600 * 3600,
    };
    format!("{} ago", humantime::format_duration(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_rounded_to_what_matters() {
        let now = SystemTime::now();
        for (seconds, text) in [(0, "0s ago"), (59, "59s ago"), (61, "1m ago"), (7300, "2h ago")] {
            assert_eq!(ago(Timestamp(now - Duration::from_secs(seconds)), now), text);
        }
        assert_eq!(ago(Timestamp(now + Duration::from_secs(5)), now), "0s ago");
    }
}
