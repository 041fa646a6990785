//! What changes an installed system or lays out its disk, on loop devices. Needs root, loop devices,
//! the mkfs programs, sfdisk and a static busybox; skips without.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nibs_actions::{Context, Done, Error, Machine, Sink, Stop, http, mount};
use nibs_job::{LogLevel, Progress, Task};
use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";

/// Runs a program, or says why the test cannot go on.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: needs {program}: {error}");
            return None;
        }
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// A loop device over a sparse file; gone with the value.
struct LoopDevice {
    device: String,
    directory: tempfile::TempDir,
}

impl LoopDevice {
    fn new(size: u64) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            eprintln!("skipped: needs root and loop devices");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        fs::File::create(&image).unwrap().set_len(size).unwrap();
        let device = run("losetup", &["--find", "--show", "--partscan", image.to_str()?])?;
        // A loop device keeps the partitions that the kernel was told of for whoever had it last.
        let _ = Command::new("partx").args(["--delete", &device]).output();
        Some(Self { device, directory })
    }

    /// One that holds a small system: a busybox with some of its names.
    fn with_system() -> Option<Self> {
        if !Path::new(BUSYBOX).exists() {
            eprintln!("skipped: needs {BUSYBOX} of busybox-static");
            return None;
        }
        let this = Self::new(32 << 20)?;
        let root = this.directory.path().join("root");
        for name in ["bin", "etc", "dev", "proc", "sys", "run", "tmp"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        for name in ["sh", "cat", "ls", "sleep", "touch", "mount", "env", "setsid", "readlink"] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        symlink("../run/systemd/resolve/stub-resolv.conf", root.join("etc/resolv.conf")).unwrap();
        let script = root.join("bin/broken");
        fs::write(&script, "#!/absent/interpreter\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let root = root.to_str()?;
        run("mke2fs", &["-q", "-t", "ext4", "-d", root, &this.device])?;
        Some(this)
    }

    fn read(&self, file: &str) -> String {
        let (device, path) = (Path::new(&self.device), Path::new(file));
        let ext4 = nibs_job::params::Filesystem::Ext4;
        mount::with_mounted(device, ext4, mount::Access::ReadOnly, |root| {
            let bytes = root.read(path, 1 << 20)?;
            Ok::<_, Error>(String::from_utf8(bytes).unwrap())
        })
        .unwrap()
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

/// Keeps the log.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn has(&self, text: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(text))
    }
}

impl Sink for Heard {
    fn progress(&self, _: Progress) {}
    fn reset(&self, _: String) {}
    fn warning(&self, message: String) {
        self.0.lock().unwrap().push(message);
    }
    fn log(&self, _: LogLevel, message: String) {
        self.0.lock().unwrap().push(message);
    }
}

fn act(uses: &str, with: Value, stop: Stop) -> (Result<Done, Error>, Heard) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let heard = Heard::default();
    let context = Context {
        machine: Machine::default(),
        stop,
        sink: Arc::new(heard.clone()),
        runtime: runtime.handle().clone(),
        http: http::Options::default(),
        installed_disk: None,
    };
    let task = Task::decode(uses, with).unwrap();
    (nibs_actions::run(&task, &context), heard)
}

fn run_command(disk: &LoopDevice, more: &Value) -> (Result<Done, Error>, Heard) {
    let mut with = json!({"root": {"partition": {"path": disk.device}, "filesystem": "ext4"}});
    with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    act("run-command", with, Stop::default())
}

fn shell(disk: &LoopDevice, script: &str) -> (Result<Done, Error>, Heard) {
    run_command(disk, &json!({"commands": [["/bin/sh", "-c", script]]}))
}

fn is_mounted(device: &str) -> bool {
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(device)
}

