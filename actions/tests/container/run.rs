//! What a container sees, and how it ends.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nibs_actions::{Context, Error, Sink};
use nibs_job::{Class, LogLevel, Progress};
use serde_json::json;
use tar::EntryType;

use super::images::{Layer, Packed};
use super::support::{Bench, Ears};

#[test]
fn entry_point_command_environment_directory_and_user_are_those_of_image_and_action() {
    let Some(mut bench) = Bench::new() else { return };
    let config = json!({
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo from the image"], "WorkingDir": "/work/here",
        "Env": ["A=image", "B=image"], "User": "me",
    });
    bench.image("example.com/a", vec![], &config);
    let words = "echo $A $B $HOME; pwd; id -u; id -g; echo $PATH; umask";
    let with = json!({
        "image": "example.com/a", "command": [words], "environment": { "B": "action" },
    });
    bench.run(with).unwrap();
    for line in ["image action /home/me", "/work/here", "1000", "1001", "0022"] {
        assert!(bench.ears.heard(line), "{line}: {}", bench.ears.all());
    }
    assert!(bench.ears.all().contains("/usr/bin:/sbin:/bin"), "{}", bench.ears.all());

    bench.run(json!({ "image": "example.com/a" })).unwrap();
    assert!(bench.ears.heard("from the image"), "{}", bench.ears.all());
}

#[test]
fn it_sees_the_machines_devices_names_and_its_own_processes_only() {
    let Some(mut bench) = Bench::new() else { return };
    let words = "echo pid $$; ls /dev/null /sys/class/block > /dev/null && echo devices; \
                 cat /etc/resolv.conf; test -L /etc/resolv.conf || echo file; \
                 ls -d /proc/[0-9]* | wc -l";
    let words = words.replace("| wc -l", "");
    bench.sh(&words, json!({})).unwrap();
    for line in ["pid 1", "devices", "file", "/proc/1"] {
        assert!(bench.ears.heard(line), "{line}: {}", bench.ears.all());
    }
    let own = format!("/proc/{}", std::process::id());
    assert!(!bench.ears.heard(&own), "{}", bench.ears.all());
    for line in fs::read_to_string("/etc/resolv.conf").unwrap_or_default().lines() {
        let line = line.trim_end();
        assert!(line.is_empty() || bench.ears.heard(line), "{line}: {}", bench.ears.all());
    }

    bench.sh(&words, json!({ "pid": "host" })).unwrap();
    assert!(bench.ears.heard(&own), "{}", bench.ears.all());
}

#[test]
fn it_has_the_machines_network_or_none() {
    let Some(mut bench) = Bench::new() else { return };
    let links = |bench: &Bench| {
        let heard = bench.ears.all();
        let names = heard.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
        names.filter(|name| !name.contains(['.', ' '])).map(str::to_owned).collect::<Vec<_>>()
    };
    bench.sh("cat /proc/net/dev", json!({})).unwrap();
    let table = fs::read_to_string("/proc/net/dev").unwrap();
    let machine = table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    assert_eq!(links(&bench), machine.collect::<Vec<_>>());
    bench.ears.lines.lock().unwrap().clear();
    bench.sh("cat /proc/net/dev", json!({ "network": "none" })).unwrap();
    assert_eq!(links(&bench), ["lo"]);
}

#[test]
fn its_root_is_that_of_its_namespace() {
    let Some(mut bench) = Bench::new() else { return };
    bench.sh("cat /proc/self/mountinfo", json!({})).unwrap();
    let text = bench.ears.all();
    let roots: Vec<_> = text.lines().filter(|line| line.split(' ').nth(4) == Some("/")).collect();
    assert!(matches!(roots[..], [only] if only.contains("tmpfs")), "{text}");
    let of_the_machine = bench.directory.path().to_str().unwrap();
    let shown = text.lines().any(|line| line.contains(" - ") && line.contains(of_the_machine));
    assert!(!shown, "{text}");
}

