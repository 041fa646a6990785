//! Filesystems on loop devices. Needs root, loop devices and the mkfs programs; skips without.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use nibs_actions::mount::{self, Access, FileError, MountError, NewFile, Root};
use nibs_actions::{Context, Error, Machine, Sink, Stop, disk, http};
use nibs_bottlerocket::net_toml::Lease;
use nibs_job::params::Filesystem;
use nibs_job::{Class, LogLevel, Progress, Task};

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
    device: PathBuf,
    image: PathBuf,
    _directory: tempfile::TempDir,
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
        let device = run("losetup", &["--find", "--show", image.to_str()?])?;
        // A loop device keeps the partitions that the kernel was told of for whoever had it last.
        let _ = Command::new("partx").args(["--delete", &device]).output();
        let device = device.into();
        Some(Self { device, image, _directory: directory })
    }

    fn formatted(filesystem: Filesystem, size: u64) -> Option<Self> {
        let this = Self::new(size)?;
        format(&this.device, filesystem)?;
        Some(this)
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

fn format(device: &Path, filesystem: Filesystem) -> Option<String> {
    let device = device.to_str()?;
    match filesystem {
        Filesystem::Ext4 => run("mkfs.ext4", &["-q", "-L", "state", device]),
        Filesystem::Xfs => run("mkfs.xfs", &["-q", "-f", "-L", "state", device]),
        Filesystem::Vfat => run("mkfs.vfat", &["-n", "STATE", device]),
        Filesystem::Btrfs => run("mkfs.btrfs", &["-q", "-f", "-L", "state", device]),
    }
}

const KINDS: [(Filesystem, u64); 2] = [(Filesystem::Ext4, 32 << 20), (Filesystem::Xfs, 320 << 20)];

fn new_file<'a>(path: &'a str, content: &'a [u8]) -> NewFile<'a> {
    let (mode, directory_mode) = (0o4750, 0o2755);
    NewFile { path: Path::new(path), content, mode, directory_mode, uid: 12, gid: 34 }
}

/// What a test's work can end in.
#[derive(Debug)]
enum Trouble {
    Mount(MountError),
    File(FileError),
}

impl From<MountError> for Trouble {
    fn from(error: MountError) -> Self {
        Self::Mount(error)
    }
}

impl From<FileError> for Trouble {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

fn mounted<T: Send>(
    disk: &LoopDevice,
    filesystem: Filesystem,
    access: Access,
    work: impl FnOnce(&Root) -> Result<T, FileError> + Send,
) -> Result<T, Trouble> {
    mount::with_mounted(&disk.device, filesystem, access, |root| Ok(work(root)?))
}

fn is_mounted(device: &Path) -> bool {
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(device.to_str().unwrap())
}

#[test]
fn files_outlive_the_mount_with_owners_and_modes() {
    for (filesystem, size) in KINDS {
        let Some(disk) = LoopDevice::formatted(filesystem, size) else { return };
        let info = mount::probe(&disk.device).unwrap().unwrap();
        assert_eq!((&*info.kind, info.label.as_deref()), (filesystem.as_str(), Some("state")));
        assert_eq!(mount::mountable(&disk.device, None).unwrap(), filesystem);
        let file = new_file("/etc/nibs/config", b"content");
        for _ in 0..2 {
            mounted(&disk, filesystem, Access::ReadWrite, |root| {
                assert!(!is_mounted(&disk.device), "nobody else sees it");
                root.write(&file)
            })
            .unwrap();
            mounted(&disk, filesystem, Access::ReadOnly, |root| root.verify(&file)).unwrap();
        }
        let written = mounted(&disk, filesystem, Access::ReadOnly, |root| root.write(&file));
        assert!(matches!(written, Err(Trouble::File(FileError::Io { .. }))), "{written:?}");
    }
}

#[test]
fn a_full_filesystem_says_how_much_is_free_and_keeps_the_old_file() {
    for (filesystem, size) in KINDS {
        let Some(disk) = LoopDevice::formatted(filesystem, size) else { return };
        let old = new_file("/file", b"old");
        let content = vec![7; usize::try_from(size).unwrap()];
        let error = mounted(&disk, filesystem, Access::ReadWrite, |root| {
            root.write(&old)?;
            root.write(&new_file("/file", &content))
        });
        let Err(Trouble::File(error @ FileError::Full { needed, free, .. })) = error else {
            panic!("{error:?}")
        };
        assert!(needed == size && free < size && free > 0, "{error}");
        assert!(error.to_string().contains(&format!("({free} bytes)")), "{error}");
        mounted(&disk, filesystem, Access::ReadOnly, |root| {
            root.verify(&old)?;
            let names = root.list(Path::new("/"))?;
            assert!(names.iter().all(|entry| entry.name != ".nibs-new-file"), "{names:?}");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn a_dirty_journal_is_replayed_even_for_reading() {
    for (filesystem, size) in KINDS {
        let Some(disk) = LoopDevice::formatted(filesystem, size) else { return };
        let Some(copy) = LoopDevice::new(size) else { return };
        let file = new_file("/file", b"in the journal");
        mounted(&disk, filesystem, Access::ReadWrite, |root| {
            root.write(&file)?;
            // As after a power cut: what fsync has promised is there, the unmount is not.
            run(
                "cp",
                &["--sparse=always", disk.image.to_str().unwrap(), copy.image.to_str().unwrap()],
            );
            Ok(())
        })
        .unwrap();
        mounted(&copy, filesystem, Access::ReadOnly, |root| root.verify(&file)).unwrap();
    }
}

#[test]
fn work_that_panics_leaves_no_mount() {
    let Some(disk) = LoopDevice::formatted(Filesystem::Ext4, 32 << 20) else { return };
    let panicked = panic::catch_unwind(|| {
        mounted(&disk, Filesystem::Ext4, Access::ReadWrite, |_| -> Result<(), FileError> {
            panic!("on purpose")
        })
    });
    assert!(panicked.is_err());
    let exclusive = nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_EXCL;
    nix::fcntl::open(&disk.device, exclusive, nix::sys::stat::Mode::empty()).unwrap();
}

#[test]
fn a_kernel_without_the_filesystem_is_named_so() {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    if known.contains("vfat") {
        eprintln!("skipped: this kernel has vfat");
        return;
    }
    let Some(disk) = LoopDevice::formatted(Filesystem::Vfat, 32 << 20) else { return };
    assert_eq!(mount::mountable(&disk.device, None).unwrap(), Filesystem::Vfat);
    let error = mounted(&disk, Filesystem::Vfat, Access::ReadOnly, |_| Ok(())).unwrap_err();
    let Trouble::Mount(error @ MountError::NoDriver { .. }) = error else { panic!("{error:?}") };
    assert!(error.to_string().contains("this kernel has no vfat"), "{error}");
    assert_eq!(error.class(), Class::Environment);
}

#[test]
fn a_filesystem_that_is_not_what_the_job_says_is_refused() {
    let Some(disk) = LoopDevice::formatted(Filesystem::Ext4, 32 << 20) else { return };
    let error = mount::mountable(&disk.device, Some(Filesystem::Xfs)).unwrap_err().to_string();
    assert!(error.ends_with("expected xfs, found ext4"), "{error}");
}

/// Keeps what an action says.
#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Sink for Lines {
    fn progress(&self, _: Progress) {}
    fn reset(&self, _: String) {}
    fn warning(&self, message: String) {
        self.0.lock().unwrap().push(message);
    }
    fn log(&self, _: LogLevel, message: String) {
        self.0.lock().unwrap().push(message);
    }
}

/// A disk with a GPT and three partitions, the second and third with a filesystem.
struct PartitionedDisk {
    disk: LoopDevice,
    partitions: Vec<disk::Partition>,
}

impl PartitionedDisk {
    fn new() -> Option<Self> {
        let disk = LoopDevice::new(96 << 20)?;
        let path = disk.device.to_str()?;
        run(
            "sgdisk",
            &[
                "--new=1:2048:+8M",
                "--typecode=1:ef00",
                "--change-name=1:EFI",
                "--new=2:0:+32M",
                "--change-name=2:STATE",
                "--new=3:0:+32M",
                "--change-name=3:STATE",
                path,
            ],
        )?;
        let machine = Machine::default();
        let found = disk::open_named(&machine, &disk.device).unwrap().unwrap();
        let partitions = disk::settle(&machine, &disk::claim(&machine, &found).unwrap()).unwrap();
        format(&partitions[1].path, Filesystem::Ext4)?;
        run("mkfs.ext4", &["-q", "-L", "other", partitions[2].path.to_str()?])?;
        Some(Self { disk, partitions })
    }

    fn context(&self, lines: &Arc<Lines>, runtime: &tokio::runtime::Runtime) -> Context {
        Context {
            machine: Machine::default(),
            stop: Stop::default(),
            sink: lines.clone(),
            runtime: runtime.handle().clone(),
            http: http::Options::default(),
            installed_disk: Some(self.disk.device.clone()),
        }
    }
}

impl Drop for PartitionedDisk {
    fn drop(&mut self) {
        let _ = Command::new("partx").arg("--delete").arg(&self.disk.device).output();
        // On a /dev without devtmpfs the nodes would outlive the partitions.
        for partition in &self.partitions {
            let _ = fs::remove_file(&partition.path);
        }
    }
}

#[test]
fn the_action_finds_its_partition_and_tells_no_secret() {
    let Some(disk) = PartitionedDisk::new() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let lines = Arc::new(Lines::default());
    let context = disk.context(&lines, &runtime);
    let write = |partition: &str| {
        let with = format!(
            r#"{{"partition": {partition}, "files": [
                {{"path": "/a/token", "content": "first"}},
                {{"path": "/a/token", "content": "hunter2", "mode": "0600", "uid": 7}}]}}"#
        );
        let task = Task::decode("write-files", serde_json::from_str(&with).unwrap()).unwrap();
        nibs_actions::run(&task, &context)
    };

    assert_eq!(write(r#"{"label": "state"}"#).unwrap().degraded, [""; 0]);
    let (file, device) = (Path::new("/a/token"), &disk.partitions[1].path);
    let read: Result<_, Error> =
        mount::with_mounted(device, Filesystem::Ext4, Access::ReadOnly, |root| {
            Ok(root.read(file, 100)?)
        });
    assert_eq!(read.unwrap(), b"hunter2");
    write(r#"{"number": 3, "name": "STATE", "label": "other"}"#).unwrap();

    // A kernel that does not know the partition yet is made to, and udev is not needed.
    let second = disk.partitions[1].path.to_str().unwrap();
    run("partx", &["--delete", disk.disk.device.to_str().unwrap()]);
    let _ = fs::remove_file(second);
    write(&format!(r#"{{"path": "{second}"}}"#)).unwrap();
    let absent = format!("{}p9", disk.disk.device.display());
    let none = write(&format!(r#"{{"path": "{absent}"}}"#)).unwrap_err().to_string();
    assert!(none.contains(&absent) && none.contains("none fits; there are"), "{none}");

    let several = write(r#"{"name": "STATE"}"#).unwrap_err();
    assert_eq!(several.class(), Class::InvalidInput);
    assert!(several.to_string().contains("(number 3, name \"STATE\""), "{several}");
    let none = write(r#"{"label": "absent"}"#).unwrap_err();
    assert_eq!(none.class(), Class::Environment);
    assert!(none.to_string().contains("none fits; there are"), "{none}");
    let empty = write(r#"{"number": 1}"#).unwrap_err().to_string();
    assert!(empty.contains("found no filesystem"), "{empty}");

    let said = lines.0.lock().unwrap().join("\n");
    assert!(said.contains("wrote /a/token (7 bytes, mode 0600)"), "{said}");
    assert!(!said.contains("hunter2") && !said.contains("first"), "{said}");
}

#[test]
fn a_lease_becomes_a_file_for_netplan() {
    let Some(disk) = LoopDevice::formatted(Filesystem::Ext4, 32 << 20) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let lines = Arc::new(Lines::default());
    let with = format!(
        r#"{{"partition": {{"path": "{}"}}, "files": [
            {{"path": "/etc/netplan/01.yaml", "netplan": {{"interface": "eno1"}}, "mode": "0600"}}]}}"#,
        disk.device.display()
    );
    let task = Task::decode("write-files", serde_json::from_str(&with).unwrap()).unwrap();
    let lease = Lease {
        interface: "52:54:00:12:34:56".parse().unwrap(),
        addresses: vec!["10.0.0.9/24".parse().unwrap()],
        gateway: Some("10.0.0.1".parse().unwrap()),
        routes: Vec::new(),
        name_servers: Vec::new(),
        search: Vec::new(),
        domain: None,
    };
    let run = |lease| {
        let context = Context {
            machine: Machine { lease, ..Machine::default() },
            stop: Stop::default(),
            sink: lines.clone(),
            runtime: runtime.handle().clone(),
            http: http::Options::default(),
            installed_disk: None,
        };
        nibs_actions::run(&task, &context)
    };
    let error = run(None).unwrap_err().to_string();
    assert!(error.contains("/etc/netplan/01.yaml: this machine has no DHCP lease"), "{error}");
    run(Some(lease)).unwrap();
    let read = mounted(&disk, Filesystem::Ext4, Access::ReadOnly, |root| {
        root.read(Path::new("/etc/netplan/01.yaml"), 1000)
    });
    let text = String::from_utf8(read.unwrap()).unwrap();
    assert!(
        text.contains("\"eno1\":\n      dhcp4: false\n      addresses: [\"10.0.0.9/24\"]"),
        "{text}"
    );
}
