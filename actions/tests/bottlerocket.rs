//! The action `bottlerocket` on loop devices: an image with files, other files for an installed
//! system, private partitions that are not as they should be, and certificates. Needs root, loop
//! devices, sgdisk, mkfs.ext4, mkfs.vfat and mtools; skips without.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use nibs_actions::mount::{self, Access, Root};
use nibs_actions::{Context, Done, Error, Machine, Sink, Stop, disk, http};
use nibs_bottlerocket::bootconfig;
use nibs_bottlerocket::net_toml::Lease;
use nibs_job::params::Filesystem;
use nibs_job::{Class, LogLevel, Progress, Task};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const MIB: u64 = 1 << 20;
const IMAGE_SIZE: u64 = 64 * MIB;
const DISK_SIZE: u64 = 96 * MIB;

const PRIVATE_TYPE: &str = "440408bb-eb0b-4328-a6e5-a29038fad706";
const PRIVATE: Partition = Partition {
    number: 12,
    name: "BOTTLEROCKET-PRIVATE",
    kind: PRIVATE_TYPE,
    start: 20,
    size: 41,
    attributes: &[],
};
const BOOT: Partition = Partition {
    number: 3,
    name: "BOTTLEROCKET-BOOT-A",
    kind: "6b636168-7420-6568-2070-6c616e657421",
    start: 10,
    size: 4,
    attributes: &[48, 56],
};
const ESP: Partition = Partition {
    number: 2,
    name: "EFI-SYSTEM",
    kind: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    start: 4,
    size: 5,
    attributes: &[],
};
const BOOTED: Partition = Partition { attributes: &[48, 56, 57], ..BOOT };

/// A partition to make; start and size in MiB.
#[derive(Clone, Copy)]
struct Partition {
    number: u32,
    name: &'static str,
    kind: &'static str,
    start: u64,
    size: u64,
    attributes: &'static [u32],
}

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

fn divide(device: &Path, partitions: &[Partition]) -> Option<()> {
    let mut arguments = vec!["--clear".to_owned()];
    for Partition { number, name, kind, start, size, attributes } in partitions {
        arguments.push(format!("--new={number}:{}:+{size}M", start * 2048));
        arguments.push(format!("--typecode={number}:{kind}"));
        arguments.push(format!("--change-name={number}:{name}"));
        arguments.extend(attributes.iter().map(|bit| format!("--attributes={number}:set:{bit}")));
    }
    arguments.push(device.to_str()?.to_owned());
    run("sgdisk", &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    Some(())
}

/// Makes the filesystem of a private partition as images have it, with files.
fn format(device: &Path, private: &Partition, files: &[(&str, &[u8])]) -> Option<()> {
    let content = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(content.path().join(name), bytes).unwrap();
    }
    let offset = format!("offset={}", private.start * MIB);
    let (from, size) = (content.path().to_str()?, format!("{}M", private.size));
    let (to, options) = (device.to_str()?, ["-q", "-F", "-b", "4096", "-i", "4096", "-I", "256"]);
    run("mkfs.ext4", &[&options[..], &["-E", &offset, "-d", from, to, &size]].concat())?;
    Some(())
}

/// An image with a boot and a private partition, in a file.
fn image(files: &[(&str, &[u8])]) -> Option<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(IMAGE_SIZE).unwrap();
    divide(file.path(), &[BOOT, PRIVATE])?;
    format(file.path(), &PRIVATE, files)?;
    Some(file)
}

fn shipped() -> Vec<u8> {
    bootconfig::pack(bootconfig::EMPTY).unwrap()
}

/// A loop device over a sparse file, gone with the value, and what was said about it.
struct Bench {
    device: PathBuf,
    said: Arc<Said>,
    runtime: Runtime,
    _directory: tempfile::TempDir,
}

#[derive(Default)]
struct Said {
    warnings: Mutex<Vec<String>>,
    log: Mutex<Vec<String>>,
}

