//! `stream-image` onto real block devices: loop devices, as root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nibs_actions::{Context, Done, Error, Machine, Stop, disk, http, run};
use nibs_job::Task;
use serde_json::json;

use super::support::*;

/// A loop device over a file, detached when it goes.
pub(crate) struct Loop {
    pub(crate) node: PathBuf,
    backing: tempfile::NamedTempFile,
}

impl Loop {
    /// None, with the reason told, where there can be none.
    pub(crate) fn attach(size: usize, arguments: &[&str]) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root for a loop device");
            return None;
        }
        let backing = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(backing.path(), MemoryDisk::with_old_system(size).bytes()).unwrap();
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .args(arguments)
            .arg(backing.path())
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let node: PathBuf = String::from_utf8(output.stdout).unwrap().trim().into();
                forget_partitions(&node);
                Some(Self { node, backing })
            }
            other => {
                eprintln!("skipped: losetup makes no loop device here: {other:?}");
                None
            }
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.backing.path()).unwrap()
    }

    pub(crate) fn run(
        &self,
        image: impl AsRef<Path>,
        more: &serde_json::Value,
    ) -> (Result<Done, Error>, Arc<Ears>) {
        self.run_on(image, more, &json!({}))
    }

    /// With more keys of the image and of the disk.
    fn run_on(
        &self,
        image: impl AsRef<Path>,
        of_image: &serde_json::Value,
        of_disk: &serde_json::Value,
    ) -> (Result<Done, Error>, Arc<Ears>) {
        let mut with = json!({ "image": { "url": image.as_ref() }, "disk": { "path": self.node } });
        for (key, more) in [("image", of_image), ("disk", of_disk)] {
            with[key].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        }
        let task = Task::decode("stream-image", with).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let ears = Arc::new(Ears::default());
        let context = Context {
            machine: Machine::default(),
            stop: Stop::default(),
            sink: ears.clone(),
            runtime: runtime.handle().clone(),
            http: http::Options::default(),
            installed_disk: None,
        };
        (run(&task, &context), ears)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        forget_partitions(&self.node);
        let _ = Command::new("losetup").arg("--detach").arg(&self.node).status();
    }
}

/// Partitions that the kernel was told of stay with a loop device, for whoever gets it next.
fn forget_partitions(device: &Path) {
    let _ = Command::new("partx").arg("--delete").arg(device).output();
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

#[test]
fn a_disk_is_installed_and_its_partitions_appear() {
    // Without partition scanning the kernel refuses BLKRRPART, and is told by BLKPG.
    for arguments in [&["--partscan"][..], &[]] {
        let Some(device) = Loop::attach(24 << 20, arguments) else { return };
        let image = image(8 << 20);
        let served = file(&encode("zstd", &image));
        let digest = sha256(&image).sha256.unwrap().to_string();
        let (done, ears) = device.run(served.path(), &json!({ "uncompressed-sha256": digest }));
        let done = done.unwrap();
        assert_eq!(done.degraded, [""; 0]);
        assert_eq!(done.installed_disk.as_deref(), Some(&*device.node));
        assert!(ears.warnings.lock().unwrap().is_empty());
        assert!(device.bytes()[34 * 512..7 << 20] == image[34 * 512..7 << 20]);
        let named = disk::open_named(&Machine::default(), &device.node).unwrap().unwrap();
        let partitions = disk::partitions(&named).unwrap();
        assert_eq!(partitions[0].name, "data");
        assert!(partitions[0].path.exists(), "{:?}", partitions[0].path);
        let checked = Command::new("sgdisk").arg("--verify").arg(&device.node).output();
        if let Ok(output) = checked {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("No problems found"), "{text}");
        }
    }
}

#[test]
fn an_image_without_a_gpt_is_as_good_as_any() {
    let Some(device) = Loop::attach(8 << 20, &[]) else { return };
    let filesystem = vec![7; 1 << 20];
    let (done, ears) = device.run(file(&filesystem).path(), &json!({}));
    assert_eq!(done.unwrap().degraded, [""; 0]);
    assert!(device.bytes().starts_with(&filesystem), "{ears:?}");
}

#[test]
fn an_image_onto_a_partition_leaves_the_rest_of_the_disk_alone() {
    let Some(device) = Loop::attach(24 << 20, &["--partscan"]) else { return };
    device.run(file(&image(8 << 20)).path(), &json!({})).0.unwrap();
    let named = disk::open_named(&Machine::default(), &device.node).unwrap().unwrap();
    let partition = disk::partitions(&named).unwrap().remove(0);
    let on_it = json!({ "path": partition.path });
    let before = device.bytes();

    let too_large = vec![7; partition.size as usize + 512];
    let (refused, _) = device.run_on(file(&too_large).path(), &json!({}), &on_it);
    let error = refused.unwrap_err().to_string();
    assert!(error.contains(partition.path.to_str().unwrap()), "{error}");
    assert!(device.bytes() == before);

    let filesystem = vec![7; 1 << 20];
    let (done, _) = device.run_on(file(&encode("gzip", &filesystem)).path(), &json!({}), &on_it);
    assert_eq!(done.unwrap().installed_disk.as_deref(), Some(&*device.node));
    let after = device.bytes();
    let (start, end) = (partition.start as usize, (partition.start + partition.size) as usize);
    assert!(after[start..].starts_with(&filesystem));
    assert!(after[..start] == before[..start] && after[end..] == before[end..]);
}

