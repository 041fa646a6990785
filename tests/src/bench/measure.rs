//! What running a pipeline takes: its processes and all that they start.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::figures::Run;
use super::target::Target;
use crate::process::last_lines;

/// Between two looks at the memory of a process. The kernel keeps the peak, so that only growth
/// after the last look is missed.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the commands, each one's output the next one's input, until the target is durable. What
/// they say goes to `log`.
pub fn run(commands: &[Vec<String>], target: &Target, log: &Path) -> Result<Run> {
    let cpu_before = cpu_seconds()?;
    let start = Instant::now();
    let children = spawn(commands, log)?;
    let ended = AtomicBool::new(false);
    let ids: Vec<u32> = children.iter().map(Child::id).collect();
    let (finished, peaks) = thread::scope(|scope| {
        let watch = scope.spawn(|| watch(&ids, &ended));
        let waited = wait_all(children, commands, log);
        let finished = waited.and_then(|written| {
            target.flush()?;
            Ok((written, start.elapsed().as_secs_f64()))
        });
        ended.store(true, Ordering::Relaxed);
        (finished, watch.join())
    });
    let (written, seconds) = finished?;
    let peaks = peaks.map_err(|_| anyhow::anyhow!("watching memory: the watcher panicked"))?;
    Ok(Run {
        seconds,
        cpu_seconds: cpu_seconds()? - cpu_before,
        written: written as f64,
        peak_largest: peaks.iter().copied().max().unwrap_or(0) as f64,
        peak_sum: peaks.iter().sum::<u64>() as f64,
    })
}

/// Processor time of all processes that ended and were waited for, with theirs. Seconds.
fn cpu_seconds() -> Result<f64> {
    let usage: Usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("asking for processor time")?;
    Ok((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6)
}

fn spawn(commands: &[Vec<String>], log: &Path) -> Result<Vec<Child>> {
    let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let mut children: Vec<Child> = Vec::new();
    for (position, words) in commands.iter().enumerate() {
        let input = children.last_mut().and_then(|child| child.stdout.take());
        let last = position + 1 == commands.len();
        let output = if last { file.try_clone()?.into() } else { Stdio::piped() };
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(input.map_or_else(Stdio::null, Stdio::from))
            .stdout(output)
            .stderr(file.try_clone()?)
            .spawn()
            .with_context(|| format!("starting {}", words[0]))?;
        children.push(child);
    }
    Ok(children)
}

/// Waits for all, and gives the bytes that they had written to storage.
fn wait_all(children: Vec<Child>, commands: &[Vec<String>], log: &Path) -> Result<u64> {
    let mut written = 0;
    for (mut child, words) in children.into_iter().zip(commands) {
        let pid = Pid::from_raw(child.id().cast_signed());
        // Its accounts are there until it is waited for, those of its own children among them.
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
            .with_context(|| format!("waiting for {}", words[0]))?;
        let path = format!("/proc/{pid}/io");
        let accounts = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        written += field(&accounts, "write_bytes").with_context(|| format!("parsing {path}"))?;
        let status = child.wait().with_context(|| format!("waiting for {}", words[0]))?;
        ensure!(status.success(), "running {}: {status}\n{}", words.join(" "), last_lines(log));
    }
    Ok(written)
}

/// The peak of resident memory of each process and of all below it, bytes.
fn watch(ids: &[u32], ended: &AtomicBool) -> Vec<u64> {
    let mut peaks = BTreeMap::new();
    while !ended.load(Ordering::Relaxed) {
        let mut ids = ids.to_owned();
        while let Some(id) = ids.pop() {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
            ids.extend(
                children.iter().flat_map(|text| text.split(' ')).flat_map(str::parse::<u32>),
            );
            // One that has ended has no memory.
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            if let Some(kib) = field(&status, "VmHWM") {
                // The last counts: before exec, a process has the peak of its parent.
                peaks.insert(id, kib * 1024);
            }
        }
        thread::sleep(LOOK);
    }
    peaks.into_values().collect()
}

/// The number after `name:` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::target::Kind;
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "cancelled_write_bytes: 3\nwrite_bytes: 4096\nVmHWM:\t  12 kB\n";
        assert_eq!(field(text, "write_bytes"), Some(4096));
        assert_eq!(field(text, "VmHWM"), Some(12));
        assert_eq!(field(text, "VmPeak"), None);
    }

    #[test]
    fn a_pipeline_is_measured_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let target = Target::prepare(Kind::File, directory.path(), 1 << 20).unwrap();
        let burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo x";
        let into = format!("cat > /dev/null; sleep 0.2; echo y > {}", target.path().display());
        let run =
            run(&[shell(burn), shell(&into)], &target, &directory.path().join("log")).unwrap();
        assert!(run.seconds > 0.2, "{run:?}");
        assert!(run.cpu_seconds > 0.01, "{run:?}");
        assert!(run.peak_largest > 0.0 && run.peak_sum > run.peak_largest, "{run:?}");
        assert_eq!(fs::read(target.path()).unwrap(), b"y\n");
    }

    #[test]
    fn a_part_that_fails_fails_the_pipeline_with_its_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let target = Target::prepare(Kind::File, directory.path(), 1 << 20).unwrap();
        let commands = [shell("echo broken >&2; exit 3"), shell("cat")];
        let error = run(&commands, &target, &directory.path().join("log")).unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }
}