#[test]
fn volumes_are_the_machines_own_and_read_only_ones_are() {
    let Some(mut bench) = Bench::new() else { return };
    let (there, missing, file) = (bench.path("there"), bench.path("a/b"), bench.path("file"));
    fs::create_dir(&there).unwrap();
    fs::write(there.join("mine"), "content\n").unwrap();
    fs::write(&file, "of a file\n").unwrap();
    let volumes = json!([
        format!("{}:/there:ro", there.display()),
        format!("{}:/deep/er", missing.display()),
        format!("{}:/etc/a-file", file.display()),
        "kept:/kept",
        // As in the templates of EKS Anywhere, over what is there in any case.
        "/dev:/dev",
        "/dev/console:/dev/console",
    ]);
    let words = "cat /there/mine; touch /there/x || echo refused; touch /deep/er/made; \
                 cat /etc/a-file; test -c /dev/null && echo null; echo more >> /kept/lines; cat /kept/lines";
    bench.sh(words, json!({ "volumes": volumes })).unwrap();
    for line in ["content", "refused", "of a file", "null", "more"] {
        assert!(bench.ears.heard(line), "{line}: {}", bench.ears.all());
    }
    assert!(missing.join("made").exists());
    assert!(there.join("mine").exists() && file.exists());
    bench.sh("cat /kept/lines > /kept/copy", json!({ "volumes": ["kept:/kept"] })).unwrap();
    let kept = fs::read_to_string(bench.path("run/nibs/volumes/kept/copy")).unwrap();
    assert_eq!(kept, "more\n");

    let below = format!("{}/below:/x", file.display());
    let error = bench.sh("true", json!({ "volumes": [below] })).unwrap_err();
    assert!(error.to_string().contains("making its source"), "{error}");
    assert_eq!(error.class(), Class::Environment);
}

#[test]
fn what_is_mounted_below_a_read_only_volume_is_read_only_too() {
    let Some(mut bench) = Bench::new() else { return };
    let there = bench.path("there");
    let below = Memory::new(&there.join("below"));
    let deeper = Memory::new(&below.0.join("deeper"));
    let words =
        "for d in /there /there/below /there/below/deeper; do touch $d/x || echo no $d; done";
    let volumes = [format!("{}:/there:ro", there.display())];
    bench.sh(words, json!({ "volumes": volumes })).unwrap();
    for line in ["no /there", "no /there/below", "no /there/below/deeper"] {
        assert!(bench.ears.heard(line), "{line}: {}", bench.ears.all());
    }
    // Of the machine's own mounts none is.
    fs::write(deeper.0.join("x"), "x").unwrap();
    assert!(bench.ears.warnings.lock().unwrap().is_empty(), "{:?}", bench.ears.warnings);
}

#[test]
fn a_failure_has_the_exit_code_and_the_last_words_and_no_secret() {
    let Some(mut bench) = Bench::new() else { return };
    let words = "echo fine; echo first >&2; echo disk is gone >&2; exit 3";
    let with = json!({ "environment": { "PASSWORD": "hunter2" } });
    let error = bench.sh(words, with).unwrap_err();
    let text = error.to_string();
    let expected = "running /bin/sh in example.com/sh:1: it ended with exit code 3; it said last: \
                    first | disk is gone";
    assert_eq!(text, expected);
    assert_eq!(error.class(), Class::Environment);
    assert!(bench.ears.heard("fine") && bench.ears.heard("disk is gone"), "{}", bench.ears.all());
    assert!(!bench.ears.all().contains("hunter2"));

    let error = bench.sh("kill -9 $$; sleep 5", json!({ "pid": "host" })).unwrap_err();
    assert!(error.to_string().contains("SIGKILL ended it; it said nothing"), "{error}");
}

