//! The whole line without a machine around it: the real agent and the real server, with a loop
//! device for a disk and a server of images that stops where the test wants it to.
//!
//! Needs root for the loop device and what `./build.sh test` makes; says so where it is skipped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lab::artefacts::Artefacts;
use lab::control::ControlPlane;
use lab::network::Network;
use lab::process::{self, Daemon};
use lab::{namespace, network};
use nibs_job::{Class, Event, EventKind, Job, Outcome};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const MIB: usize = 1 << 20;
/// What anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A loop device, detached when dropped.
struct Loop {
    device: String,
    file: PathBuf,
}

impl Loop {
    fn new(directory: &Path, mib: usize) -> Self {
        let file = directory.join("disk");
        File::create(&file).unwrap().set_len((mib * MIB) as u64).unwrap();
        let arguments = ["--find", "--show", file.to_str().unwrap()];
        let device = process::run("losetup", &arguments).unwrap().trim().to_owned();
        forget_partitions(&device);
        Self { device, file }
    }

    fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        File::open(&self.file).unwrap().read_exact_at(&mut bytes, offset as u64).unwrap();
        bytes
    }

    /// Whether a GPT header is at either end of the disk.
    fn has_gpt(&self) -> bool {
        let size = fs::metadata(&self.file).unwrap().len() as usize;
        [512, size - 512].iter().any(|offset| self.read(*offset, 8) == b"EFI PART")
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        forget_partitions(&self.device);
        let _ = process::run("losetup", &["--detach", &self.device]);
    }
}

/// Partitions that the kernel was told of stay with a loop device, for whoever gets it next.
fn forget_partitions(device: &str) {
    // Fails where there are none.
    let _ = process::run("partx", &["--delete", device]);
}

/// A disk image with one partition of bytes that do not repeat.
fn image(directory: &Path, mib: usize) -> Vec<u8> {
    let file = directory.join("image");
    let mut state = 7_u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(mib * MIB)
    .collect();
    fs::write(&file, bytes).unwrap();
    let path = file.to_str().unwrap();
    let end = format!("-n1:2048:+{}M", mib - 2);
    process::run("sgdisk", &["--zap-all", "-o", &end, "-c1:system", path]).unwrap();
    fs::read(file).unwrap()
}