impl Sink for Said {
    fn progress(&self, _: Progress) {}
    fn reset(&self, _: String) {}
    fn warning(&self, message: String) {
        self.warnings.lock().unwrap().push(message);
    }
    fn log(&self, _: LogLevel, message: String) {
        self.log.lock().unwrap().push(message);
    }
}

impl Bench {
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            eprintln!("skipped: needs root and loop devices");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("disk");
        fs::File::create(&file).unwrap().set_len(DISK_SIZE).unwrap();
        let device = run("losetup", &["--find", "--show", file.to_str()?])?;
        // A loop device keeps the partitions that the kernel was told of for whoever had it last.
        let _ = Command::new("partx").args(["--delete", &device]).output();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        Some(Self { device: device.into(), said: Arc::default(), runtime, _directory: directory })
    }

    /// A machine with a system on its disk.
    fn installed(partitions: &[Partition], files: &[(&str, &[u8])]) -> Option<Self> {
        let bench = Self::new()?;
        divide(&bench.device, partitions)?;
        for private in partitions.iter().filter(|partition| partition.kind == PRIVATE_TYPE) {
            format(&bench.device, private, files)?;
        }
        Some(bench)
    }

    /// Runs the action on this disk.
    fn run(&self, with: Value) -> Result<Done, Error> {
        self.run_on(Machine::default(), with)
    }

    fn run_on(&self, machine: Machine, mut with: Value) -> Result<Done, Error> {
        with["disk"] = json!({ "path": self.device });
        let task = Task::decode("bottlerocket", with).unwrap();
        let context = Context {
            machine,
            stop: Stop::default(),
            sink: self.said.clone(),
            runtime: self.runtime.handle().clone(),
            http: http::Options::default(),
            installed_disk: None,
        };
        nibs_actions::run(&task, &context)
    }

    fn partition(&self, number: u32) -> PathBuf {
        disk::partition_path(&self.device, number)
    }

    /// A file of a private partition.
    fn read(&self, number: u32, name: &str) -> Option<Vec<u8>> {
        let path = Path::new("/").join(name);
        let read = |root: &Root| Ok::<_, Error>(root.read(&path, 1 << 23).ok());
        let device = self.partition(number);
        mount::with_mounted(&device, Filesystem::Ext4, Access::ReadOnly, read).unwrap()
    }

    fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.said.warnings.lock().unwrap())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = Command::new("partx").arg("--delete").arg(&self.device).output();
        // On a /dev without devtmpfs the nodes would outlive the partitions.
        for number in 1..=16 {
            let _ = fs::remove_file(self.partition(number));
        }
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

const NET: &str = "version = 1\n[eno1]\ndhcp4 = true\n";
const SETTINGS: &str = "[settings]\nmotd = \"hunter2\"\n";

#[test]
fn an_image_and_its_files_are_installed_and_told_without_their_contents() {
    let Some(bench) = Bench::new() else { return };
    let Some(image) = image(&[("bootconfig.data", &shipped())]) else { return };
    let done = bench
        .run(json!({
            "image": { "url": image.path() },
            "user-data": { "content": SETTINGS },
            "net": { "content": NET },
            "bootconfig": { "kernel": { "console": ["ttyS0,115200n8"] } },
        }))
        .unwrap();
    assert_eq!((done.installed_disk.as_ref(), done.degraded.len()), (Some(&bench.device), 0));
    assert_eq!(bench.read(12, "net.toml").unwrap(), NET.as_bytes());
    let user_data = String::from_utf8(bench.read(12, "user-data.toml").unwrap()).unwrap();
    assert!(user_data.starts_with(SETTINGS) && user_data.contains("[settings.boot"), "{user_data}");
    let boot = bench.read(12, "bootconfig.data").unwrap();
    assert_eq!(bootconfig::unpack(&boot).unwrap(), "kernel.console = \"ttyS0,115200n8\"\ninit\n");
    let said = bench.said.log.lock().unwrap().join("\n");
    assert!(said.contains("read 3 files back from"), "{said}");
    assert!(said.contains("wrote /net.toml (32 bytes, mode 0600)"), "{said}");
    assert!(!said.contains("hunter2") && !said.contains("115200"), "{said}");
}