#[test]
fn commands_run_in_the_system_with_the_machines_kernel_filesystems() {
    let Some(disk) = LoopDevice::with_system() else { return };
    let script = "echo to stdout; echo to stderr >&2; pwd; readlink /proc/self/root; \
                  ls -d /dev/null /sys/class /proc/mounts; ls /absent; cat /proc/mounts; \
                  echo changed >/etc/changed";
    let (result, heard) = shell(&disk, script);
    result.unwrap();
    for line in ["to stdout", "to stderr", "/dev/null", "/sys/class", "devpts", "/absent"] {
        assert!(heard.has(line), "{line}: {:?}", heard.0);
    }
    assert!(!is_mounted(&disk.device), "nothing of it is seen outside");
    assert_eq!(disk.read("/etc/changed"), "changed\n");
}

#[test]
fn the_environment_is_what_is_given_with_a_path_and_a_home() {
    let Some(disk) = LoopDevice::with_system() else { return };
    let more = json!({"commands": [["env"]], "environment": {"GREETING": "hello there"}});
    let (result, heard) = run_command(&disk, &more);
    result.unwrap();
    assert!(heard.has("GREETING=hello there") && heard.has("HOME=/root"));
    assert!(heard.has("PATH=/usr/local/sbin:") && !heard.has("CARGO"));
}

#[test]
fn the_first_command_that_fails_ends_it_with_status_and_last_words() {
    let Some(disk) = LoopDevice::with_system() else { return };
    let commands = json!([
        ["touch", "/first"],
        ["sh", "-c", "echo secret-argument >/dev/null; echo the reason >&2; exit 42"],
        ["touch", "/third"],
    ]);
    let (result, heard) = run_command(&disk, &json!({"commands": commands}));
    let error = result.unwrap_err().to_string();
    assert_eq!(
        error,
        "running sh: it ended with exit status 42; the last it wrote to stderr: the reason"
    );
    assert!(heard.has("running touch (command 1 of 3) in the system on /dev/loop"));
    assert!(!heard.has("secret-argument") && !heard.has("3 of 3"));
    assert_eq!(disk.read("/first"), "");
}

#[test]
fn a_program_that_is_not_in_the_system_is_named() {
    let Some(disk) = LoopDevice::with_system() else { return };
    for program in ["grub-install", "/bin/broken"] {
        let (result, _) = run_command(&disk, &json!({"commands": [[program]]}));
        let error = result.unwrap_err().to_string();
        let start =
            format!("running {program}: there is no such program in the system on /dev/loop");
        assert!(error.starts_with(&start), "{error}");
        assert!(error.contains("install it there") && error.contains("interpreter"), "{error}");
    }
}

#[test]
fn names_are_resolved_as_on_the_machine_and_the_system_keeps_its_own_file() {
    let Some(disk) = LoopDevice::with_system() else { return };
    let ours = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let Some(first) = ours.lines().find(|line| !line.trim().is_empty()) else {
        eprintln!("skipped: needs a machine with /etc/resolv.conf");
        return;
    };
    let script = "cat /etc/resolv.conf; echo link: $(readlink /etc/resolv.conf)";
    let commands = json!([["sh", "-c", script]]);
    let (result, heard) = run_command(&disk, &json!({"commands": commands, "resolv-conf": true}));
    result.unwrap();
    assert!(heard.has(first), "{:?}", heard.0);
    assert!(heard.has("link: ../run/systemd"), "{:?}", heard.0);
    let (result, heard) = shell(&disk, "ls -A /run; cat /etc/resolv.conf || echo as before");
    result.unwrap();
    assert!(heard.has("as before"), "{:?}", heard.0);
}

