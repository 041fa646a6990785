//! The binary under the names of Tinkerbell's actions, as in a container of such an image.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;

/// Runs an action with nothing in its environment but what is given.
fn run(name: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join(name);
    symlink(env!("CARGO_BIN_EXE_nibs"), &program).unwrap();
    let environment: BTreeMap<_, _> = environment.iter().copied().collect();
    Command::new(program).env_clear().envs(environment).args(arguments).output().unwrap()
}

/// All lines of stdout, each of which has to be JSON.
fn events(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_exit_code_is_that_of_the_image_and_stdout_is_json_lines() {
    let on = [("BLOCK_DEVICE", "/dev/absent"), ("FS_TYPE", "ext4")];
    let missing = run("cexec", &on, &[]);
    assert_eq!(missing.status.code(), Some(20));
    let last = events(&missing).pop().unwrap();
    assert!(last.to_string().contains("CMD_LINE is missing"), "{last}");

    let bad = [&on[..], &[("CMD_LINE", "true"), ("UPDATE_RESOLV_CONF", "perhaps")]].concat();
    assert_eq!(run("cexec", &bad, &[]).status.code(), Some(10));

    let secret = [&on[..], &[("CMD_LINE", "echo hunter2")]].concat();
    let failed = run("cexec", &secret, &[]);
    assert_eq!(failed.status.code(), Some(30));
    let said = events(&failed);
    assert!(said.iter().any(|event| event.to_string().contains("/dev/absent")), "{said:?}");
    let all = String::from_utf8_lossy(&failed.stdout) + String::from_utf8_lossy(&failed.stderr);
    assert!(!all.contains("hunter2"), "{all}");

    assert_eq!(run("kexec", &[], &[]).status.code(), Some(1));
    assert_eq!(run("rootio", &[("MIRROR_HOST", "h")], &[]).status.code(), Some(1));
}

#[test]
fn what_is_done_ends_with_zero() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), r#"{"metadata":{"instance":{"storage":{}}}}"#).unwrap();
    let environment = [("TEST", "1"), ("JSON_FILE", file.path().to_str().unwrap())];
    let output = run("rootio", &environment, &["version"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(events(&output).len() >= 4);
}

/// A program of the machine; its output, or why the test cannot go on.
fn tool(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
            Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
        }
        Err(error) => {
            eprintln!("skipped: needs {program}: {error}");
            None
        }
    }
}

/// A loop device with a small system on it: a static busybox and some programs of its own.
struct System {
    device: String,
    _directory: tempfile::TempDir,
}

impl System {
    fn new(programs: &[(&str, &str)]) -> Option<Self> {
        const BUSYBOX: &str = "/bin/busybox";
        let is_possible = nix::unistd::geteuid().is_root()
            && Path::new("/dev/loop-control").exists()
            && Path::new(BUSYBOX).exists();
        if !is_possible {
            eprintln!("skipped: needs root, loop devices and {BUSYBOX} of busybox-static");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("boot")).unwrap();
        fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        for name in ["sh", "echo", "cat", "mkdir", "dd", "mount"] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        for (path, content) in programs {
            let file = root.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let image = directory.path().join("image");
        fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        let (root, image) = (root.to_str()?, image.to_str()?);
        tool("mke2fs", &["-q", "-t", "ext4", "-d", root, image])?;
        let device = tool("losetup", &["--find", "--show", image])?;
        Some(Self { device, _directory: directory })
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn cexec_runs_commands_and_says_what_they_say() {
    let Some(system) = System::new(&[]) else { return };
    let on = [("BLOCK_DEVICE", &*system.device), ("FS_TYPE", "ext4"), ("GREETING", "hello")];
    let line = "echo $GREETING from the system > /note; cat /note";
    let more = [("CMD_LINE", line), ("DEFAULT_INTERPRETER", "/bin/sh -c"), ("CHROOT", "y")];
    let output = run("cexec", &[&on[..], &more].concat(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said(&output).contains("\"message\":\"hello from the system\""), "{output:?}");

    let output =
        run("cexec", &[&on[..], &[("CMD_LINE", "cat /note; cat /absent; echo no")]].concat(), &[]);
    assert_eq!(output.status.code(), Some(30));
    let all = said(&output);
    assert!(all.contains("hello from the system") && !all.contains("\"no\""), "{all}");
    assert!(all.contains("running cat: it ended with exit status 1; the last it wrote"), "{all}");
}

#[test]
fn grub_is_installed_by_whatever_the_system_calls_it() {
    const INSTALL: &str = "#!/bin/sh\necho installing to $1\n";
    const CONFIGURE: &str = "#!/bin/sh\necho configuring $*\n";
    for (programs, words) in [
        (&[("usr/sbin/grub-install", INSTALL), ("usr/sbin/update-grub", CONFIGURE)], "configuring"),
        (
            &[("sbin/grub2-install", INSTALL), ("sbin/grub2-mkconfig", CONFIGURE)],
            "configuring -o /boot/grub2/grub.cfg",
        ),
    ] {
        let Some(system) = System::new(programs) else { return };
        let environment = [
            ("GRUB_DISK", &*system.device),
            ("GRUB_INSTALL_PATH", "/dev/sda"),
            ("FS_TYPE", "ext4"),
        ];
        let output = run("grub2disk", &environment, &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(said(&output).contains("installing to /dev/sda"), "{output:?}");
        assert!(said(&output).contains(words), "{output:?}");
    }
    let Some(system) = System::new(&[]) else { return };
    let environment = [("GRUB_DISK", &*system.device), ("GRUB_INSTALL_PATH", "/dev/sda")];
    let output = run("grub2disk", &environment, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("has neither grub-install nor grub2-install"), "{output:?}");
}

#[test]
fn extlinux_and_its_boot_record_go_where_the_variables_say() {
    let programs = [
        ("usr/bin/extlinux", "#!/bin/sh\necho extlinux $*\n"),
        ("usr/lib/syslinux/mbr/mbr.bin", "a boot record"),
    ];
    let Some(system) = System::new(&programs) else { return };
    let disk = tempfile::NamedTempFile::new().unwrap();
    // Not a disk, but below /dev and seen from the system.
    let node = Path::new("/dev").join(disk.path().file_name().unwrap());
    fs::write(&node, [7; 512]).unwrap();
    let environment = [
        ("DEST_PARTITION", &*system.device),
        ("DEST_DISK", node.to_str().unwrap()),
        ("SYSLINUX_VERSION", "386"),
    ];
    let output = run("syslinux", &environment, &[]);
    let written = fs::read(&node).unwrap();
    fs::remove_file(&node).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(said(&output).contains("extlinux --install /boot/extlinux"), "{output:?}");
    assert!(written.starts_with(b"a boot record\x07"), "{written:?}");
    assert_eq!(written.len(), 512);
}

#[test]
fn rootio_asks_the_metadata_service() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        let body = r#"{"metadata":{"instance":{"storage":{"disks":[{"device":"/dev/absent"}]}}}}"#;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let environment = [("MIRROR_HOST", "127.0.0.1"), ("METADATA_SERVICE_PORT", &*port)];
    let output = run("rootio", &environment, &["wipe"]);
    assert!(server.join().unwrap().starts_with("GET /metadata HTTP/1.1"));
    assert_eq!(output.status.code(), Some(1), "an error fails the action");
    assert!(said(&output).contains("/dev/absent"), "{output:?}");
}
