//! Contenders in a virtual machine, on its virtio disk.
//!
//! ```text
//!  nibs-bench run ── starts ──> nibs-bench vm, in the lab's namespaces
//!       ^                            │ fills disk.img, starts the machine, compares disk.img
//!       │ JSON                       │                  ^
//!       └────────────────────────────┤          task on │ answer on the
//!                                    │      the command │ serial console
//!                              HTTP  │             line v │
//!                                    └──> contender <── nibs-bench guest, process 1
//! ```
//!
//! The machine has no disk but the target: its system is in memory. It is started anew for each
//! run, so that none finds what another left in its caches.
//!
//! - [`task`]: what the machine is told, and what it answers.
//! - [`guest`]: what it does.
//! - [`system`]: what it has.

pub mod guest;
mod system;
mod task;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::contender::{Contender, Job};
use super::figures::{Outcome, Run};
use super::images::Image;
use super::limit::{Limit, Stages};
use super::report::{Comparison, times};
use super::server::Server;
use super::target::{Kind, Target};
use super::{Options, Place, compare_all, measure, warm};
use crate::accel::Accelerator;
use crate::demo::MAC;
use crate::drive::Drive;
use crate::firmware::Firmware;
use crate::machine::{Hardware, Machine, Start};
use crate::namespace;
use crate::network::{GATEWAY, Network};
use task::{Answer, Download, Task, Work};

/// Where the machine is emulated, a run of a slow contender takes half a minute: with more, the whole
/// would take too long.
const REPETITIONS: usize = 2;
/// The raw image has to fit, beside the system and what contenders take. MiB.
const MEMORY: u32 = 3072;
const PROCESSORS: u32 = 2;
/// How long the machine has to start and to fetch files, beside the time of the contender.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at the machine.
const POLL: Duration = Duration::from_millis(20);
/// The disk, in the machine.
const DISK: &str = "/dev/vda";
/// Where the image is in the machine: as served, or raw.
const FILE: &str = "/tmp/image";

/// What was measured in the machine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    /// What machine it is.
    pub machine: String,
    /// One for each image.
    pub comparisons: Vec<Comparison>,
}

/// Measures in the machine, from a process in namespaces of its own.
pub fn measure(options: &Options) -> Result<Measured> {
    let options = Options {
        scratch: options.scratch.join("vm"),
        repetitions: options.repetitions.min(REPETITIONS),
        ..options.clone()
    };
    let this = std::env::current_exe().context("finding this program")?;
    let told = serde_json::to_string(&options).context("encoding the options")?;
    let output = Command::new(this)
        .args(["vm", &told])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting the part that runs a virtual machine")?;
    ensure!(output.status.success(), "measuring in a virtual machine: {}", output.status);
    serde_json::from_slice(&output.stdout).context("reading what was measured in the machine")
}

/// Does what [`measure`] asks for, and prints it. To be called before any thread is started.
pub fn run(options: &str) -> Result<()> {
    namespace::enter()?;
    let options: Options = serde_json::from_str(options).context("reading the options")?;
    let plan = options.plan(&[Kind::Vm])?;
    let mut rig = Rig::set_up(&options)?;
    let comparisons = compare_all(&options, &plan, &mut rig)?;
    let measured = Measured { machine: rig.describe(), comparisons };
    println!("{}", serde_json::to_string(&measured).context("encoding the results")?);
    Ok(())
}

/// The machine's surroundings.
#[derive(Debug)]
struct Rig<'a> {
    options: &'a Options,
    server: Server,
    firmware: Firmware,
    accelerator: Accelerator,
    tap: String,
    system: PathBuf,
}

impl<'a> Rig<'a> {
    fn set_up(options: &'a Options) -> Result<Self> {
        let directory = &options.scratch;
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let system = directory.join("initramfs");
        system::make(&options.system, &options.agent, &system)?;
        let firmware = Firmware::default();
        let mut network = Network::create()?;
        Ok(Self {
            options,
            server: Server::start(&options.images, GATEWAY)?,
            accelerator: Accelerator::probe(&firmware, directory),
            firmware,
            tap: network.add_tap()?,
            system,
        })
    }

    fn describe(&self) -> String {
        format!(
            "a QEMU machine ({}) with {PROCESSORS} processors, {MEMORY} MiB of memory and the \
             programs of Debian 12, every contender {}",
            self.accelerator.name(),
            times(self.options.repetitions)
        )
    }

    /// What the machine has to fetch before the clock runs: always something small, so that it has
    /// spoken to the server before.
    fn downloads(&self, image: &Image, file: Option<&String>) -> Vec<Download> {
        let download =
            |name: &str, to: &str| Download { url: self.server.url(name), to: to.into() };
        let mut downloads = vec![download(&image.bmap, "/tmp/map")];
        downloads.extend(file.map(|name| download(name, FILE)));
        downloads
    }