#[test]
fn a_link_by_the_former_name_of_run_leads_there_too() {
    let Some(disk) = LoopDevice::with_system() else { return };
    if !Path::new("/etc/resolv.conf").exists() {
        eprintln!("skipped: needs a machine with /etc/resolv.conf");
        return;
    }
    let script = "B=busybox; $B mkdir /var; $B ln -s /run /var/run; \
                  $B ln -sf /var/run/NetworkManager/resolv.conf /etc/resolv.conf";
    shell(&disk, script).0.unwrap();
    let commands = json!([["sh", "-c", "cat /run/NetworkManager/resolv.conf && echo lent"]]);
    let (result, heard) = run_command(&disk, &json!({"commands": commands, "resolv-conf": true}));
    result.unwrap();
    assert!(heard.has("lent"), "{:?}", heard.0);
}

#[test]
fn a_system_without_that_file_has_none_afterwards() {
    let Some(disk) = LoopDevice::with_system() else { return };
    if !Path::new("/etc/resolv.conf").exists() {
        eprintln!("skipped: needs a machine with /etc/resolv.conf");
        return;
    }
    let (result, _) = shell(&disk, "busybox rm /etc/resolv.conf");
    result.unwrap();
    let commands = json!([["sh", "-c", "cat /etc/resolv.conf && echo lent"]]);
    let (result, heard) = run_command(&disk, &json!({"commands": commands, "resolv-conf": true}));
    result.unwrap();
    assert!(heard.has("lent"), "{:?}", heard.0);
    let (result, heard) = shell(&disk, "ls -A /etc; [ -e /etc/resolv.conf ] || echo none");
    result.unwrap();
    assert!(heard.has("none"), "{:?}", heard.0);
}

#[test]
fn what_a_command_leaves_behind_ends_with_the_action() {
    let Some(disk) = LoopDevice::with_system() else { return };
    // Out of the group and without a parent, with files of the system open to read and to write.
    let script = r#"
        opened() {
            for turn in 1 2 3 4 5 6 7 8 9; do
                [ "$(readlink /proc/$1/fd/$2)" = "$3" ] && echo "holds $3" && break
                sleep 1
            done
        }
        echo kept >/etc/kept
        setsid sh -c 'exec sleep 271828 </etc/kept >/dev/null 2>&1' &
        opened $! 0 /etc/kept
        setsid sleep 271828 >/tmp/held 2>&1 &
        opened $! 1 /tmp/held
    "#;
    let (result, heard) = shell(&disk, script);
    result.unwrap();
    assert!(heard.has("holds /etc/kept") && heard.has("holds /tmp/held"), "{:?}", heard.0);
    assert!(!sleeps("271828") && !is_mounted(&disk.device));
}