#[test]
fn a_busy_or_too_small_disk_is_refused_untouched() {
    let Some(device) = Loop::attach(8 << 20, &[]) else { return };
    let before = device.bytes();
    let (done, _) = device.run(file(&image(9 << 20)).path(), &json!({}));
    let error = done.unwrap_err();
    assert!(error.to_string().contains("the image needs"), "{error}");

    let made = Command::new("mkfs.ext4").arg("-q").arg(&device.node).output();
    let place = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").arg(&device.node).arg(place.path()).status();
    if !matches!((made, mounted), (Ok(made), Ok(mounted)) if made.status.success() && mounted.success())
    {
        assert!(device.bytes() == before);
        eprintln!("skipped: no ext4 can be mounted here");
        return;
    }
    let (done, _) = device.run(file(&image(4 << 20)).path(), &json!({}));
    assert!(Command::new("umount").arg(place.path()).status().unwrap().success());
    let text = done.unwrap_err().to_string();
    let at = format!("is mounted at {}", place.path().display());
    assert!(text.contains("in use") && text.contains(&at), "{text}");
}

#[test]
fn a_disk_with_large_sectors_refuses_an_image_for_small_ones() {
    let Some(device) = Loop::attach(8 << 20, &["--sector-size", "4096"]) else { return };
    let before = device.bytes();
    let (done, ears) = device.run(file(&image(4 << 20)).path(), &json!({}));
    let text = done.unwrap_err().to_string();
    assert!(text.contains("sectors of 512 bytes") && text.contains("4096"), "{text}");
    assert!(device.bytes() == before);
    assert!(ears.warnings.lock().unwrap()[0].contains("no digest"));
}

/// Whether a program could be run here, and was pleased.
fn succeeds(program: &str, arguments: &[&std::ffi::OsStr]) -> bool {
    let output = Command::new(program).args(arguments).output();
    matches!(output, Ok(output) if output.status.success())
}

#[test]
fn a_blank_partition_comes_out_blank_on_a_disk_full_of_anothers_xfs() {
    let Some(device) = Loop::attach(320 << 20, &[]) else { return };
    // Without discarding: every byte that XFS does not write is someone's.
    if !succeeds("mkfs.xfs", &["-K".as_ref(), "-f".as_ref(), device.node.as_os_str()]) {
        eprintln!("skipped: no mkfs.xfs here");
        return;
    }
    let before = device.bytes();
    let image = image(250 << 20);
    let blank = 140 << 20..180 << 20;
    let is_theirs = before[blank.clone()].chunks(512).any(|sector| sector.starts_with(b"XFSB"));
    assert!(is_theirs, "expected an allocation group there");
    assert!(image[blank.clone()].iter().all(|byte| *byte == 0));
    let (done, ears) = device.run(file(&encode("lz4", &image)).path(), &json!({}));
    done.unwrap();
    let (after, backup) = (device.bytes(), (250 << 20) - 33 * 512);
    assert!(after[34 * 512..backup] == image[34 * 512..backup]);
    assert!(after[251 << 20..319 << 20] == before[251 << 20..319 << 20]);
    let log = ears.log.lock().unwrap();
    assert!(log.iter().any(|line| line.contains("which held") && line.contains("XFS")), "{log:?}");
}

#[test]
fn what_uses_a_disk_is_stopped_if_the_job_says_so() {
    let Some(device) = Loop::attach(16 << 20, &[]) else { return };
    let node = device.node.as_os_str();
    let image = file(&image(8 << 20));
    let place = tempfile::tempdir().unwrap();
    let uses: [(&str, &str, &[&std::ffi::OsStr], &str); 2] = [
        ("mkfs.ext4", "mount", &[node, place.path().as_os_str()], "unmounted"),
        ("mkswap", "swapon", &[node], "switched off swap"),
    ];
    for (make, start, arguments, said) in uses {
        if !succeeds(make, &[node]) || !succeeds(start, arguments) {
            eprintln!("skipped: {make} makes nothing here that can be used");
            continue;
        }
        let (refused, _) = device.run(image.path(), &json!({}));
        assert!(refused.unwrap_err().to_string().contains("in use"));
        let (done, ears) = device.run_on(image.path(), &json!({}), &json!({ "release": true }));
        done.unwrap();
        let log = ears.log.lock().unwrap();
        assert!(log.iter().any(|line| line.contains(said)), "{log:?}");
    }
}
