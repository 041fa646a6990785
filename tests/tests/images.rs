//! The agent's container images, in a real runtime: Debian's podman, as an action would run them.
//!
//! Needs root, podman, skopeo and what `./build.sh images` makes; says so where it is skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use lab::artefacts::{Artefacts, missing_programs};
use nibs_actions::{Context, Machine, Sink, Stop, http};
use nibs_job::{LogLevel, Progress, Task};

/// The machine's cgroups may be version 1, which podman's crun takes no longer; a mount namespace of
/// its own has version 2 where that belongs. Without CAP_SYS_RESOURCE, limits may only be lowered.
const PODMAN: &str = "umount -R /sys/fs/cgroup 2>/dev/null; \
                      mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec podman \"$@\"";
const RUN: [&str; 7] = [
    "run",
    "--rm",
    "--cgroups=disabled",
    "--network=host",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
    "--pull=never",
];

/// Where images lie, and a podman with a store of its own.
struct Bench {
    oci: PathBuf,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Option<Self> {
        let oci = Artefacts::find().directory().join("oci");
        let missing = missing_programs(&["podman", "skopeo", "unshare", "losetup"]);
        if !nix::unistd::geteuid().is_root() || !missing.is_empty() {
            eprintln!("skipped: needs root, and Debian's {}", missing.join(", "));
            return None;
        }
        if !oci.join("layout/index.json").exists() {
            eprintln!("skipped: needs {} (run `./build.sh images`)", oci.display());
            return None;
        }
        Some(Self { oci, directory: tempfile::tempdir().unwrap() })
    }

    fn podman(&self, arguments: &[&str]) -> Output {
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        Command::new("unshare")
            .args(["--mount", "sh", "-c", PODMAN, "podman"])
            .args(["--root", &at("store"), "--runroot", &at("run"), "--tmpdir", &at("tmp")])
            .args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// What podman says on stdout; it has to succeed.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.podman(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}\n{errors}");
        said
    }

    fn load(&self, name: &str) {
        let archive = self.oci.join(format!("{name}.tar"));
        self.done(&["load", "--quiet", "--input", archive.to_str().unwrap()]);
    }

    fn run(&self, arguments: &[&str]) -> String {
        self.done(&[&RUN[..], arguments].concat())
    }
}

#[test]
fn the_agents_image_runs_it_and_has_its_roots() {
    let Some(bench) = Bench::new() else { return };
    bench.load("nibs");
    let version = bench.run(&["localhost/nibs:latest", "--version"]);
    assert_eq!(version.trim(), concat!("nibs ", env!("CARGO_PKG_VERSION")));
    // What it finds in its own root, of all that it needs there.
    let found = bench.run(&["--privileged", "localhost/nibs:latest", "inventory"]);
    assert!(found.contains("disk") || found.contains("memory"), "{found}");
}

#[test]
fn an_action_in_a_privileged_container_writes_a_disk() {
    let Some(bench) = Bench::new() else { return };
    bench.load("nibs");
    let content: Vec<u8> = (0..4_u32 << 20).map(|n| (n.wrapping_mul(n) >> 9) as u8).collect();
    let work = bench.directory.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("os.img"), &content).unwrap();
    let Some(disk) = LoopDisk::new(&work.join("disk")) else { return };
    let volume = format!("{}:/work", work.display());
    bench.run(&[
        "--privileged",
        "--volume=/dev:/dev",
        "--volume",
        &volume,
        "localhost/nibs:latest",
        "action",
        "stream-image",
        "--with",
        "image.url=/work/os.img",
        "--with",
        &format!("disk.path={}", disk.device),
    ]);
    let written = fs::read(&disk.device).unwrap();
    assert!(written[..content.len()] == content[..], "the disk holds something else");
}

#[test]
fn every_image_is_taken_as_an_archive_and_out_of_the_layout() {
    let Some(bench) = Bench::new() else { return };
    let digests = fs::read_to_string(bench.oci.join("digests.txt")).unwrap();
    assert!(digests.lines().count() > 10, "{digests}");
    for line in digests.lines() {
        let (name, digest) = line.split_once('@').unwrap();
        let places = [
            format!("oci:{}:{name}:latest", bench.oci.join("layout").display()),
            format!("docker-archive:{}", bench.oci.join(format!("{name}.tar")).display()),
            format!("oci-archive:{}", bench.oci.join(format!("{name}.tar")).display()),
        ];
        for (index, place) in places.iter().enumerate() {
            let output = Command::new("skopeo").args(["inspect", place]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            // skopeo makes a manifest of its own for what `docker save` writes.
            assert!(index == 1 || found["Digest"] == digest, "{place}: {found}");
            let label = found["Labels"]["org.opencontainers.image.title"].as_str();
            assert_eq!(label, Some(name), "{place}");
        }
    }
}

/// What a container says.
#[derive(Default)]
struct Ears(Mutex<Vec<String>>);

impl Sink for Ears {
    fn progress(&self, _: Progress) {}
    fn reset(&self, _: String) {}
    fn warning(&self, _: String) {}
    fn log(&self, _: LogLevel, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

#[test]
fn the_agent_runs_its_own_images_where_they_came_along() {
    let Some(bench) = Bench::new() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ears = Arc::new(Ears::default());
    let machine = Machine {
        run: bench.directory.path().join("run"),
        images: bench.oci.join("layout"),
        ..Machine::default()
    };
    let context = Context {
        machine,
        stop: Stop::default(),
        sink: ears.clone(),
        runtime: runtime.handle().clone(),
        http: http::Options::default(),
        installed_disk: None,
    };
    // Packed with zstd, and with gzip.
    for name in ["nibs", "tink-agent"] {
        let with = serde_json::json!({
            "image": format!("127.0.0.1/embedded/{name}"), "command": ["--version"],
        });
        nibs_actions::run(&Task::decode("run-container", with).unwrap(), &context).unwrap();
        let heard = ears.0.lock().unwrap().join("\n");
        let version = concat!("nibs ", env!("CARGO_PKG_VERSION"));
        assert!(heard.lines().any(|line| line == version), "{name}: {heard}");
        ears.0.lock().unwrap().clear();
    }
}

/// 16 MiB on a loop device.
struct LoopDisk {
    device: String,
}

impl LoopDisk {
    fn new(file: &Path) -> Option<Self> {
        fs::File::create(file).unwrap().set_len(16 << 20).unwrap();
        let found = Command::new("losetup").args(["--find", "--show"]).arg(file).output().unwrap();
        if !found.status.success() {
            eprintln!("skipped: needs loop devices");
            return None;
        }
        Some(Self { device: String::from_utf8(found.stdout).unwrap().trim().to_owned() })
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}
