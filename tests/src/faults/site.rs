//! Where faults are tried: a rack, and a machine that boots the agent straight from its memory, so
//! that one try takes seconds.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nibs_job::{Event, EventKind, Job, Outcome, Task};

use super::reference::Reference;
use crate::artefacts::Artefacts;
use crate::control::ControlPlane;
use crate::demo::{MAC, System};
use crate::drive::{Drive, Manner};
use crate::machine::{Hardware, Machine, Start};
use crate::qmp::Work;
use crate::rack::Rack;

/// What one start of a machine may take to its end; a few seconds on a host that has time.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at the server.
const POLL: Duration = Duration::from_millis(50);
/// Between two looks at the disk's work: short beside what a flush takes.
const WORK_POLL: Duration = Duration::from_micros(300);

/// A rack, and what its machine's disk may hold.
#[derive(Debug)]
pub struct Site {
    /// What the disk may hold.
    pub reference: Reference,
    rack: Rack,
    artefacts: Artefacts,
    url: String,
    directory: PathBuf,
    jobs: u8,
}

/// A job, and the machine that it is for.
#[derive(Debug, Clone)]
pub struct Assigned {
    /// The job.
    pub job: Job,
    mac: [u8; 6],
}

impl Site {
    /// Sets everything up in `directory`. To be called inside the lab's namespaces.
    pub fn set_up(directory: &Path) -> Result<Self> {
        let artefacts = Artefacts::find();
        let rack = Rack::set_up(&artefacts, directory)?;
        let image = artefacts.image(System::Bottlerocket.image())?;
        Ok(Self {
            reference: Reference::make(&image, directory).context("making the reference")?,
            url: rack.control.serve(&image.path)?,
            rack,
            artefacts,
            directory: directory.to_owned(),
            jobs: 0,
        })
    }

    /// The machine's disk.
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk.img")
    }

    /// The log of all that was written to it.
    pub fn write_log(&self) -> PathBuf {
        self.directory.join("writes.log")
    }

    /// A new job for a machine that the server does not know yet: the demo's, with those of its
    /// actions that are `wanted`. The boot order is never, since there is no firmware.
    pub fn assign(&mut self, wanted: impl Fn(&Task) -> bool) -> Result<Assigned> {
        let image = self.artefacts.image(System::Bottlerocket.image())?;
        let mut job = System::Bottlerocket.job(&image, &self.url)?;
        self.jobs = self.jobs.checked_add(1).context("too many jobs for one rack")?;
        job.id = format!("fault-{}", self.jobs);
        job.actions.retain(|action| !matches!(action.task, Task::BootOrder(_)));
        job.actions.retain(|action| wanted(&action.task));
        let mut mac = MAC;
        mac[5] = self.jobs;
        let assigned = Assigned { job, mac };
        self.rack.control.assign(&assigned.job, &self.hardware(&assigned, Manner::Sound).id())?;
        Ok(assigned)
    }

    /// Switches the machine of a job on.
    pub fn power_on(&mut self, assigned: &Assigned, manner: Manner) -> Result<Machine> {
        self.rack.power_on(&self.hardware(assigned, manner))
    }

    /// What the server has of a job; nothing if no agent has taken it up.
    pub fn events(&self, assigned: &Assigned) -> Vec<Event> {
        self.rack.control.events(&assigned.job.id, 0).unwrap_or_default()
    }

    /// How a job ended, as the server has it.
    pub fn outcome(&self, assigned: &Assigned) -> Option<Outcome> {
        self.events(assigned).into_iter().find_map(|event| match event.kind {
            EventKind::JobFinished { outcome, .. } => Some(outcome),
            _ => None,
        })
    }

    /// Runs a job to its end. If it succeeds, the machine has gone off by itself; else its power is
    /// cut.
    pub fn run(&mut self, assigned: &Assigned, manner: Manner) -> Result<Outcome> {
        let mut machine = self.power_on(assigned, manner)?;
        self.follow(assigned, &mut machine)
    }

    /// Runs a job on a sound disk. Fails unless it ends with everything on the disk.
    pub fn install(&mut self, assigned: &Assigned) -> Result<()> {
        let outcome = self.run(assigned, Manner::Sound)?;
        ensure!(outcome == Outcome::Succeeded, "{}: {outcome}", assigned.job.id);
        self.reference.check_installed(&self.disk(), &assigned.job)
    }

    /// Follows a job to its end, as [`Site::run`] does.
    pub fn follow(&mut self, assigned: &Assigned, machine: &mut Machine) -> Result<Outcome> {
        let deadline = Instant::now() + PATIENCE;
        let outcome = loop {
            if let Some(outcome) = self.outcome(assigned) {
                break outcome;
            }
            self.rack.check()?;
            machine.check()?;
            if Instant::now() > deadline {
                let console = machine.console.last_lines();
                bail!("{} has no end within {PATIENCE:?}; console:\n{console}", assigned.job.id);
            }
            thread::sleep(POLL);
        };
        if outcome.is_success() {
            machine.wait(PATIENCE)?;
        } else {
            machine.cut_power()?;
        }
        Ok(outcome)
    }

    fn hardware(&self, assigned: &Assigned, manner: Manner) -> Hardware {
        let mut hardware = Hardware {
            memory: System::Bottlerocket.memory(),
            processors: 2,
            disk: Drive { size: self.reference.size(), manner },
            mac: assigned.mac,
            accelerator: self.rack.accelerator,
            start: Start::Firmware,
        };
        hardware.start = Start::Kernel {
            kernel: self.artefacts.kernel(),
            initramfs: self.artefacts.initramfs(),
            parameters: format!(
                "console=ttyS0 nibs.control={} hw_addr={}",
                ControlPlane::base(),
                hardware.id()
            ),
        };
        hardware
    }
}

/// Watches the work of a machine's disk until `enough` of it is done, or until the machine has gone
/// off. Gives what was seen last.
pub(super) fn watch(machine: &mut Machine, mut enough: impl FnMut(Work) -> bool) -> Result<Work> {
    let mut last = Work::default();
    while machine.uptime() < PATIENCE {
        match machine.disk_work() {
            Ok(work) => last = work,
            // It may go off at any moment, and its socket with it.
            Err(_) => {
                machine.wait(PATIENCE)?;
                return Ok(last);
            }
        }
        if enough(last) {
            return Ok(last);
        }
        thread::sleep(WORK_POLL);
    }
    bail!("the disk had done {last:?} within {PATIENCE:?}; {}", machine.console.last_lines());
}
