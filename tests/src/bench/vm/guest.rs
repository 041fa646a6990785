//! Process 1 of the virtual machine: does what the kernel's command line tells, answers on the
//! console, and waits until its power is cut.

use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use super::super::measure;
use super::task::{Answer, Task, Work};
use crate::network::{FIRST_LEASE, GATEWAY};
use crate::process::run as run_program;

/// What the kernel puts into the environment of process 1.
pub(super) const ENVIRONMENT: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8";

/// The machine's network card; there is no udev to give it another name.
const NETWORK: &str = "eth0";
/// Length of the prefix of the lab's network.
const PREFIX: u8 = 24;

/// What is mounted: type and place.
const MOUNTS: [(&str, &str); 5] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
];
/// The raw image and logs have to fit.
const TMPFS: &str = "size=75%";

/// Does the task, and never returns: a kernel without process 1 panics.
pub fn run(task: &str) -> ! {
    let answer = answer(task).unwrap_or_else(|error| Answer::Failed(format!("{error:#}")));
    let line = answer.line().unwrap_or_else(|error| format!("{error:#}\n"));
    let mut console = io::stdout();
    // Where the console is gone, there is nobody to tell.
    let _ = console.write_all(line.as_bytes()).and_then(|()| console.flush());
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

fn answer(task: &str) -> Result<Answer> {
    for (kind, place) in MOUNTS {
        let options = (kind == "tmpfs").then_some(TMPFS);
        mount(Some(kind), place, Some(kind), MsFlags::empty(), options)
            .with_context(|| format!("mounting {place}"))?;
    }
    let ip = |arguments: &str| {
        let words: Vec<&str> = arguments.split(' ').collect();
        run_program("ip", &words)
    };
    ip("link set lo up")?;
    ip(&format!("address add {FIRST_LEASE}/{PREFIX} dev {NETWORK}"))?;
    ip(&format!("link set {NETWORK} up"))?;
    ip(&format!("route replace default via {GATEWAY}"))?;
    let Task { downloads, work } = Task::decode(task)?;
    for download in &downloads {
        let to = download.to.display().to_string();
        run_program(
            "curl",
            &["-sSf", "--retry", "5", "--retry-all-errors", "-o", &to, &download.url],
        )?;
    }
    Ok(match work {
        Work::Run { commands, target, timeout } => {
            let timeout = Duration::from_secs(timeout);
            let log = Path::new("/tmp/log");
            Answer::Outcome(measure::run(&commands, &target, timeout, log)?)
        }
        Work::Limit(stages) => Answer::Limit(stages.find()?),
    })
}
