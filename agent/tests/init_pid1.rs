//! The agent as PID 1 of a machine made of namespaces: mounts, consoles, the death of the agent,
//! orphans, signals. A reboot in a PID namespace ends its init by SIGHUP (pid_namespaces(7)), which
//! is what tells it from a crash. Needs root and unshare; skipped with a reason otherwise.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nobody is at that address (RFC 5737), and without an interface the agent waits for one.
const COMMAND_LINE: &str = "nibs.control=http://192.0.2.1:1 console=tty7 console=tty8,9600 \
     nibs.reboot-delay=1s nibs.report-wait nibs.unknown=1\n";

/// A machine whose kernel has just started `/init`.
struct Machine {
    kernel: Child,
    root: TempDir,
}

impl Machine {
    /// None, with a reason printed, where there are no namespaces to be had.
    fn boot() -> Option<Self> {
        Self::boot_by(COMMAND_LINE)
    }

    fn boot_by(command_line: &str) -> Option<Self> {
        let works =
            || Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).status();
        if !geteuid().is_root() || !works().is_ok_and(|status| status.success()) {
            eprintln!("skipped: needs root and unshare for a PID namespace");
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for folder in ["proc", "sys", "dev", "run", "tmp"] {
            fs::create_dir(at(folder)).unwrap();
        }
        fs::copy(env!("CARGO_BIN_EXE_nibs"), at("init")).unwrap();
        fs::write(at("cmdline"), command_line).unwrap();
        // What the kernel of a real machine shows; the rest is left to init.
        let script = "cd \"$1\" && mount -t proc proc proc && mount --bind cmdline proc/cmdline &&
             mount -t tmpfs tmpfs dev &&
             for tty in tty7 tty8; do : >$tty; : >dev/$tty; mount --bind $tty dev/$tty; done &&
             exec env secret=hunter2 chroot . /init splash";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child"]);
        let kernel = command.args(["sh", "-c", script, "sh"]).arg(root.path()).spawn().unwrap();
        Some(Self { kernel, root })
    }

    fn console(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join(name)).unwrap_or_default()
    }

    /// Waits until something is there.
    fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "no {what}; console:\n{}", self.console("tty7"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn init(&self) -> Pid {
        self.wait("init", || children(self.kernel.id() as i32).into_iter().next())
    }

    /// The agent, once it runs.
    fn agent(&self) -> Pid {
        let init = self.init();
        self.wait("agent", || {
            children(init.as_raw()).into_iter().find(|child| arguments(*child).starts_with("nibs "))
        })
    }

    /// A path of the machine's own, seen from outside.
    fn inside(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(self.init().to_string()).join("root").join(path)
    }

    fn end(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.kernel.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "does not end:\n{}", self.console("tty7"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its init goes with it.
        let _ = self.kernel.kill();
        let _ = self.kernel.wait();
    }
}

fn children(of: i32) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

fn arguments(of: Pid) -> String {
    fs::read_to_string(format!("/proc/{of}/cmdline")).unwrap_or_default().replace('\0', " ")
}

#[test]
fn a_machine_comes_up_and_survives_orphans_and_stops_when_told() {
    let Some(mut machine) = Machine::boot() else { return };
    let agent = machine.agent();
    assert_eq!(arguments(agent).trim(), "nibs agent --network --state /run/nibs/job.json");
    let environment = fs::read_to_string(format!("/proc/{agent}/environ")).unwrap();
    assert!(environment.contains("PATH=") && !environment.contains("secret"), "{environment}");
    let mounts = fs::read_to_string(machine.inside("proc/self/mounts"))
        .or_else(|_| fs::read_to_string(format!("/proc/{agent}/mounts")))
        .unwrap();
    for mount in ["sysfs /sys", "devpts /dev/pts", "tmpfs /run", "tmpfs /tmp"] {
        assert!(mounts.contains(mount), "{mount}: {mounts}");
    }
    assert_eq!(mounts.matches(" /proc proc ").count(), 1, "{mounts}");
    let said = "is this machine's init";
    machine.wait("greeting", || machine.console("tty8").contains(said).then_some(()));

    // An orphan of another process is adopted and reaped.
    let status = Command::new("nsenter")
        .args(["--pid", "--target", &machine.init().to_string()])
        .args(["sh", "-c", "sleep 0.1 & exit 0"])
        .status()
        .unwrap();
    assert!(status.success());
    let init = machine.init().as_raw();
    machine.wait("reaped orphan", || (children(init) == [agent]).then_some(()));

    kill(machine.init(), Signal::SIGTERM).unwrap();
    let status = machine.end();
    assert_eq!(status.signal(), Some(Signal::SIGHUP as i32), "a reboot, and no crash");
    for console in ["tty7", "tty8"] {
        let text = machine.console(console);
        assert!(text.contains("told to stop by SIGTERM; rebooting\n"), "{text}");
    }
}

#[test]
fn the_death_of_the_agent_is_told_on_every_console_and_to_the_control_plane() {
    let Some(mut machine) = Machine::boot() else { return };
    let agent = machine.agent();
    // A state that nobody can report.
    fs::write(machine.inside("run/nibs/job.json"), "{").unwrap();
    let killed = Instant::now();
    kill(agent, Signal::SIGKILL).unwrap();
    let status = machine.end();
    assert_eq!(status.signal(), Some(Signal::SIGHUP as i32), "a reboot, and no crash");
    assert!(killed.elapsed() >= Duration::from_secs(1), "the message must be readable");
    for console in ["tty7", "tty8"] {
        let text = machine.console(console);
        for line in [
            "init: the agent was killed by SIGKILL, as the kernel does when memory runs out\n",
            "init: telling the control plane that its job has failed\n",
            "init: THE FAILURE IS NOT REPORTED: the report ended with exit code 1\n",
            "memory runs out; rebooting in 1 s (Ctrl-Alt-Del: at once)\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}

#[test]
fn the_agent_is_tinkerbells_where_only_its_server_is_named() {
    let line = "grpc_authority=192.0.2.1:42113 worker_id=w registry_password=hunter2 \
                tinkerbell_tls console=tty7 console=tty8\n";
    let Some(mut machine) = Machine::boot_by(line) else { return };
    let agent = machine.agent();
    assert_eq!(arguments(agent).trim(), "nibs tinkerbell --network");
    let warning = "tinkerbell_tls= has no value";
    machine.wait("warning", || machine.console("tty7").contains(warning).then_some(()));
    kill(machine.init(), Signal::SIGTERM).unwrap();
    let status = machine.end();
    assert_eq!(status.signal(), Some(Signal::SIGHUP as i32), "a reboot, and no crash");
    assert!(!machine.console("tty7").contains("hunter2"));
}

#[test]
fn our_own_control_plane_goes_before_a_tinkerbell_server() {
    let line = format!("grpc_authority=192.0.2.1:42113 {COMMAND_LINE}");
    let Some(machine) = Machine::boot_by(&line) else { return };
    assert!(arguments(machine.agent()).starts_with("nibs agent "));
    let warning = "grpc_authority= is not used";
    machine.wait("warning", || machine.console("tty7").contains(warning).then_some(()));
}

/// Runs a command of a few words.
fn run(command: &str) {
    let words: Vec<_> = command.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_machine_that_smees_iso_booted_asks_its_server_and_tells_its_receiver() {
    // A thread of its own: the other end of the machine's cable is in a network of its own.
    let thread = std::thread::spawn(|| {
        if !geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("skipped: needs root and a network namespace");
            return;
        }
        let line = "console=tty7 hw_addr=52:54:00:77:00:01 syslog_host=10.77.0.1 syslog_port=1514 \
                    grpc_authority=10.77.0.1:42113 tinkerbell_tls=false \
                    worker_id=52:54:00:77:00:01 registry_password=hunter2 \
                    ipam=52-54-00-77-00-01::10.77.0.9:255.255.255.0:10.77.0.1:node-9:10.77.0.1::  ";
        let Some(machine) = Machine::boot_by(line) else { return };
        machine.agent();
        let init = machine.init();
        let eth0 = format!("eth0 address 52:54:00:77:00:01 netns {init}");
        run(&format!("ip link add lan type veth peer name {eth0}"));
        run("ip address add 10.77.0.1/24 dev lan");
        let server = TcpListener::bind("10.77.0.1:42113").unwrap();
        let receiver = UdpSocket::bind("10.77.0.1:1514").unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        run("ip link set lan up");
        server.set_nonblocking(true).unwrap();
        let (mut stream, from) = machine.wait("connection", || server.accept().ok());
        assert_eq!(from.ip().to_string(), "10.77.0.9");
        stream.set_nonblocking(false).unwrap();
        let mut preface = [0; 14];
        stream.read_exact(&mut preface).unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0");
        // What was said before there was a network comes too, and in order.
        let mut told = String::new();
        while !told.contains("asking the Tinkerbell server 10.77.0.1:42113") {
            let mut message = [0; 2048];
            let length = receiver.recv(&mut message).expect(&told);
            let message = String::from_utf8_lossy(&message[..length]);
            assert!(message.contains(" 52:54:00:77:00:01 nibs "), "{message}");
            told += &format!("{message}\n");
        }
        assert!(told.contains("address 10.77.0.9/24 as ipam= gives it"), "{told}");
        let conf = fs::read_to_string(machine.inside("etc/resolv.conf")).unwrap();
        assert!(conf.contains("nameserver 10.77.0.1\n"), "{conf}");
        assert!(!told.contains("hunter2") && !machine.console("tty7").contains("hunter2"));
    });
    thread.join().unwrap();
}
