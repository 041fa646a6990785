//! A container where there is least for it: in an initramfs, whose root pivot_root(2) cannot leave,
//! without cgroups, out of the images that came along.
//!
//! Needs QEMU, a static busybox, and what `./build.sh test` makes; says so where it is skipped.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use cpio::newc;
use lab::artefacts::{Artefacts, missing_programs};

/// Mounts what programs need, runs a container each way, shows what is left, and switches off.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
for kind in proc sysfs; do busybox mount -t $kind $kind /${kind%fs}; done
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /run
busybox ln -s /proc/self/fd /dev/fd
for pid in own host; do
    /nibs action run-container --with image=127.0.0.1/embedded/nibs \
        --with 'command=["--version"]' --with pid=$pid --with 'volumes=["/:/machine", "/dev:/dev"]'
    echo "ended $pid: $?"
done
busybox sed 's/^/left: /' /proc/mounts
busybox ls /run/nibs/containers
busybox poweroff -f
"#;

/// What the machine may take, seconds.
const PATIENCE: &str = "120";

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

fn append(archive: &mut Vec<u8>, name: &str, mode: u32, bytes: &[u8]) {
    let builder = newc::Builder::new(name).mode(mode).ino(archive.len() as u32);
    let mut writer = builder.write(archive, bytes.len() as u32);
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap();
}

/// All below a directory of the host, under a name in the archive.
fn append_tree(archive: &mut Vec<u8>, name: &str, directory: &Path) {
    append(archive, name, DIRECTORY, b"");
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{name}/{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            append_tree(archive, &name, &path);
        } else {
            append(archive, &name, PROGRAM, &fs::read(&path).unwrap());
        }
    }
}

#[test]
fn a_container_runs_in_an_initramfs_and_leaves_nothing() {
    let artefacts = Artefacts::find();
    let layout = artefacts.directory().join("oci/layout");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let busybox = busybox.into_iter().find(|path| path.exists());
    let missing = missing_programs(&["qemu-system-x86_64", "timeout"]);
    let files = [artefacts.kernel(), artefacts.agent(), layout.join("index.json")];
    let (Some(busybox), true, true) =
        (busybox, missing.is_empty(), files.iter().all(|file| file.exists()))
    else {
        eprintln!("skipped: needs QEMU, busybox-static, and `./build.sh test`: {files:?}");
        return;
    };

    let mut archive = Vec::new();
    for directory in ["bin", "dev", "proc", "run", "sys"] {
        append(&mut archive, directory, DIRECTORY, b"");
    }
    append(&mut archive, "bin/busybox", PROGRAM, &fs::read(busybox).unwrap());
    append(&mut archive, "nibs", PROGRAM, &fs::read(artefacts.agent()).unwrap());
    append(&mut archive, "init", PROGRAM, INIT.as_bytes());
    append_tree(&mut archive, "images", &layout);
    newc::trailer(&mut archive).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let initramfs = directory.path().join("initramfs");
    fs::write(&initramfs, archive).unwrap();

    let output = Command::new("timeout")
        .args([PATIENCE, "qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none"])
        // In software: /dev/kvm may be there and not work, and there is little to run.
        .args(["-machine", "q35,accel=tcg", "-m", "512"])
        .args(["-serial", "stdio", "-append", "console=ttyS0 quiet"])
        .arg("-kernel")
        .arg(artefacts.kernel())
        .arg("-initrd")
        .arg(&initramfs)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    for pid in ["own", "host"] {
        assert!(said.contains(&format!("ended {pid}: 0")), "{said}");
    }
    let version = concat!("nibs ", env!("CARGO_PKG_VERSION"));
    assert_eq!(said.lines().filter(|line| line.contains(version)).count(), 2, "{said}");
    let left: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("left: ")).collect();
    let kinds: Vec<_> = left.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(kinds, ["rootfs", "proc", "sysfs", "devtmpfs", "tmpfs"], "{said}");
    assert!(!said.contains("embedded_nibs"), "{said}");
}
