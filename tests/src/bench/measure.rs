//! What running a pipeline takes: its processes and all that they start.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::figures::{Outcome, Run};
use super::tree;
use crate::process::last_lines;

/// Between two looks at the memory of a process. The kernel keeps the peak, so that only growth
/// after the last look is missed.
const LOOK: Duration = Duration::from_millis(20);

/// Runs the commands, each one's output the next one's input, until the target is durable; kills
/// them if they take longer than `timeout`. What they say goes to `log`.
pub fn run(
    commands: &[Vec<String>],
    target: &Path,
    timeout: Duration,
    log: &Path,
) -> Result<Outcome> {
    let cpu_before = cpu_seconds()?;
    let start = Instant::now();
    let children = spawn(commands, log)?;
    let ended = AtomicBool::new(false);
    let ids: Vec<u32> = children.iter().map(Child::id).collect();
    let (finished, watched) = thread::scope(|scope| {
        let watch = scope.spawn(|| watch(&ids, start + timeout, &ended));
        let waited = wait_all(children, commands, log);
        let finished = waited.and_then(|written| {
            flush(target)?;
            Ok((written, start.elapsed().as_secs_f64()))
        });
        ended.store(true, Ordering::Relaxed);
        (finished, watch.join())
    });
    let Watched { peaks, killed } =
        watched.map_err(|_| anyhow::anyhow!("watching the processes: the watcher panicked"))?;
    if killed {
        return Ok(Outcome::TimedOut);
    }
    let (written, seconds) = finished?;
    Ok(Outcome::Finished(Run {
        seconds,
        cpu_seconds: cpu_seconds()? - cpu_before,
        written: written as f64,
        peak_largest: peaks.iter().copied().max().unwrap_or(0) as f64,
        peak_sum: peaks.iter().sum::<u64>() as f64,
    }))
}

/// Waits until all that was written is durable.
fn flush(target: &Path) -> Result<()> {
    let file = OpenOptions::new().write(true).open(target).context("opening the target")?;
    file.sync_all().context("flushing the target")
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

/// Waits for all, and gives the bytes that they had written to storage; none where the kernel does
/// not account for them.
fn wait_all(children: Vec<Child>, commands: &[Vec<String>], log: &Path) -> Result<u64> {
    let accounted = Path::new("/proc/self/io").exists();
    let wait = |child: &mut Child, words: &[String]| {
        let pid = Pid::from_raw(child.id().cast_signed());
        // Its accounts are there until it is waited for, those of its own children among them.
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
            .with_context(|| format!("waiting for {}", words[0]))?;
        let written = if accounted { written_by(&pid.to_string())? } else { 0 };
        let status = child.wait().with_context(|| format!("waiting for {}", words[0]))?;
        ensure!(status.success(), "running {}: {status}\n{}", words.join(" "), last_lines(log));
        Ok(written)
    };
    let pairs = children.into_iter().zip(commands);
    let waited: Vec<Result<u64>> =
        pairs.map(|(mut child, words)| wait(&mut child, words)).collect();
    waited.into_iter().sum()
}

/// The bytes that a process had written to storage, as the kernel accounts them.
pub(super) fn written_by(process: &str) -> Result<u64> {
    let path = format!("/proc/{process}/io");
    let accounts = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    field(&accounts, "write_bytes").with_context(|| format!("parsing {path}"))
}

/// What was seen of running processes.
struct Watched {
    /// The peak of resident memory of each, bytes.
    peaks: Vec<u64>,
    /// Whether their time was up.
    killed: bool,
}

/// Watches processes and all below them, and kills them at the deadline.
fn watch(ids: &[u32], deadline: Instant, ended: &AtomicBool) -> Watched {
    let mut peaks = BTreeMap::new();
    let mut killed = false;
    while !ended.load(Ordering::Relaxed) {
        let late = Instant::now() >= deadline;
        for id in tree::with_descendants(ids) {
            // One that has ended has no memory.
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let Some(kib) = field(&status, "VmHWM") else { continue };
            // The last counts: before exec, a process has the peak of its parent.
            peaks.insert(id, kib * 1024);
            if late {
                killed = true;
                // It may have ended since.
                let _ = kill(Pid::from_raw(id.cast_signed()), Signal::SIGKILL);
            }
        }
        thread::sleep(LOOK);
    }
    Watched { peaks: peaks.into_values().collect(), killed }
}

/// The number after `name:` at the start of a line.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const AMPLE: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    /// A directory with a target and a place for the log.
    fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let [target, log] = ["target", "log"].map(|name| directory.path().join(name));
        fs::write(&target, [0; 4096]).unwrap();
        (directory, target, log)
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
        let (_directory, target, log) = place();
        let burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo x";
        let into = format!("cat > /dev/null; sleep 0.2; echo y > {}", target.display());
        let outcome = run(&[shell(burn), shell(&into)], &target, AMPLE, &log).unwrap();
        let Outcome::Finished(run) = outcome else { panic!("{outcome:?}") };
        assert!(run.seconds > 0.2, "{run:?}");
        assert!(run.cpu_seconds > 0.01, "{run:?}");
        assert!(run.peak_largest > 0.0 && run.peak_sum > run.peak_largest, "{run:?}");
        assert_eq!(fs::read(target).unwrap(), b"y\n");
    }

    #[test]
    fn a_part_that_fails_fails_the_pipeline_with_its_last_words() {
        let (_directory, target, log) = place();
        let commands = [shell("echo broken >&2; exit 3"), shell("cat")];
        let error = run(&commands, &target, AMPLE, &log).unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }

    #[test]
    fn what_takes_too_long_is_killed_with_all_that_it_started() {
        let (directory, target, log) = place();
        let id = directory.path().join("id");
        let hang = format!("sleep 1000 & echo $! > {}; wait", id.display());
        let start = Instant::now();
        let limit = Duration::from_millis(300);
        let outcome = run(&[shell(&hang), shell("cat")], &target, limit, &log).unwrap();
        assert_eq!(outcome, Outcome::TimedOut);
        assert!(start.elapsed() < AMPLE);
        let id = fs::read_to_string(id).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", id.trim())).unwrap_or_default();
        assert_eq!(field(&status, "VmHWM"), None, "{status}");
    }
}