/// Serves one image: whole when its gate is open, `/cut` only to the middle, nothing else.
struct ImageServer {
    address: SocketAddr,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl ImageServer {
    fn start(image: Vec<u8>) -> Self {
        let listener = TcpListener::bind((network::GATEWAY, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let (image, theirs) = (Arc::new(image), Arc::clone(&gate));
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (image, gate) = (Arc::clone(&image), Arc::clone(&theirs));
                // An agent that is killed breaks its connection: no fault of this server.
                thread::spawn(move || answer(connection, &image, &gate));
            }
        });
        Self { address, gate }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn open(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

fn answer(
    mut connection: TcpStream,
    image: &[u8],
    gate: &(Mutex<bool>, Condvar),
) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    if !["/image", "/cut"].contains(&path) {
        return connection.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    }
    let (first, second) = image.split_at(image.len() / 2);
    write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", image.len())?;
    connection.write_all(first)?;
    if path == "/cut" {
        return Ok(());
    }
    let closed = gate.0.lock().unwrap();
    drop(gate.1.wait_while(closed, |open| !*open).unwrap());
    connection.write_all(second)
}

/// What every test here needs; none, with a printed reason, where it cannot run or has run in its
/// namespaces.
struct Bench {
    artefacts: Artefacts,
    directory: TempDir,
    control: ControlPlane,
    disk: Loop,
    image: Vec<u8>,
    images: ImageServer,
}

impl Bench {
    fn set_up(test: &str) -> Option<Self> {
        let artefacts = Artefacts::find();
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: {test}: needs root for a loop device");
            return None;
        }
        if ![artefacts.agent(), artefacts.server()].iter().all(|file| file.exists()) {
            eprintln!("skipped: {test}: no {}; run ./build.sh test", artefacts.agent().display());
            return None;
        }
        if let Some(status) = namespace::run_test(test).unwrap() {
            assert!(status.success(), "{test} in its namespaces: {status}");
            return None;
        }
        Network::create().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let image = image(directory.path(), 32);
        Some(Self {
            control: ControlPlane::start(&artefacts, directory.path()).unwrap(),
            disk: Loop::new(directory.path(), 48),
            images: ImageServer::start(image.clone()),
            artefacts,
            directory,
            image,
        })
    }

    /// The parameters of `stream-image` that work.
    fn parameters(&self) -> Value {
        json!({
            "image": {
                "url": self.images.url("image"),
                "sha256": hex::encode(Sha256::digest(&self.image)),
            },
            "disk": { "path": self.disk.device },
        })
    }

    /// Hands a job to a machine.
    fn assign(&self, id: &str, actions: &Value, machine: &str) {
        let job = json!({ "id": id, "name": id, "actions": actions });
        self.control.assign(&Job::from_value(job).unwrap(), machine).unwrap();
    }

    fn agent(&self, machine: &str) -> Daemon {
        let mut command = Command::new(self.artefacts.agent());
        command.args(["agent", "--once", "--id", machine, "--control", &ControlPlane::base()]);
        Daemon::spawn("nibs", &mut command, &self.agent_log()).unwrap()
    }

    /// Runs a job that has to fail, and gives the failure that the server has of it.
    fn fail(&self, id: &str, actions: &Value, machine: &str) -> (Class, String) {
        self.assign(id, actions, machine);
        assert_eq!(self.run(machine), Some(1), "{id}");
        let mut events = self.wait_for(id, |kind| matches!(kind, EventKind::JobFinished { .. }));
        match events.pop().unwrap().kind {
            EventKind::JobFinished { outcome: Outcome::Failed { class, message }, .. } => {
                (class, message)
            }
            other => panic!("{id}: {other:?}"),
        }
    }

    /// Runs an agent to its end, and gives its exit code.
    fn run(&self, machine: &str) -> Option<i32> {
        let ended = self.agent(machine).wait(PATIENCE);
        let log = || process::last_lines(&self.agent_log());
        ended.unwrap_or_else(|e| panic!("{e}; its last lines:\n{}", log())).code()
    }

    fn agent_log(&self) -> PathBuf {
        self.directory.path().join("agent.log")
    }

    fn wait_for(&self, job: &str, what: impl Fn(&EventKind) -> bool) -> Vec<Event> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Until the first report there is no run to ask for.
            let events = self.control.events(job, 0).unwrap_or_default();
            if events.iter().any(|event| what(&event.kind)) {
                return events;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {events:#?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn an_agent_that_is_killed_in_the_middle_and_run_again_converges() {
    let name = "an_agent_that_is_killed_in_the_middle_and_run_again_converges";
    let Some(bench) = Bench::set_up(name) else { return };
    let machine = "52:54:00:00:00:01";
    let actions = json!([{ "uses": "stream-image", "with": bench.parameters() }]);
    bench.assign("killed", &actions, machine);
    let mut first = bench.agent(machine);
    let quarter = (bench.image.len() / 4) as u64;
    bench.wait_for(
        "killed",
        |kind| matches!(kind, EventKind::Progress { progress, .. } if progress.bytes_out > quarter),
    );
    first.kill().unwrap();
    assert!(!bench.disk.has_gpt(), "a disk that is half written has no partition table");

    bench.images.open();
    assert_eq!(bench.run(machine), Some(0), "{}", process::last_lines(&bench.agent_log()));
    let events = bench.wait_for("killed", |kind| matches!(kind, EventKind::JobFinished { .. }));
    assert!(matches!(
        &events.last().unwrap().kind,
        EventKind::JobFinished { outcome: Outcome::Succeeded, .. }
    ));
    let started = |event: &&Event| matches!(event.kind, EventKind::JobStarted { .. });
    assert_eq!(events.iter().filter(started).count(), 2, "it was taken up twice");
    assert!(events.is_sorted_by(|a, b| a.sequence < b.sequence));

    let data = MIB..bench.image.len() - 33 * 512;
    assert!(bench.disk.read(data.start, data.len()) == bench.image[data], "it holds the image");
    process::run("sgdisk", &["--verify", &bench.disk.device]).unwrap();
}

#[test]
fn what_cannot_be_installed_fails_with_its_reason_and_leaves_no_bootable_disk() {
    let name = "what_cannot_be_installed_fails_with_its_reason_and_leaves_no_bootable_disk";
    let Some(bench) = Bench::set_up(name) else { return };
    bench.images.open();
    let change = |pointer: &str, value: Value| {
        let mut parameters = bench.parameters();
        *parameters.pointer_mut(pointer).unwrap() = value;
        parameters
    };
    let bytes_in = |parameters| json!([{ "uses": "stream-image", "with": parameters }]);
    let absent = bytes_in(change("/image/url", json!(bench.images.url("absent"))));
    let mut cut = change("/image/url", json!(bench.images.url("cut")));
    cut["image"]["stall-timeout"] = json!("1s");
    let cut = bytes_in(cut);
    let wrong = bytes_in(change("/image/sha256", json!("00".repeat(32))));
    let no_disk = bytes_in(change("/disk/path", json!("/dev/absent")));
    let cases = [
        ("absent-image", absent, Class::InvalidInput, "404"),
        ("cut-image", cut, Class::Transient, "16777216"),
        ("wrong-digest", wrong, Class::InvalidInput, "0000000000"),
        ("absent-disk", no_disk, Class::Environment, "/dev/absent"),
    ];
    for (number, (id, actions, expected, text)) in cases.into_iter().enumerate() {
        let machine = format!("52:54:00:00:01:{number:02}");
        let (class, message) = bench.fail(id, &actions, &machine);
        assert!(class == expected && message.contains(text), "{id}: {class}: {message}");
        assert!(!bench.disk.has_gpt(), "{id}: the disk has a partition table");
    }
}

#[test]
fn an_image_without_the_partition_that_a_job_configures_is_told_with_what_it_has() {
    let name = "an_image_without_the_partition_that_a_job_configures_is_told_with_what_it_has";
    let Some(bench) = Bench::set_up(name) else { return };
    bench.images.open();
    let actions = json!([
        { "uses": "stream-image", "with": bench.parameters() },
        { "uses": "write-files", "with": {
            "partition": { "type-guid": "440408bb-eb0b-4328-a6e5-a29038fad706" },
            "files": [{ "path": "/net.toml", "content": "version = 1\neth0.dhcp4 = true\n" }],
        } },
    ]);
    let (class, message) = bench.fail("no-partition", &actions, "52:54:00:00:02:01");
    assert_eq!(class, Class::Environment);
    for part in ["action 2 (write-files)", "440408bb", "system"] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
}
