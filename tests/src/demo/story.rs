//! What happens, told as it happens: milestones from the console, the rest from the events that
//! the server has.

use std::io::{IsTerminal, Write, stdout};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nibs_job::{Event, EventKind, Job, Outcome, Progress};

use crate::machine::Machine;
use crate::rack::Rack;
use crate::report::Stage;

/// Between two looks at console and server.
const POLL: Duration = Duration::from_millis(100);
/// Between two lines of progress where there is no terminal.
const PROGRESS_LINES: Duration = Duration::from_secs(3);

/// What the console says, and what that means. In the order in which a machine gets there; each
/// is told once for each start of the machine.
const MILESTONES: [(&str, &str); 4] = [
    (">>Start PXE over IPv4", "firmware: booting from the network"),
    ("iPXE initialising devices", "iPXE: started over TFTP"),
    ("boot.ipxe... ok", "iPXE: has the boot script"),
    ("Linux version", "kernel: started"),
];

/// How following a machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The installed system is up.
    Up,
    /// The job did not succeed.
    JobFailed,
    /// Neither happened in time.
    TimedOut,
}

/// The story of one job on one machine.
#[derive(Debug)]
pub struct Story {
    job: Job,
    events: Vec<Event>,
    stages: Vec<Stage>,
    start: Instant,
    line: usize,
    installed_from: Option<usize>,
    progress_told: Option<Instant>,
}

impl Story {
    /// A story that starts now, at power-on.
    pub fn new(job: &Job) -> Self {
        Self {
            job: job.clone(),
            events: Vec::new(),
            stages: Vec::new(),
            start: Instant::now(),
            line: 0,
            installed_from: None,
            progress_told: None,
        }
    }

    /// All events that the server has of the job.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What was reached when.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// Number of the console's first line that was printed after the job had ended.
    pub fn installed_from(&self) -> usize {
        self.installed_from.unwrap_or(self.line)
    }

    /// Follows the machine until its console says `up` after the end of the job, or until it is
    /// plain that it will not.
    pub fn follow(
        &mut self,
        rack: &mut Rack,
        machine: &mut Machine,
        up: &str,
        patience: Duration,
    ) -> Result<Ending> {
        while self.start.elapsed() < patience {
            self.look(rack, machine)?;
            if self.outcome().is_some_and(|outcome| !outcome.is_success()) {
                return Ok(Ending::JobFailed);
            }
            if let Some(from) = self.installed_from
                && machine.console.lines(from).iter().any(|line| line.text.contains(up))
            {
                self.tell("installed system: up".to_owned());
                return Ok(Ending::Up);
            }
            thread::sleep(POLL);
        }
        Ok(Ending::TimedOut)
    }

    /// Follows the machine until `done` is true of the story.
    pub fn follow_until(
        &mut self,
        rack: &mut Rack,
        machine: &mut Machine,
        patience: Duration,
        done: impl Fn(&Self, &Machine) -> bool,
    ) -> Result<()> {
        while !done(self, machine) {
            if self.start.elapsed() > patience {
                bail!("not within {patience:?}; console:\n{}", machine.console.last_lines());
            }
            thread::sleep(POLL);
            self.look(rack, machine)?;
        }
        Ok(())
    }

    /// How the job ended, as the server has it.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.events.iter().find_map(|event| match &event.kind {
            EventKind::JobFinished { outcome, .. } => Some(outcome),
            _ => None,
        })
    }

    /// Tells one thing that happened now.
    pub fn tell(&mut self, what: String) {
        let seconds = self.start.elapsed().as_secs_f64();
        self.clear_progress();
        // A reader that has gone away is no reason to stop.
        let _ = writeln!(stdout(), "{seconds:7.1}s  {what}");
        self.stages.push(Stage { name: what, seconds });
    }

    /// Tells what is new.
    fn look(&mut self, rack: &mut Rack, machine: &mut Machine) -> Result<()> {
        machine.check()?;
        rack.check()?;
        for line in machine.console.lines(self.line) {
            self.line += 1;
            if let Some((_, what)) = MILESTONES.iter().find(|(text, _)| line.text.contains(text)) {
                self.tell((*what).to_owned());
            }
        }
        let after = self.events.last().map_or(0, |event| event.sequence);
        for event in rack.control.events(&self.job.id, after)? {
            match &event.kind {
                EventKind::Progress { progress, .. } => self.tell_progress(*progress),
                kind => {
                    if let Some(text) = describe(kind) {
                        self.tell(text);
                    }
                }
            }
            if matches!(event.kind, EventKind::JobFinished { .. }) {
                self.installed_from = Some(machine.console.len());
            }
            self.events.push(event);
        }
        Ok(())
    }

    fn tell_progress(&mut self, progress: Progress) {
        let line = format!(
            "{:7.1}s    {} in, {} on the disk{}, {}/s",
            self.start.elapsed().as_secs_f64(),
            mib(progress.bytes_in),
            mib(progress.bytes_out),
            progress
                .fraction()
                .map_or_else(String::new, |done| format!(" ({:.0} %)", done * 100.0)),
            mib(progress.rate),
        );
        if stdout().is_terminal() {
            self.clear_progress();
            print!("{line}");
            let _ = stdout().flush();
            self.progress_told = Some(Instant::now());
        } else if self.progress_told.is_none_or(|told| told.elapsed() >= PROGRESS_LINES) {
            let _ = writeln!(stdout(), "{line}");
            self.progress_told = Some(Instant::now());
        }
    }

    /// Takes a line of progress off the terminal.
    fn clear_progress(&mut self) {
        if self.progress_told.is_some() && stdout().is_terminal() {
            print!("\r\u{1b}[K");
            self.progress_told = None;
        }
    }
}

/// An event as a line; those that say nothing to a spectator have none.
fn describe(kind: &EventKind) -> Option<String> {
    Some(match kind {
        EventKind::JobStarted { name, actions, agent } => {
            format!("agent {agent}: has the job {name:?}, {actions} actions")
        }
        EventKind::ActionStarted { name, uses, attempt, .. } => match attempt {
            1 => format!("  {name} ({uses})"),
            _ => format!("  {name} ({uses}), attempt {attempt}"),
        },
        EventKind::AttemptFailed { class, message, retry_in_seconds, .. } => {
            let next = retry_in_seconds.map(|seconds| format!("; again in {seconds:.0} s"));
            format!("    failed ({class}): {message}{}", next.unwrap_or_default())
        }
        EventKind::Reset { reason, .. } => format!("    starting over: {reason}"),
        EventKind::Warning { message, .. } => format!("    warning: {message}"),
        EventKind::ActionFinished { outcome, seconds, .. } => {
            format!("    {outcome} in {seconds:.1} s")
        }
        EventKind::JobFinished { outcome, seconds, .. } => {
            format!("agent: job {outcome} in {seconds:.1} s")
        }
        EventKind::Progress { .. } | EventKind::Log { .. } | EventKind::Unknown => return None,
    })
}

fn mib(bytes: u64) -> String {
    const MIB: f64 = (1 << 20) as f64;
    format!("{:.1} MiB", bytes as f64 / MIB)
}