#[test]
fn a_command_that_does_not_end_is_killed_at_the_deadline_with_all_it_started() {
    let Some(disk) = LoopDevice::with_system() else { return };
    let script = "setsid sleep 314159 & sleep 314159 & trap '' TERM; while true; do sleep 1; done";
    let with =
        json!({"root": {"partition": {"path": disk.device}}, "commands": [["sh", "-c", script]]});
    let deadline = Instant::now() + Duration::from_secs(1);
    let begun = Instant::now();
    let (result, _) =
        act("run-command", with, Stop { deadline: Some(deadline), ..Stop::default() });
    assert!(matches!(result, Err(Error::TimedOut)), "{result:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!sleeps("314159") && !is_mounted(&disk.device));
}

/// Whether somebody sleeps for that long.
fn sleeps(seconds: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut commands =
        processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let wanted = format!("sleep\0{seconds}\0").into_bytes();
    commands.any(|command| command == wanted)
}

/// What the agent has a system do for Tinkerbell's `grub2disk`.
const GRUB2DISK: &str = include_str!("../../agent/src/tinkerbell/builtin/grub2disk.sh");

/// Writes a system's fstab, and runs that in it.
fn grub2disk(disk: &LoopDevice, fstab: &str) -> (Result<Done, Error>, Heard) {
    let environment = json!({"GRUB_INSTALL_PATH": "/dev/sda", "FSTAB": fstab});
    let commands =
        json!([["sh", "-c", "printf '%s' \"$FSTAB\" >/etc/fstab"], ["sh", "-c", GRUB2DISK]]);
    run_command(disk, &json!({"commands": commands, "environment": environment}))
}

#[test]
fn grub_is_installed_with_what_fstab_mounts_for_it_or_not_at_all() {
    let (Some(disk), Some(boot)) = (LoopDevice::with_system(), LoopDevice::new(16 << 20)) else {
        return;
    };
    run("mke2fs", &["-q", "-t", "ext4", &boot.device]);
    let script = "busybox mkdir -p /boot/grub; cd /bin; \
                  echo 'echo to $1; cat /proc/mounts' >grub-install; \
                  echo 'echo menu at $2' >grub-mkconfig; \
                  busybox sed -i '1i #!/bin/sh' grub-install grub-mkconfig; \
                  busybox chmod +x grub-install grub-mkconfig";
    shell(&disk, script).0.unwrap();
    let device = &boot.device;
    let mounted = format!("{device} /boot ext4");
    for there in [format!("{device} /boot ext4 ro 0 2\n"), format!("{device}\t/boot/ ext4 ro 0 2")]
    {
        let (result, heard) = grub2disk(&disk, &format!("# <file system> /boot\n{there}"));
        result.unwrap();
        assert!(heard.has("to /dev/sda") && heard.has("menu at /boot/grub/grub.cfg"));
        assert!(heard.has(&mounted), "{:?}", heard.0);
    }
    // Of a device that is not there, mount says nothing under nofail.
    for (optional, words) in [("noauto", "mounting /dev/absent"), ("ro,nofail", "")] {
        let (result, heard) = grub2disk(&disk, &format!("/dev/absent /boot ext4 {optional} 0 2\n"));
        result.unwrap();
        assert!(heard.has(words) && heard.has("to /dev/sda"), "{:?}", heard.0);
    }
    let others = format!("# /dev/absent /boot ext4 defaults 0 2\n{device} /bootleg ext4 ro 0 2\n");
    let (result, heard) = grub2disk(&disk, &others);
    result.unwrap();
    assert!(heard.has("to /dev/sda") && !heard.has("can't find"), "{:?}", heard.0);
    for place in ["/boot", "/boot/efi"] {
        let fstab = format!("/dev/absent {place} vfat umask=0077 0 1\n");
        let (result, heard) = grub2disk(&disk, &fstab);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("mount: ") && error.contains(&format!("mounting {place} failed")));
        assert!(error.contains("/etc/fstab has /dev/absent (vfat)"), "{error}");
        assert!(!heard.has("to /dev/sda"), "{:?}", heard.0);
    }
    assert!(!is_mounted(device));
}

#[test]
fn what_holds_no_filesystem_runs_nothing() {
    let Some(disk) = LoopDevice::new(4 << 20) else { return };
    let (result, _) = shell(&disk, "true");
    let error = result.unwrap_err().to_string();
    assert!(error.contains("expected ext4, found no filesystem"), "{error}");
}

#[test]
fn a_link_in_the_place_of_dev_is_not_followed_out_of_the_system() {
    let Some(disk) = LoopDevice::new(8 << 20) else { return };
    let root = disk.directory.path().join("root");
    fs::create_dir_all(&root).unwrap();
    symlink("/etc", root.join("dev")).unwrap();
    if run("mke2fs", &["-q", "-t", "ext4", "-d", root.to_str().unwrap(), &disk.device]).is_none() {
        return;
    }
    let (result, _) = shell(&disk, "true");
    let error = result.unwrap_err().to_string();
    assert!(error.contains("looking at its /dev: ") && error.contains("ot a directory"), "{error}");
    assert!(!is_mounted(&disk.device));
}

/// What sfdisk reads of a disk's table.
fn table(device: &str) -> Option<Value> {
    let text = run("sfdisk", &["--json", device])?;
    Some(serde_json::from_str::<Value>(&text).unwrap()["partitiontable"].clone())
}

