//! Debian 12: its job, and a look at it from its own console.

use std::time::Duration;

use anyhow::Result;
use nibs_job::Job;

use super::fill;
use crate::artefacts::DiskImage;
use crate::machine::Machine;
use crate::report::Report;

/// What the console says when it is up: above its prompt, `getty` names the host, and so knows the
/// file that was written.
pub const UP: &str = "Debian GNU/Linux 12 nibs-demo ttyS0";

const LOGIN_PROMPT: &str = "nibs-demo login:";
const SHELL_PROMPT: &str = "root@nibs-demo:~#";
const TEMPLATE: &str = include_str!("../../data/debian.toml");
/// How long a command on its console may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Starts a line that a command printed, and not the echo of the command.
const MARK: &str = "lab:";

/// What is asked of the system, and what it must say.
const QUESTIONS: [(&str, &str, &str); 4] = [
    ("multi-user target", "systemctl is-active multi-user.target", "active"),
    ("hostname", "hostname", "nibs-demo"),
    ("operating system", ". /etc/os-release; echo $VERSION_CODENAME", "bookworm"),
    ("failed units", "systemctl list-units --failed --no-legend | wc -l", "0"),
];

/// The job that installs it.
pub fn job(image: &DiskImage, url: &str) -> Result<Job> {
    fill(TEMPLATE, &[("image-url", url), ("image-sha256", &image.manifest.sha256)])
}

/// Logs in on the console, `from` its line of that number on, and asks the system what it is.
pub fn verify(report: &mut Report, machine: &Machine, from: usize) -> Result<()> {
    let console = &machine.console;
    let from = console.wait_for_prompt(LOGIN_PROMPT, from, PATIENCE)?;
    let mut keyboard = machine.keyboard()?;
    keyboard.line("root")?;
    let mut from = console.wait_for_prompt(SHELL_PROMPT, from, PATIENCE)?;
    // From here on the kernel keeps its messages out of the answers.
    keyboard.line("dmesg --console-off")?;
    for (name, command, expected) in QUESTIONS {
        // The quotes keep the mark out of the echo of the command.
        keyboard.line(&format!("echo la''b: $({command} 2>&1)"))?;
        let (line, found) = console.wait_for(MARK, from, PATIENCE)?;
        let found = found.text.split_once(MARK).map_or("", |(_, found)| found.trim());
        report.check(name, found, found == expected);
        from = line + 1;
    }
    Ok(())
}