#[test]
fn a_command_that_is_not_there_or_cannot_be_run_says_so() {
    let Some(mut bench) = Bench::new() else { return };
    let layer = Layer::new()
        .file("no-program", 0o644, b"text")
        .file("foreign", 0o755, b"\x7fELF: no machine at all")
        .file("orphan", 0o755, b"#!/opt/interpreter\n");
    bench.image("example.com/a", vec![(layer, Packed::Gzip)], &json!({}));
    for (command, why) in [
        (json!(["nowhere"]), "nowhere in example.com/a: command not found; looked in PATH (/usr"),
        (json!(["/nowhere"]), "/nowhere in example.com/a: command not found"),
        (json!(["/no-program"]), "it is not executable"),
        (json!(["/foreign"]), "architecture?"),
        (json!(["/orphan"]), "interpreter that it names is not in the image"),
        (json!([]), "neither an entry point nor a command"),
    ] {
        let error = bench.run(json!({ "image": "example.com/a", "command": command })).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.class(), Class::InvalidInput);
    }
}

#[test]
fn a_container_that_forks_and_never_ends_is_killed_whole() {
    let Some(mut bench) = Bench::new() else { return };
    // Deaf to SIGTERM, and with children that have left its session.
    let mark = format!("4{:07}", std::process::id());
    for (pid, seconds) in [("own", 0), ("host", 1)] {
        let mark = format!("{mark}.{seconds}");
        let words = format!(
            "trap '' TERM; setsid sleep {mark} & setsid setsid sleep {mark} & sleep {mark} & \
             echo begun; while true; do sleep 1; done"
        );
        bench.stop.deadline = Some(Instant::now() + Duration::from_secs(2));
        let begun = Instant::now();
        let error = bench.sh(&words, json!({ "pid": pid })).unwrap_err();
        assert!(matches!(error, Error::TimedOut), "{error}");
        assert!(bench.ears.heard("begun"), "{}", bench.ears.all());
        let took = begun.elapsed();
        assert!((7..15).contains(&took.as_secs()), "{took:?}");
        assert_eq!(running(&mark), 0, "{pid}");
    }
}

#[test]
fn a_container_that_hears_sigterm_ends_at_once_when_cancelled() {
    let Some(mut bench) = Bench::new() else { return };
    let cancel = bench.stop.cancel.clone();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        cancel.cancel();
    });
    let begun = Instant::now();
    let words = "trap 'echo bye; exit 0' TERM; echo begun; while true; do sleep 0.1; done";
    let error = bench.sh(words, json!({})).unwrap_err();
    stopper.join().unwrap();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(bench.ears.heard("begun") && bench.ears.heard("bye"), "{}", bench.ears.all());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn the_last_words_of_a_program_that_has_to_end_are_heard_before_the_actions_end() {
    /// Writes a slow log.
    struct Slow(Arc<Ears>);
    impl Sink for Slow {
        fn progress(&self, _: Progress) {}
        fn reset(&self, _: String) {}
        fn warning(&self, _: String) {}
        fn log(&self, level: LogLevel, message: String) {
            std::thread::sleep(Duration::from_millis(300));
            self.0.log(level, message);
        }
    }
    let Some(mut bench) = Bench::new() else { return };
    bench.shell("example.com/sh:1");
    bench.stop.deadline = Some(Instant::now() + Duration::from_secs(2));
    let sink = Arc::new(Slow(bench.ears.clone()));
    let words = "trap 'echo bye; exit 0' TERM; while true; do sleep 0.1; done";
    let with = json!({ "image": "example.com/sh:1", "command": [words] });
    let error = bench.run_in(with, &Context { sink, ..bench.context() }).unwrap_err();
    assert!(matches!(error, Error::TimedOut), "{error}");
    assert!(bench.ears.heard("bye"), "{}", bench.ears.all());
}

#[test]
fn what_a_program_leaves_behind_in_the_machines_processes_ends_with_it() {
    let Some(mut bench) = Bench::new() else { return };
    let mark = format!("5{:07}", std::process::id());
    bench.sh(&format!("setsid sleep {mark} & true"), json!({ "pid": "host" })).unwrap();
    assert_eq!(running(&mark), 0);
}