#[test]
fn a_gpt_is_as_asked_for_and_its_partitions_are_there_at_once() {
    let Some(disk) = LoopDevice::new(256 << 20) else { return };
    let partitions = json!([
        {"name": "boot", "size": "1MiB", "purpose": "bios-boot"},
        {"name": "ESP", "size": "64MiB", "purpose": "efi"},
        {"name": "swap", "size": "10000000", "purpose": "swap"},
        {"name": "own", "size": "8MiB", "type-guid": "440408bb-eb0b-4328-a6e5-a29038fad706"},
        {"name": "root"},
    ]);
    let with = json!({"disk": {"path": disk.device}, "partitions": partitions});
    let (done, _) = act("partition-disk", with, Stop::default());
    assert_eq!(done.unwrap().installed_disk, Some(PathBuf::from(&disk.device)));
    assert!((1..=5).all(|number| Path::new(&format!("{}p{number}", disk.device)).exists()));
    let Some(table) = table(&disk.device) else { return };
    assert_eq!(table["label"], "gpt");
    let made: Vec<_> = table["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            let sectors = |key: &str| p[key].as_u64().unwrap();
            (p["name"].as_str().unwrap(), sectors("start"), sectors("size") / 2048)
        })
        .collect();
    let expected =
        [("boot", 2048, 1), ("ESP", 4096, 64), ("swap", 135_168, 10), ("own", 155_648, 8)];
    assert_eq!(made[..4], expected);
    assert_eq!(made[4], ("root", 172_032, 256 - 84 - 1));
    let types: Vec<_> =
        (0..4).map(|n| table["partitions"][n]["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types[1], "C12A7328-F81F-11D2-BA4B-00A0C93EC93B");
    assert_eq!(types[3], "440408BB-EB0B-4328-A6E5-A29038FAD706");
    let verified = run("sgdisk", &["--verify", &disk.device]);
    assert!(verified.is_none_or(|text| text.contains("No problems found")));
}

#[test]
fn an_mbr_is_as_asked_for() {
    let Some(disk) = LoopDevice::new(128 << 20) else { return };
    let partitions = json!([
        {"size": "32MiB", "purpose": "fat", "active": true},
        {"size": "16MiB", "purpose": "swap"},
        {},
    ]);
    let with = json!({"disk": {"path": disk.device}, "table": "mbr", "partitions": partitions});
    act("partition-disk", with, Stop::default()).0.unwrap();
    assert!(Path::new(&format!("{}p3", disk.device)).exists());
    let Some(table) = table(&disk.device) else { return };
    assert_eq!(table["label"], "dos");
    assert_ne!(table["id"], "0x00000000");
    let made: Vec<_> = table["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| (p["type"].as_str().unwrap(), p["bootable"] == json!(true)))
        .collect();
    assert_eq!(made, [("c", true), ("82", false), ("83", false)]);
    assert_eq!(table["partitions"][2]["start"], json!(49 * 2048));
    assert_eq!(table["partitions"][2]["size"], json!((128 - 49) * 2048));
}

#[test]
fn partitions_that_do_not_fit_leave_the_disk_as_it_was() {
    let Some(disk) = LoopDevice::new(32 << 20) else { return };
    if run("mke2fs", &["-q", "-t", "ext4", &disk.device]).is_none() {
        return;
    }
    let with = json!({"disk": {"path": disk.device}, "partitions": [{"size": "1GiB"}]});
    let error = act("partition-disk", with, Stop::default()).0.unwrap_err().to_string();
    assert!(error.contains("need 1.0 GiB, the disk has room for 31.0 MiB"), "{error}");
    assert_eq!(mount::probe(Path::new(&disk.device)).unwrap().unwrap().kind, "ext4");
}

#[test]
fn nothing_of_a_former_owner_is_found_after_a_wipe_or_in_new_partitions() {
    let Some(disk) = LoopDevice::new(128 << 20) else { return };
    let partitions = json!([{"name": "a", "size": "64MiB"}, {"name": "b"}]);
    let with = json!({"disk": {"path": disk.device}, "partitions": partitions});
    act("partition-disk", with.clone(), Stop::default()).0.unwrap();
    let first = format!("{}p1", disk.device);
    if run("mke2fs", &["-q", "-t", "ext4", &first]).is_none() {
        return;
    }
    assert!(mount::probe(Path::new(&first)).unwrap().is_some());
    act("partition-disk", with.clone(), Stop::default()).0.unwrap();
    assert_eq!(mount::probe(Path::new(&first)).unwrap(), None, "the new partition is blank");

    run("mke2fs", &["-q", "-t", "ext4", &first]);
    act("wipe-disk", json!({"disk": {"path": disk.device}}), Stop::default()).0.unwrap();
    assert!(!Path::new(&first).exists(), "the kernel forgets the partitions");
    assert_eq!(mount::probe(Path::new(&disk.device)).unwrap(), None);
    let found = run("wipefs", &["--noheadings", &disk.device]);
    assert!(found.is_none_or(|text| text.is_empty()));
    // Where the first partition was.
    let image = fs::read(disk.directory.path().join("image")).unwrap();
    assert!(image[1 << 20..9 << 20].iter().all(|byte| *byte == 0));
    assert!(image[image.len() - (1 << 20)..].iter().all(|byte| *byte == 0), "no backup GPT");
}

#[test]
fn a_mounted_disk_is_neither_wiped_nor_partitioned_nor_formatted() {
    let Some(disk) = LoopDevice::new(32 << 20) else { return };
    if run("mke2fs", &["-q", "-t", "ext4", &disk.device]).is_none() {
        return;
    }
    let point = disk.directory.path().join("point");
    fs::create_dir(&point).unwrap();
    run("mount", &[&disk.device, point.to_str().unwrap()]);
    let results = [
        act("wipe-disk", json!({"disk": {"path": disk.device}}), Stop::default()),
        act(
            "partition-disk",
            json!({"disk": {"path": disk.device}, "partitions": [{}]}),
            Stop::default(),
        ),
        act(
            "make-filesystem",
            json!({"on": {"partition": {"path": disk.device}}, "format": "ext4"}),
            Stop::default(),
        ),
    ];
    run("umount", &[point.to_str().unwrap()]);
    for (result, _) in results {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("mounted"), "{error}");
    }
    assert_eq!(mount::probe(Path::new(&disk.device)).unwrap().unwrap().kind, "ext4");
}

#[test]
fn filesystems_and_swap_are_made_with_their_labels() {
    let Some(disk) = LoopDevice::new(320 << 20) else { return };
    for (format, program) in [
        ("ext2", "mke2fs"),
        ("ext4", "mke2fs"),
        ("vfat", "mkfs.fat"),
        ("xfs", "mkfs.xfs"),
        ("swap", "true"),
    ] {
        if Command::new(program).arg("-V").output().is_err() {
            eprintln!("skipped {format}: needs {program}");
            continue;
        }
        let with =
            json!({"on": {"partition": {"path": disk.device}}, "format": format, "label": "STATE"});
        act("make-filesystem", with, Stop::default()).0.unwrap();
        let found = mount::probe(Path::new(&disk.device)).unwrap().unwrap();
        assert_eq!((found.kind.as_str(), found.label.as_deref()), (format, Some("STATE")));
    }
}

#[test]
fn a_program_that_is_missing_is_named_with_its_package() {
    let Some(disk) = LoopDevice::new(128 << 20) else { return };
    if Command::new("mkfs.btrfs").arg("-V").output().is_ok() {
        eprintln!("skipped: mkfs.btrfs is here");
        return;
    }
    let with = json!({"on": {"partition": {"path": disk.device}}, "format": "btrfs"});
    let error = act("make-filesystem", with, Stop::default()).0.unwrap_err().to_string();
    assert!(error.starts_with("running mkfs.btrfs: there is no such program"), "{error}");
    assert!(error.contains("add mkfs.btrfs (package btrfs-progs)"), "{error}");
}

#[test]
fn an_option_that_the_program_refuses_is_in_the_error() {
    let Some(disk) = LoopDevice::new(32 << 20) else { return };
    if run("mke2fs", &["-V"]).is_none() {
        return;
    }
    let with = json!({"on": {"partition": {"path": disk.device}}, "format": "ext4", "options": ["-O", "odd"]});
    let error = act("make-filesystem", with, Stop::default()).0.unwrap_err().to_string();
    assert!(error.contains("running mke2fs: it ended with exit status 1"), "{error}");
    assert!(error.contains("Invalid filesystem option set: odd"), "{error}");
}

#[test]
fn a_storage_document_is_followed_step_by_step() {
    let Some(disk) = LoopDevice::new(128 << 20) else { return };
    let device = &disk.device;
    let document = json!({"metadata": {"instance": {"storage": {
        "disks": [{"device": device, "wipe_table": true, "partitions": [
            {"label": "SWAP", "number": 1, "size": 32768},
            {"label": "ROOT", "number": 2, "size": 0}]}],
        "filesystems": [
            {"mount": {"device": format!("{device}p2"), "format": "ext4", "point": "/",
                       "create": {"options": ["-L", "ROOT"]}}},
            {"mount": {"device": format!("{device}p1"), "format": "swap", "point": "none"}}]
    }}}});
    let file = disk.directory.path().join("document.json");
    fs::write(&file, document.to_string()).unwrap();
    let step =
        |step: &str| act("storage", json!({"document": file, "step": step}), Stop::default());
    step("partition").0.unwrap();
    let (result, _) = step("mount");
    assert!(result.unwrap_err().to_string().contains("found no filesystem"));
    if run("mke2fs", &["-V"]).is_none() {
        return;
    }
    step("format").0.unwrap();
    let kind = |number| mount::probe(Path::new(&format!("{device}p{number}"))).unwrap().unwrap();
    assert_eq!((kind(1).kind.as_str(), kind(2).kind.as_str()), ("swap", "ext4"));
    assert_eq!(kind(2).label.as_deref(), Some("ROOT"));
    let (result, heard) = step("mount");
    result.unwrap();
    assert!(heard.has("ext4 for \"/\" can be mounted") && !is_mounted(device));
    step("wipe").0.unwrap();
    assert!(!Path::new(&format!("{device}p1")).exists());
}

/// Follows a step of a storage document.
fn storage(disk: &LoopDevice, step: &str, layout: &Value) -> Result<Done, Error> {
    let document = json!({"metadata": {"instance": {"storage": layout}}});
    let file = disk.directory.path().join("document.json");
    fs::write(&file, document.to_string()).unwrap();
    act("storage", json!({"document": file, "step": step}), Stop::default()).0
}

#[test]
fn a_document_that_cannot_be_followed_to_its_end_costs_no_disk_anything() {
    let (Some(first), Some(second)) = (LoopDevice::new(32 << 20), LoopDevice::new(32 << 20)) else {
        return;
    };
    if [&first, &second].iter().any(|d| run("mke2fs", &["-q", &d.device]).is_none()) {
        return;
    }
    let disk = |device: &str, size: u64| {
        json!({"device": device, "wipe_table": true,
               "partitions": [{"label": "ROOT", "number": 1, "size": size}]})
    };
    let untouched = || {
        let kind = mount::probe(Path::new(&first.device)).unwrap().map(|found| found.kind);
        assert_eq!(kind.as_deref(), Some("ext2"));
    };
    for (last, wrong) in [
        (disk("/dev/absent", 0), "/dev/absent"),
        (disk(&second.device, 1 << 20), "need 513.0 MiB"),
        (json!({"device": "/dev/absent", "wipe_table": true}), "/dev/absent"),
    ] {
        let layout = json!({"disks": [disk(&first.device, 0), last]});
        let error = storage(&first, "partition", &layout).unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
        untouched();
    }
    let point = second.directory.path().join("point");
    fs::create_dir(&point).unwrap();
    run("mount", &[&second.device, point.to_str().unwrap()]);
    let layout = json!({"disks": [disk(&first.device, 0), disk(&second.device, 0)]});
    let results = ["partition", "wipe"].map(|step| storage(&first, step, &layout));
    run("umount", &[point.to_str().unwrap()]);
    for result in results {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("is mounted at"), "{error}");
    }
    untouched();
    if Command::new("mkfs.btrfs").arg("-V").output().is_ok() {
        eprintln!("skipped in part: mkfs.btrfs is here");
        return;
    }
    let later = format!("{}p1", first.device);
    let layout = json!({"disks": [disk(&first.device, 0)], "filesystems": [
        {"mount": {"device": later, "format": "btrfs", "point": "/"}}]});
    let error = storage(&first, "partition", &layout).unwrap_err().to_string();
    assert!(error.starts_with("running mkfs.btrfs: there is no such program in the"), "{error}");
    assert!(error.contains("add mkfs.btrfs (package btrfs-progs)"), "{error}");
    untouched();
}

