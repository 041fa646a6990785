//! What the tests share: a machine with images, what is heard of an action, a registry.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nibs_actions::{Context, Done, Error, Machine, Sink, Stop, http};
use nibs_job::{LogLevel, Progress, Task};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::images::{Layer, Layout, Packed, shell};

/// Remembers what it hears.
#[derive(Debug, Default)]
pub(crate) struct Ears {
    pub(crate) lines: Mutex<Vec<String>>,
    pub(crate) warnings: Mutex<Vec<String>>,
    pub(crate) resets: Mutex<Vec<String>>,
}

impl Ears {
    /// Whether a line was heard.
    pub(crate) fn heard(&self, line: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|heard| heard == line)
    }

    pub(crate) fn all(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

impl Sink for Ears {
    fn progress(&self, _: Progress) {}
    fn reset(&self, reason: String) {
        self.resets.lock().unwrap().push(reason);
    }
    fn warning(&self, message: String) {
        self.warnings.lock().unwrap().push(message);
    }
    fn log(&self, _: LogLevel, message: String) {
        self.lines.lock().unwrap().push(message);
    }
}

/// A machine with directories of its own for what it keeps, on this kernel.
pub(crate) struct Bench {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) layout: Layout,
    pub(crate) ears: Arc<Ears>,
    pub(crate) stop: Stop,
    /// A static one.
    pub(crate) busybox: Vec<u8>,
    runtime: Runtime,
    base: Vec<u8>,
}

impl Bench {
    /// None, with the reason printed, where containers cannot be run.
    pub(crate) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let unshared =
            Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).status();
        if !unshared.is_ok_and(|status| status.success()) {
            eprintln!("skipped: needs util-linux, and to be allowed to make namespaces");
            return None;
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
        let Some(busybox) = busybox.into_iter().find(|path| path.exists()) else {
            eprintln!("skipped: needs Debian's busybox-static");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(&directory.path().join("images"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let busybox = fs::read(busybox).unwrap();
        let base = shell(&busybox).bytes(Packed::Gzip);
        let (ears, stop) = (Arc::default(), Stop::default());
        Some(Self { directory, layout, ears, stop, busybox, runtime, base })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Adds an image with a shell and these layers over it.
    pub(crate) fn image(&mut self, name: &str, layers: Vec<(Layer, Packed)>, config: &Value) {
        let mut all = vec![self.base.clone()];
        all.extend(layers.into_iter().map(|(layer, packed)| layer.bytes(packed)));
        self.layout.image(name, &all, config);
    }

    /// Adds an image with a shell that is its entry point.
    pub(crate) fn shell(&mut self, name: &str) {
        self.image(name, vec![], &json!({ "Entrypoint": ["/bin/sh", "-c"] }));
    }

    pub(crate) fn context(&self) -> Context {
        let machine = Machine {
            run: self.path("run"),
            images: self.layout.path.clone(),
            ..Machine::default()
        };
        Context {
            machine,
            stop: self.stop.clone(),
            sink: self.ears.clone(),
            runtime: self.runtime.handle().clone(),
            http: http::Options::default(),
            installed_disk: None,
        }
    }

    pub(crate) fn run(&self, with: Value) -> Result<Done, Error> {
        self.run_in(with, &self.context())
    }

    pub(crate) fn run_in(&self, with: Value, context: &Context) -> Result<Done, Error> {
        let task = Task::decode("run-container", with).unwrap();
        let before = mounts();
        let result = nibs_actions::run(&task, context);
        assert_eq!(mounts(), before, "a mount is left");
        let left = fs::read_dir(self.path("run/nibs/containers"));
        let left: Vec<_> = left.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?} is left");
        result
    }

    /// Runs a shell's words in the image `sh`, which is made for it.
    pub(crate) fn sh(&mut self, words: &str, mut with: Value) -> Result<Done, Error> {
        self.shell("example.com/sh:1");
        with["image"] = "example.com/sh:1".into();
        with["command"] = json!([words]);
        self.run(with)
    }
}

/// The mounts that concern these tests: others come and go with the tests of other programs.
fn mounts() -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains("nibs")).map(str::to_owned).collect()
}

/// Debian's docker-registry on the loopback interface; ended with the value.
pub(crate) struct Registry {
    pub(crate) address: String,
    server: Child,
    _directory: tempfile::TempDir,
}

/// `me:hunter2` as htpasswd has it.
const HTPASSWD: &str = "me:$2b$05$./2cPyuclSi6W3XKB7Ocue1zjDArTsPQ53G.9CNmIuJ.S8qGdsK7a\n";

/// How a registry lets clients in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// With a user and a password.
    Users,
    /// By TLS, with a certificate that nobody trusts.
    Tls,
}

impl Registry {
    pub(crate) fn start(door: Door) -> Option<Self> {
        for (program, argument) in [("docker-registry", "--help"), ("skopeo", "--version")] {
            if Command::new(program).arg(argument).output().is_err() {
                eprintln!("skipped: needs Debian's {program}");
                return None;
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let users = directory.path().join("users");
        fs::write(&users, HTPASSWD).unwrap();
        let mut config = json!({
            "version": "0.1",
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": directory.path().join("store") } },
            "http": { "addr": address },
        });
        let pem = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
        match door {
            Door::Open => {}
            Door::Users => {
                config["auth"] = json!({ "htpasswd": { "realm": "r", "path": users } });
            }
            Door::Tls => {
                let (certificate, key) = (pem.join("cert.pem"), pem.join("key.pem"));
                config["http"]["tls"] = json!({ "certificate": certificate, "key": key });
            }
        }
        let path = directory.path().join("config.yml");
        fs::write(&path, config.to_string()).unwrap();
        let server = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { address, server, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&this.address).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(this)
    }

    /// Puts the image `name` of a layout under its own name.
    pub(crate) fn push(&self, layout: &Path, name: &str, as_name: &str) {
        let output = Command::new("skopeo")
            .args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"])
            .args(["--dest-creds", "me:hunter2"])
            .arg(format!("oci:{}:{name}", layout.display()))
            .arg(format!("docker://{}/{as_name}", self.address))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