#[test]
fn nothing_that_an_image_has_in_place_of_a_file_holds_the_agent_up() {
    for (place, user, command, why) in [
        ("etc/passwd", "me", "true", "expected a file at the image's /etc/passwd"),
        ("etc/group", "0:disk", "true", "expected a file at the image's /etc/group"),
        ("program", "", "/program", "Permission denied"),
    ] {
        let Some(mut bench) = Bench::new() else { return };
        let layer = Layer::new().entry(EntryType::Fifo, place, 0o755, b"");
        let config = json!({ "User": user });
        bench.image("example.com/a", vec![(layer, Packed::Plain)], &config);
        let (done, ended) = std::sync::mpsc::channel();
        // Not joined: it would never end.
        std::thread::spawn(move || {
            let with = json!({ "image": "example.com/a", "command": [command] });
            done.send(bench.run(with).unwrap_err())
        });
        let error = ended.recv_timeout(Duration::from_secs(20));
        let error = error.unwrap_or_else(|_| panic!("{place} holds it up"));
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(error.class(), Class::InvalidInput);
    }
}

#[test]
fn a_chain_of_processes_that_each_fork_once_and_end_is_killed() {
    let Some(mut bench) = Bench::new() else { return };
    let place = bench.path("place");
    fs::create_dir(&place).unwrap();
    // Ends by itself once it has no place any more, should it get away.
    let chain = b"#!/bin/sh\necho >> /place/links || exit\n/chain &\n";
    let layer = Layer::new().file("chain", 0o755, chain);
    let config = json!({ "Entrypoint": ["/bin/sh", "-c"] });
    bench.image("example.com/a", vec![(layer, Packed::Gzip)], &config);
    let words = "/chain & /chain & /chain & /chain & sleep 0.2";
    let volumes = [format!("{}:/place", place.display())];
    let with = json!({
        "image": "example.com/a", "command": [words], "volumes": volumes, "pid": "host",
    });
    for _ in 0..5 {
        bench.run(with.clone()).unwrap();
        let links = || fs::metadata(place.join("links")).unwrap().len();
        let then = links();
        std::thread::sleep(Duration::from_millis(200));
        let now = links();
        if now != then {
            fs::remove_dir_all(&place).unwrap();
        }
        assert_eq!(now, then, "it goes on");
        assert!(then > 0);
    }
    assert!(bench.ears.warnings.lock().unwrap().is_empty(), "{:?}", bench.ears.warnings);
}

/// Set where a test is the agent that is killed: whose processes are seen, and what is slept.
const KILLED: &str = "NIBS_TEST_KILLED_AGENT";

#[test]
fn a_killed_agents_program_is_killed_with_it() {
    let Some(mut bench) = Bench::new() else { return };
    if let Ok(words) = std::env::var(KILLED) {
        let (pid, mark) = words.split_once(' ').unwrap();
        let config = json!({ "Entrypoint": ["sleep"], "User": "me" });
        bench.image("example.com/a", vec![], &config);
        let with = json!({ "image": "example.com/a", "command": [mark], "pid": pid });
        unreachable!("{:?}", bench.run(with));
    }
    for pid in ["own", "host"] {
        let mark = format!("60.{}{}", std::process::id(), pid.len());
        let mut agent = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "run::a_killed_agents_program_is_killed_with_it"])
            .env(KILLED, format!("{pid} {mark}"))
            // What it leaves goes with this test.
            .env("TMPDIR", bench.directory.path())
            .spawn()
            .unwrap();
        let begun = wait_until(|| running(&mark) == 1);
        agent.kill().unwrap();
        agent.wait().unwrap();
        assert!(begun, "{pid}: the program did not start");
        assert!(wait_until(|| running(&mark) == 0), "{pid}: the program goes on");
    }
}

/// Whether it is so within ten seconds.
fn wait_until(is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// How many processes have this argument.
fn running(argument: &str) -> usize {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let lines = pids.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            line.starts_with(b"sleep")
                && line.split(|b| *b == 0).any(|word| word == argument.as_bytes())
        })
        .count()
}