#[test]
fn a_disk_without_partitions_is_wiped_if_the_document_says_so_and_else_left_alone() {
    let Some(disk) = LoopDevice::new(32 << 20) else { return };
    if run("mke2fs", &["-q", &disk.device]).is_none() {
        return;
    }
    let kind = || mount::probe(Path::new(&disk.device)).unwrap().map(|found| found.kind);
    for partitions in [Value::Null, json!([])] {
        let layout = json!({"disks": [{"device": disk.device, "partitions": partitions}]});
        storage(&disk, "partition", &layout).unwrap();
        assert_eq!(kind().as_deref(), Some("ext2"));
    }
    let layout = json!({"disks": [{"device": disk.device, "wipe_table": true}]});
    let done = storage(&disk, "partition", &layout).unwrap();
    assert_eq!((kind(), done.installed_disk), (None, None));
    let layout = json!({"disks": [{"device": "sda", "wipe_table": true}]});
    let error = storage(&disk, "partition", &layout).unwrap_err().to_string();
    assert!(error.contains("disks[0]: ") && error.contains("below /dev"), "{error}");
}

#[test]
fn a_document_that_is_not_there_is_named() {
    let with = json!({"document": "/absent/document.json", "step": "wipe"});
    let error = act("storage", with, Stop::default()).0.unwrap_err().to_string();
    assert!(error.starts_with("reading the storage document from "), "{error}");
}

#[test]
fn a_kernel_is_looked_for_in_the_system_before_anything_is_loaded() {
    let Some(disk) = LoopDevice::with_system() else { return };
    let in_container = fs::read_link("/proc/self/ns/pid")
        .is_ok_and(|namespace| namespace != Path::new("pid:[4026531836]"));
    if in_container {
        eprintln!("skipped: needs the initial PID namespace");
        return;
    }
    let root = json!({"partition": {"path": disk.device}});
    let (result, _) = act("kexec", json!({"root": root}), Stop::default());
    let error = result.unwrap_err().to_string();
    assert!(error.contains("no kernel is named, and none of /boot/grub/grub.cfg"), "{error}");
    let with = json!({"root": root, "kernel": "/boot/absent"});
    let error = act("kexec", with, Stop::default()).0.unwrap_err().to_string();
    assert!(error.starts_with("opening /boot/absent"), "{error}");
    let with = json!({"root": root, "kernel": "/bin/busybox"});
    let error = act("kexec", with, Stop::default()).0.unwrap_err().to_string();
    assert!(error.starts_with("loading the kernel /bin/busybox (kexec_file_load)"), "{error}");
}