    /// Has the machine do something, and gives its answer and what QEMU had written until then,
    /// bytes; no answer if there is none in time.
    fn ask(&self, task: &Task, size: u64, timeout: Duration) -> Result<Option<(Answer, u64)>> {
        let hardware = Hardware {
            memory: MEMORY,
            processors: PROCESSORS,
            disk: Drive::sound(size),
            mac: MAC,
            accelerator: self.accelerator,
            start: Start::Kernel {
                kernel: self.options.kernel.clone(),
                initramfs: self.system.clone(),
                parameters: format!(
                    "console=ttyS0 quiet panic=-1 {} -- guest {}",
                    guest::ENVIRONMENT,
                    task.encode()?
                ),
            },
        };
        let directory = &self.options.scratch;
        let mut machine = Machine::power_on(&hardware, &self.firmware, &self.tap, directory)?;
        let answer = wait(&mut machine, timeout + PATIENCE)?;
        let Some(answer) = answer else { return Ok(None) };
        let written = written_by_children()?;
        machine.cut_power()?;
        match answer {
            Answer::Failed(error) => bail!("in the virtual machine: {error}"),
            answer => Ok(Some((answer, written))),
        }
    }
}

/// The machine's answer, unless there is none in time.
fn wait(machine: &mut Machine, timeout: Duration) -> Result<Option<Answer>> {
    let deadline = Instant::now() + timeout;
    let mut seen = 0;
    while Instant::now() < deadline {
        let ended = machine.check();
        let lines = machine.console.lines(seen);
        if let Some(answer) = lines.iter().find_map(|line| Answer::find(&line.text)) {
            return answer.map(Some);
        }
        seen += lines.len();
        ended.with_context(|| format!("console:\n{}", machine.console.last_lines()))?;
        thread::sleep(POLL);
    }
    Ok(None)
}

/// What the processes that this one has started had written to storage, bytes. In the namespaces of
/// the lab `/proc` is still the host's, and has other ids for them.
fn written_by_children() -> Result<u64> {
    let mut written = 0;
    for thread in fs::read_dir("/proc/self/task").context("listing the threads")? {
        let path = thread.context("listing the threads")?.path().join("children");
        // A thread may have ended.
        let children = fs::read_to_string(path).unwrap_or_default();
        for child in children.split_whitespace() {
            written += measure::written_by(child)?;
        }
    }
    Ok(written)
}

impl Place for Rig<'_> {
    fn run(&mut self, contender: Contender, image: &Image, _: &Target) -> Result<Outcome> {
        let images = &self.options.images;
        let file = if contender.reads_raw_file() { &image.raw } else { &image.served };
        warm(&images.join(file))?;
        let job = Job {
            image,
            server: &self.server,
            raw: Path::new(FILE),
            agent: Path::new(system::AGENT),
            target: Path::new(DISK),
            is_device: true,
        };
        let task = Task {
            downloads: self.downloads(image, contender.reads_raw_file().then_some(&image.raw)),
            work: Work::Run {
                commands: contender.commands(&job)?,
                target: DISK.into(),
                timeout: self.options.timeout,
            },
        };
        let timeout = Duration::from_secs(self.options.timeout);
        Ok(match self.ask(&task, image.size, timeout)? {
            Some((Answer::Outcome(Outcome::Finished(run)), written)) => {
                Outcome::Finished(Run { written: written as f64, ..run })
            }
            Some((Answer::Outcome(Outcome::TimedOut), _)) | None => Outcome::TimedOut,
            Some((other, _)) => bail!("the virtual machine answered {other:?} to a run"),
        })
    }

    fn limit(&mut self, image: &Image, _: &Target) -> Result<Limit> {
        let served = self.options.images.join(&image.served);
        warm(&served)?;
        let url = self.server.url(&image.served);
        let task = Task {
            downloads: self.downloads(image, Some(&image.served)),
            work: Work::Limit(Stages {
                format: image.format,
                url,
                served: FILE.into(),
                data: image.data,
                target: DISK.into(),
                repetitions: self.options.repetitions,
            }),
        };
        // Each stage is one part of what a contender does.
        let stages = 3 * u32::try_from(self.options.repetitions).unwrap_or(u32::MAX);
        let timeout = Duration::from_secs(self.options.timeout).saturating_mul(stages);
        match self.ask(&task, image.size, timeout)? {
            Some((Answer::Limit(limit), _)) => Ok(limit),
            other => bail!("the virtual machine answered {other:?}, and no limit"),
        }
    }
}