#[test]
fn parameters_of_the_image_that_are_lost_are_warned_of() {
    let Some(bench) = Bench::new() else { return };
    let own = bootconfig::pack("kernel.fips = 1\nkernel.quiet\n").unwrap();
    let Some(image) = image(&[("bootconfig.data", &own)]) else { return };
    let bootconfig = json!({ "content": "kernel.quiet\n" });
    bench.run(json!({ "image": { "url": image.path() }, "bootconfig": bootconfig })).unwrap();
    let warnings = bench.warnings().join("\n");
    assert!(warnings.contains("the new one has not: kernel.fips"), "{warnings}");
}

#[test]
fn an_image_whose_files_are_wrong_is_not_written() {
    let Some(bench) = Bench::new() else { return };
    let Some(image) = image(&[]) else { return };
    let net = json!({ "content": "version = 4\n" });
    let error = bench.run(json!({ "image": { "url": image.path() }, "net": net })).unwrap_err();
    assert_eq!(error.class(), Class::InvalidInput);
    assert!(error.to_string().contains("net.toml:1:11: error: version"), "{error}");
    assert!(fs::read(&bench.device).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn only_the_named_files_of_an_installed_system_change() {
    let private = Partition { number: 7, name: "PRIVATE", ..PRIVATE };
    let files: &[(&str, &[u8])] =
        &[("bootconfig.data", &shipped()), ("net.toml", b"old"), ("user-data.toml", b"")];
    let Some(bench) = Bench::installed(&[BOOT, private], files) else { return };
    bench.run(json!({ "net": { "content": NET } })).unwrap();
    assert_eq!(bench.read(7, "net.toml").unwrap(), NET.as_bytes());
    assert_eq!(bench.read(7, "bootconfig.data").unwrap(), shipped());
    assert_eq!(bench.read(7, "user-data.toml").unwrap(), b"");
    let warnings = bench.warnings();
    assert!(
        warnings[0].contains("called \"PRIVATE\"; expected BOTTLEROCKET-PRIVATE"),
        "{warnings:?}"
    );
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

/// The actions of EKS Anywhere's template, each by itself.
#[test]
fn name_servers_of_a_lease_go_into_the_user_data_that_an_earlier_action_wrote() {
    let Some(bench) = Bench::installed(&[BOOT, PRIVATE], &[("bootconfig.data", &shipped())]) else {
        return;
    };
    let lease = Lease {
        interface: "52:54:00:12:34:56".parse().unwrap(),
        addresses: vec!["10.0.0.9/24".parse().unwrap()],
        gateway: Some("10.0.0.1".parse().unwrap()),
        routes: Vec::new(),
        name_servers: vec!["10.0.0.53".parse().unwrap()],
        search: Vec::new(),
        domain: None,
    };
    let machine = Machine { lease: Some(lease), ..Machine::default() };
    let dns = "[settings.dns]\nname-servers = [\"10.0.0.53\"]\n";
    let net = json!({ "net": { "from": "lease" } });
    let text = || String::from_utf8(bench.read(12, "user-data.toml").unwrap()).unwrap();
    bench.run_on(machine.clone(), net.clone()).unwrap();
    assert_eq!(text(), dns, "without user data");

    bench.run(json!({ "bootconfig": { "content": "kernel {}" } })).unwrap();
    bench.run(json!({ "user-data": { "content": SETTINGS } })).unwrap();
    for _ in 0..2 {
        bench.run_on(machine.clone(), net.clone()).unwrap();
        assert_eq!(text(), format!("{SETTINGS}\n{dns}"), "once, however often it runs");
    }
    let net = String::from_utf8(bench.read(12, "net.toml").unwrap()).unwrap();
    assert!(net.contains("addresses = [\"10.0.0.9/24\"]"), "{net}");
}

#[test]
fn a_system_that_has_booted_reads_no_user_data_again() {
    let files: &[(&str, &[u8])] = &[("bootconfig.data", &shipped())];
    let Some(bench) = Bench::installed(&[BOOTED, PRIVATE], files) else { return };
    bench.run(json!({ "net": { "content": NET } })).unwrap();
    assert_eq!(bench.warnings(), [""; 0]);
    bench
        .run(json!({
            "user-data": { "content": SETTINGS },
            "bootconfig": { "content": "kernel.quiet\n" },
        }))
        .unwrap();
    let warnings = bench.warnings();
    assert!(
        warnings[0].contains("has booted before, and read user-data.toml then, once"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("writes bootconfig.data from its settings"), "{warnings:?}");
    assert_eq!(bench.read(12, "user-data.toml").unwrap(), SETTINGS.as_bytes());
}

#[test]
fn what_stays_on_the_disk_has_to_agree_with_what_is_new() {
    let boot = b"[settings.boot]\nreboot-to-reconcile = true\n";
    let files: &[(&str, &[u8])] = &[("bootconfig.data", &shipped()), ("user-data.toml", boot)];
    let Some(bench) = Bench::installed(&[BOOT, PRIVATE], files) else { return };
    let error = bench.run(json!({ "bootconfig": { "content": "kernel.a = b\n" } })).unwrap_err();
    assert_eq!(error.class(), Class::InvalidInput);
    assert!(error.to_string().contains("(the user-data.toml is the one on the disk)"), "{error}");
    assert_eq!(bench.read(12, "bootconfig.data").unwrap(), shipped());
    let both = json!({
        "bootconfig": { "content": "kernel.a = b\n" },
        "user-data": { "content": "[settings]\nmotd = \"\"\n" },
    });
    bench.run(both).unwrap();
}

#[test]
fn no_private_partition_or_several_are_told_with_what_there_is() {
    let Some(bench) = Bench::installed(&[BOOT], &[]) else { return };
    let error = bench.run(json!({ "net": { "content": NET } })).unwrap_err().to_string();
    assert!(error.contains("none fits; there are") && error.contains(BOOT.name), "{error}");
    let other = Partition { number: 7, start: 62, size: 20, ..PRIVATE };
    let Some(bench) = Bench::installed(&[BOOT, PRIVATE, other], &[]) else { return };
    let error = bench.run(json!({ "net": { "content": NET } })).unwrap_err();
    assert_eq!(error.class(), Class::InvalidInput);
    assert!(error.to_string().contains("several fit"), "{error}");
}

#[test]
fn files_that_do_not_fit_leave_all_as_it_is() {
    // Of 8 MiB the journal and the inodes take half.
    let private = Partition { size: 8, ..PRIVATE };
    let files: &[(&str, &[u8])] = &[("user-data.toml", b"old")];
    let Some(bench) = Bench::installed(&[BOOT, private], files) else { return };
    let large = format!("[settings]\n# {}\n", "x".repeat(4 * MIB as usize - 100));
    let error = bench.run(json!({ "user-data": { "content": large } })).unwrap_err();
    assert_eq!(error.class(), Class::Environment);
    assert!(error.to_string().contains("they need 4194304 bytes, "), "{error}");
    assert_eq!(bench.read(12, "user-data.toml").unwrap(), b"old");
}

/// Damages the filesystem of a private partition, from a byte on.
fn damage(bench: &Bench, at: u64) {
    let device = fs::OpenOptions::new().write(true).open(&bench.device).unwrap();
    device.write_all_at(&[0x5a; 4096], PRIVATE.start * MIB + at).unwrap();
    device.sync_all().unwrap();
}

#[test]
fn a_damaged_filesystem_is_refused_and_made_anew_only_if_the_job_says_so() {
    // Superblock, group descriptors, root directory's inode: what is found at once and what is not.
    for at in [0, 4096] {
        let files: &[(&str, &[u8])] = &[("bootconfig.data", &shipped())];
        let Some(bench) = Bench::installed(&[BOOT, PRIVATE], files) else { return };
        damage(&bench, at);
        let error = bench.run(json!({ "net": { "content": NET } })).unwrap_err();
        assert_eq!(error.class(), Class::Environment);
        let (said, device) = (error.to_string(), bench.partition(12));
        assert!(said.contains(&format!("the private partition {}", device.display())), "{said}");
        assert!(said.contains("damaged or missing") && said.contains("recreate"), "{said}");

        bench.run(json!({ "net": { "content": NET }, "recreate": true })).unwrap();
        assert!(bench.warnings()[0].contains("was made anew, for: "));
        assert_eq!(bench.read(12, "net.toml").unwrap(), NET.as_bytes());
        assert_eq!(bench.read(12, "bootconfig.data").unwrap(), shipped());
        run("e2fsck", &["-f", "-n", device.to_str().unwrap()]);
        // It is sound now, and stays.
        let bootconfig = json!({ "content": "kernel.quiet\n" });
        bench.run(json!({ "bootconfig": bootconfig, "recreate": true })).unwrap();
        assert_eq!(bench.warnings(), [""; 0]);
        assert_eq!(bench.read(12, "net.toml").unwrap(), NET.as_bytes());
    }
}

#[test]
fn a_filesystem_that_is_in_use_is_not_made_anew() {
    let Some(bench) = Bench::installed(&[BOOT, PRIVATE], &[]) else { return };
    damage(&bench, 0);
    let _ = bench.run(json!({ "net": { "content": NET } }));
    let found = disk::open_named(&Machine::default(), &bench.device).unwrap().unwrap();
    let claim = disk::claim(&Machine::default(), &found).unwrap();
    let error = bench.run(json!({ "net": { "content": NET }, "recreate": true })).unwrap_err();
    assert!(error.to_string().contains("claiming "), "{error}");
    drop(claim);
}

/// Puts an EFI system partition with a file `EFI/BOOT/db.cer`, if that is given, on a disk.
fn make_esp(device: &Path, certificate: Option<&[u8]>) -> Option<()> {
    let directory = tempfile::tempdir().unwrap();
    let (image, file) = (directory.path().join("esp"), directory.path().join("db.cer"));
    fs::File::create(&image).unwrap().set_len(ESP.size * MIB).unwrap();
    let path = image.to_str()?;
    run("mkfs.vfat", &[path])?;
    run("mmd", &["-i", path, "::EFI", "::EFI/BOOT"])?;
    if let Some(bytes) = certificate {
        fs::write(&file, bytes).unwrap();
        run("mcopy", &["-i", path, file.to_str()?, "::EFI/BOOT/db.cer"])?;
    }
    let disk = fs::OpenOptions::new().write(true).open(device).unwrap();
    disk.write_all_at(&fs::read(&image).unwrap(), ESP.start * MIB).unwrap();
    disk.sync_all().unwrap();
    Some(())
}

#[test]
fn a_certificate_that_the_job_does_not_name_is_not_enrolled() {
    let efivars = tempfile::tempdir().unwrap();
    let setup_mode = "SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    fs::write(efivars.path().join(setup_mode), [6, 0, 0, 0, 1]).unwrap();
    let cases = [
        (None, "there is no EFI/BOOT/db.cer on the EFI system partition"),
        (Some(&b"another"[..]), "EFI/BOOT/db.cer has sha256 "),
    ];
    for (certificate, part) in cases {
        let Some(bench) = Bench::installed(&[ESP, BOOT, PRIVATE], &[]) else { return };
        let Some(()) = make_esp(&bench.device, certificate) else { return };
        let machine = Machine { efivars: efivars.path().into(), ..Machine::default() };
        let with = json!({ "secure-boot": { "db-sha256": "ab".repeat(32) } });
        let error = bench.run_on(machine, with).unwrap_err();
        if error.to_string().contains("this kernel has no vfat") {
            eprintln!("skipped: needs a kernel with vfat");
            return;
        }
        assert_eq!(error.class(), Class::InvalidInput, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(fs::read_dir(efivars.path()).unwrap().count(), 1);
    }
}