#[test]
fn scratch_directories_and_disks_hold_the_root_and_are_left_as_they_were() {
    let Some(mut bench) = Bench::new() else { return };
    let scratch = bench.path("scratch");
    fs::create_dir_all(scratch.join("nibs-container-s/old")).unwrap();
    fs::write(scratch.join("theirs"), "theirs").unwrap();
    let kept = bench.path("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("file"), "kept").unwrap();
    let words = "ls -d /old; cat /proc/self/mountinfo; echo ran";
    let with = json!({
        "name": "s", "scratch": scratch, "volumes": [format!("{}:/kept", kept.display())],
    });
    bench.sh(words, with).unwrap();
    assert!(bench.ears.heard("ran") && !bench.ears.heard("/old"), "{}", bench.ears.all());
    assert!(!bench.ears.all().contains(" / / rw"), "{}", bench.ears.all());
    let left: Vec<_> = fs::read_dir(&scratch).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["theirs"]);
    assert!(kept.join("file").exists());

    let error = bench.sh("true", json!({ "scratch": kept.join("file") })).unwrap_err().to_string();
    assert!(error.contains("expected a directory or a block device"), "{error}");

    let Some(disk) = LoopDisk::new(&bench.path("disk.img")) else { return };
    bench.sh("cat /proc/self/mountinfo", json!({ "name": "s", "scratch": disk.device })).unwrap();
    let root = bench
        .ears
        .lines
        .lock()
        .unwrap()
        .iter()
        .any(|line| line.contains("/nibs-container-s / ") && line.contains(&disk.device));
    assert!(root, "{}", bench.ears.all());

    // Larger than it looks, and than what is there.
    let layer = Layer::new().file("zeros", 0o644, &vec![0; 100 << 20]);
    let config = json!({ "Entrypoint": ["/bin/true"] });
    bench.image("example.com/zeros:1", vec![(layer, Packed::Zstd)], &config);
    let with = json!({ "image": "example.com/zeros:1", "scratch": disk.device });
    let error = bench.run(with).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("is full after") && text.ends_with("make room there"), "{text}");
    assert_eq!(error.class(), Class::Environment);

    let listed = Command::new("debugfs").args(["-R", "ls -p /", &disk.device]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("lost+found") && !listed.contains("nibs"), "{listed}");
}

#[test]
fn a_scratch_disk_is_free_once_the_action_has_ended() {
    let Some(mut bench) = Bench::new() else { return };
    let Some(disk) = LoopDisk::new(&bench.path("disk.img")) else { return };
    for _ in 0..20 {
        bench.sh("true", json!({ "scratch": disk.device })).unwrap();
        let mut exclusive = fs::OpenOptions::new();
        exclusive.read(true).custom_flags(nix::libc::O_EXCL).open(&disk.device).unwrap();
    }
}

#[test]
fn what_a_killed_run_has_left_takes_no_room() {
    let Some(mut bench) = Bench::new() else { return };
    let scratch = Memory::new(&bench.path("scratch"));
    let leftovers = scratch.0.join("nibs-container-s");
    fs::create_dir(&leftovers).unwrap();
    fs::write(leftovers.join("large"), vec![1; 48 << 20]).unwrap();
    let layer = Layer::new().file("large", 0o644, &vec![1; 32 << 20]);
    let config = json!({ "Entrypoint": ["/bin/true"] });
    bench.image("example.com/a", vec![(layer, Packed::Plain)], &config);
    bench.run(json!({ "image": "example.com/a", "name": "s", "scratch": scratch.0 })).unwrap();
}

/// A filesystem of 64 MiB in memory.
struct Memory(PathBuf);

impl Memory {
    fn new(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=64m", "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(path).status().unwrap();
        assert!(mounted.success());
        Self(path.to_owned())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// An ext4 of 64 MiB on a loop device.
struct LoopDisk {
    device: String,
}

impl LoopDisk {
    fn new(image: &Path) -> Option<Self> {
        fs::File::create(image).unwrap().set_len(64 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(image).status();
        let found = Command::new("losetup").args(["--find", "--show"]).arg(image).output();
        match (made, found) {
            (Ok(_), Ok(found)) if found.status.success() => {
                let device = String::from_utf8(found.stdout).unwrap().trim().to_owned();
                Some(Self { device })
            }
            _ => {
                eprintln!("skipped: needs e2fsprogs and loop devices");
                None
            }
        }
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}
