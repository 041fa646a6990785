//! The whole story: a bare machine boots from the network, is installed, and comes up from its own
//! disk, verified from outside.
//!
//! [`Story`] follows console and events and tells them as they come; [`bottlerocket`] and
//! [`debian`] know what to look for on the console of what they installed.

pub mod bottlerocket;
pub mod debian;
mod job;
mod story;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use clap::ValueEnum;
use nibs_job::{EventKind, Job, Outcome};

pub use job::{Fill, fill};
pub use story::{Ending, Story};

use crate::artefacts::{Artefacts, DiskImage};
use crate::drive::Drive;
use crate::firmware::Firmware;
use crate::machine::{Hardware, Machine, Start};
use crate::rack::Rack;
use crate::report::{Report, Unit};

/// The demo machine's network card, an address of the local kind.
pub const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x4e, 0x49, 0x42];

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// More than either image has, so that the backup partition table has to move.
const DISK: u64 = 4 * GIB;
const PROCESSORS: u32 = 2;

/// The most that each may be. The agent's was 9 MiB before it could verify a TUF repository, do the
/// workflows of a Tinkerbell server and run containers; see docs/sizes.md.
const INITRAMFS_AT_MOST: u64 = 8 * MIB;
const AGENT_AT_MOST: u64 = 14 * MIB;
const MACHINE_AT_MOST: u64 = 256 * MIB;
const AGENT_MEMORY_AT_MOST: u64 = 64 * MIB;
const VERIFIED_AT_MOST: Duration = Duration::from_secs(120);
const AGAIN_AT_MOST: Duration = Duration::from_secs(20);

/// What is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// An image in the shape of Bottlerocket's, made here.
    Bottlerocket,
    /// Debian 12.
    Debian,
}

impl System {
    /// File name of its image.
    pub fn image(self) -> &'static str {
        match self {
            Self::Bottlerocket => "bottlerocket-demo-x86_64.img.lz4",
            Self::Debian => "debian-12-x86_64.img.zst",
        }
    }

    /// The job that installs it.
    pub fn job(self, image: &DiskImage, url: &str) -> Result<Job> {
        match self {
            Self::Bottlerocket => bottlerocket::job(image, url),
            Self::Debian => debian::job(image, url),
        }
    }

    /// Memory of its machine, in MiB.
    pub fn memory(self) -> u32 {
        match self {
            Self::Bottlerocket => 256,
            Self::Debian => 512,
        }
    }

    /// How long it may take from power-on until it is up, before it counts as hung.
    fn patience(self) -> Duration {
        match self {
            Self::Bottlerocket => Duration::from_secs(300),
            Self::Debian => Duration::from_secs(1200),
        }
    }

    /// What the console says when it is up.
    fn up(self) -> &'static str {
        match self {
            Self::Bottlerocket => bottlerocket::UP,
            Self::Debian => debian::UP,
        }
    }
}

/// When the command that led here was given, and whether it found everything built already.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// When it was given.
    pub given: SystemTime,
    /// Whether everything was there.
    pub reused: bool,
}

/// Installs `system` on a new machine in `directory` and verifies it. `at_end` gets the report and
/// the machine, still running.
pub fn run(
    system: System,
    directory: &Path,
    command: Option<Command>,
    at_end: impl FnOnce(&Report, &mut Machine) -> Result<()>,
) -> Result<Report> {
    let artefacts = Artefacts::find();
    artefacts.check(&Firmware::default(), system.image())?;
    let image = artefacts.image(system.image())?;
    let mut rack = Rack::set_up(&artefacts, directory)?;
    let job = system.job(&image, &rack.control.serve(&image.path)?)?;
    let hardware = hardware(&rack, system.memory());
    rack.control.assign(&job, &hardware.id())?;

    let mut machine = rack.power_on(&hardware)?;
    let on_the_way = command.and_then(|command| command.given.elapsed().ok());
    let mut story = Story::new(&job);
    story.tell(format!(
        "machine on: {} MiB, {PROCESSORS} processors ({}), an empty disk of {} GiB, network first",
        hardware.memory,
        hardware.accelerator.name(),
        hardware.disk.size / GIB,
    ));
    let mut report = Report {
        system: job.name.clone(),
        accelerator: hardware.accelerator.name().to_owned(),
        machine_memory: u64::from(hardware.memory) * MIB,
        ..Report::default()
    };
    let ending = story.follow(&mut rack, &mut machine, system.up(), system.patience())?;
    check_job(&mut report, &story);
    if ending == Ending::Up {
        check_boot(&mut report, &story, &mut machine)?;
        match system {
            System::Bottlerocket => bottlerocket::verify(&mut report, &job, &story, &machine),
            System::Debian => debian::verify(&mut report, &machine, story.installed_from())?,
        }
    } else {
        report.check("installed system", machine.console.last_lines(), false);
    }
    let verified = report.checks.iter().all(|check| check.passed).then(|| {
        story.tell("verified".to_owned());
        machine.uptime().as_secs_f64()
    });

    report.stages = story.stages().to_vec();
    report.limit("initramfs", size(&artefacts.initramfs())?, INITRAMFS_AT_MOST as f64, Unit::Bytes);
    report.limit("agent", size(&artefacts.agent())?, AGENT_AT_MOST as f64, Unit::Bytes);
    report.limit(
        "agent peak memory",
        peak_memory(&story),
        AGENT_MEMORY_AT_MOST as f64,
        Unit::Bytes,
    );
    // The issue sets these for the demo image only.
    if system == System::Bottlerocket {
        let memory = Some(report.machine_memory as f64);
        report.limit("machine memory", memory, MACHINE_AT_MOST as f64, Unit::Bytes);
        let at_most = VERIFIED_AT_MOST.as_secs_f64();
        report.limit("power-on to verified", verified, at_most, Unit::Seconds);
    }
    report.seconds_to_power_on = on_the_way.map(|span| span.as_secs_f64());
    if command.is_some_and(|command| command.reused) {
        let at_most = AGAIN_AT_MOST.as_secs_f64();
        report.limit("command to power-on", report.seconds_to_power_on, at_most, Unit::Seconds);
    }
    report.close(&directory.join("report.json"))?;
    at_end(&report, &mut machine)?;
    Ok(report)
}

/// The demo's machine on this rack.
pub fn hardware(rack: &Rack, memory: u32) -> Hardware {
    Hardware {
        memory,
        processors: PROCESSORS,
        disk: Drive::sound(DISK),
        mac: MAC,
        accelerator: rack.accelerator,
        start: Start::Firmware,
    }
}

/// How the job ended, as the server has it.
fn check_job(report: &mut Report, story: &Story) {
    let outcome = story.outcome();
    let found = outcome.map_or_else(|| "not finished".to_owned(), ToString::to_string);
    report.check("job, as the server has it", found, outcome == Some(&Outcome::Succeeded));
}

/// That the installed system came from the disk, because the boot order says so.
fn check_boot(report: &mut Report, story: &Story, machine: &mut Machine) -> Result<()> {
    let nvram = machine.nvram()?;
    let first = nvram.boot_order().iter().find_map(|number| {
        // OVMF keeps its own menu in the order, as an application that is never booted.
        nvram.is_bootable(*number).then(|| nvram.description(*number)).flatten()
    });
    let first = first.unwrap_or_else(|| "nothing".to_owned());
    let network = first.contains("PXE") || first == "nothing";
    report.check("first in the boot order", first, !network);

    let lines = machine.console.lines(story.installed_from());
    let mut loaded = lines.iter().filter_map(|line| line.text.split_once("BdsDxe: starting "));
    let loaded = loaded.next_back().map_or("not said", |(_, entry)| entry);
    report.check("firmware started", loaded, loaded.contains("HD("));

    let resets = machine.resets()?;
    report.check("resets of the one QEMU process", resets.to_string(), resets == 1);
    Ok(())
}

/// The agent's own word.
fn peak_memory(story: &Story) -> Option<f64> {
    story.events().iter().find_map(|event| match event.kind {
        EventKind::JobFinished { peak_memory, .. } => peak_memory.map(|bytes| bytes as f64),
        _ => None,
    })
}

fn size(file: &Path) -> Result<Option<f64>> {
    let metadata = fs::metadata(file).with_context(|| format!("looking at {}", file.display()))?;
    Ok(Some(metadata.len() as f64))
}
