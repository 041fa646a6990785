//! The disks that the kernel knows, from sysfs.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nibs_job::{DiskFacts, Size};

use super::{Error, Result, identity};
use crate::Machine;

/// The kernel counts a block device's size in these, whatever its sectors are.
pub(super) const KERNEL_SECTOR: u64 = 512;

/// Prefixes of block devices that are no place for an operating system, unless named by path.
const NOT_DISKS: [&str; 9] = ["loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd", "mtdblock"];

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disk {
    /// Name given by the kernel, such as `nvme0n1`.
    pub name: String,
    /// Device node.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Logical sector size, bytes.
    pub sector_size: u32,
    /// Model, without spaces around it.
    pub model: Option<String>,
    /// Serial number, without spaces around it.
    pub serial: Option<String>,
    /// World wide name: `eui.…`, `naa.…`, `nvme.…` or `0x…`.
    pub wwn: Option<String>,
    /// Whether it spins.
    pub rotational: bool,
    /// Whether its medium can be pulled out.
    pub removable: bool,
    /// Whether it takes no writes.
    pub read_only: bool,
    /// Names that links in `/dev/disk/by-id` have, or would have if udev ran.
    pub by_id: Vec<String>,
    /// Kernel name of the disk that this is a partition of; none for a whole disk.
    pub partition_of: Option<String>,
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}", self.path.display(), Size(self.size))?;
        if let Some(model) = &self.model {
            write!(f, ", model {model:?}")?;
        }
        if let Some(serial) = &self.serial {
            write!(f, ", serial {serial:?}")?;
        }
        f.write_str(")")
    }
}

impl From<&Disk> for DiskFacts {
    fn from(disk: &Disk) -> Self {
        Self {
            path: disk.path.display().to_string(),
            size: disk.size,
            sector_size: disk.sector_size,
            model: disk.model.clone(),
            serial: disk.serial.clone(),
            wwn: disk.wwn.clone(),
            rotational: disk.rotational,
            removable: disk.removable,
        }
    }
}

/// All disks that could be installed to, by name: no loop, RAM, optical or floppy drives, nothing
/// stacked on other disks (device mapper, md), nothing without a medium.
pub fn list(machine: &Machine) -> Result<Vec<Disk>> {
    let block = machine.sysfs.join("block");
    let mut names: Vec<String> = fs::read_dir(&block)
        .map_err(Error::io("listing the disks in", &block))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !is_left_out(&block, name))
        .collect();
    names.sort();
    let disks = names.iter().map(|name| read(machine, name)).collect::<Result<Vec<_>>>()?;
    Ok(disks.into_iter().filter(|disk| disk.size > 0).collect())
}

/// The disk that a path names, of whatever kind it is. `Ok(None)`: there is no such node.
pub fn open_named(machine: &Machine, path: &Path) -> Result<Option<Disk>> {
    let Some((real, name)) = resolve(machine, path)? else { return Ok(None) };
    if let Some(whole) = whole_of(machine, &name) {
        let found = format!("a partition of {whole}");
        return Err(Error::NotADisk { path: machine.device(path), found });
    }
    Ok(Some(Disk { path: real, ..read(machine, &name)? }))
}

/// The disk, or the partition, that a path names. A partition has the identity of its disk.
pub fn open_place(machine: &Machine, path: &Path) -> Result<Option<Disk>> {
    let Some((real, name)) = resolve(machine, path)? else { return Ok(None) };
    let Some(whole) = whole_of(machine, &name) else {
        return Ok(Some(Disk { path: real, ..read(machine, &name)? }));
    };
    let disk = read(machine, &whole)?;
    let directory = machine.sysfs.join("class/block").join(&name);
    Ok(Some(Disk {
        path: real,
        size: number(&directory, "size")? * KERNEL_SECTOR,
        read_only: disk.read_only || flag(&directory, "ro"),
        by_id: existing_links(machine, &name),
        partition_of: Some(whole),
        name,
        ..disk
    }))
}

/// The node that a path leads to, and its name in sysfs.
fn resolve(machine: &Machine, path: &Path) -> Result<Option<(PathBuf, String)>> {
    let node = machine.device(path);
    let real = match node.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("resolving", &node)(error)),
    };
    let name = kernel_name(machine, &real)?;
    Ok(Some((real, name)))
}

/// The disk that a partition is on; none if it is no partition.
fn whole_of(machine: &Machine, name: &str) -> Option<String> {
    let class = machine.sysfs.join("class/block").join(name);
    if !class.join("partition").exists() {
        return None;
    }
    let real = class.canonicalize().unwrap_or(class);
    let whole = real.parent().and_then(Path::file_name).unwrap_or_default();
    Some(whole.to_string_lossy().into_owned())
}

/// A node's name in sysfs, which differs from the node's for device mapper.
fn kernel_name(machine: &Machine, real: &Path) -> Result<String> {
    let file_name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if machine.sysfs.join("class/block").join(&file_name).exists() {
        return Ok(file_name);
    }
    let metadata = fs::metadata(real).map_err(Error::io("looking at", real))?;
    if !metadata.file_type().is_block_device() {
        let found = if metadata.is_dir() { "a directory" } else { "no block device" };
        return Err(Error::NotADisk { path: real.to_owned(), found: found.into() });
    }
    let (major, minor) =
        (nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
    let link = machine.sysfs.join(format!("dev/block/{major}:{minor}"));
    let target = link.canonicalize().map_err(Error::io("resolving", &link))?;
    Ok(target.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

fn is_left_out(block: &Path, name: &str) -> bool {
    // Paths to the namespaces of a multipath NVMe subsystem are marked hidden and have no node.
    let hidden = attribute(&block.join(name), "hidden").is_some_and(|value| value == "1");
    let followed_by_digit = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    hidden
        || NOT_DISKS.iter().any(|prefix| name.strip_prefix(prefix).is_some_and(followed_by_digit))
}

fn read(machine: &Machine, name: &str) -> Result<Disk> {
    let entry = machine.sysfs.join("class/block").join(name);
    let directory = if entry.exists() { entry } else { machine.sysfs.join("block").join(name) };
    let identity = identity::of(&directory, name);
    let mut by_id = identity.links;
    for link in existing_links(machine, name) {
        if !by_id.contains(&link) {
            by_id.push(link);
        }
    }
    Ok(Disk {
        name: name.to_owned(),
        // Slashes in kernel names, as in `cciss/c0d0`, are exclamation marks in sysfs.
        path: machine.dev.join(name.replace('!', "/")),
        size: number(&directory, "size")? * KERNEL_SECTOR,
        sector_size: number(&directory, "queue/logical_block_size")?.try_into().unwrap_or(0),
        model: identity.model,
        serial: identity.serial,
        wwn: identity.wwn,
        rotational: flag(&directory, "queue/rotational"),
        removable: flag(&directory, "removable"),
        read_only: flag(&directory, "ro"),
        by_id,
        partition_of: None,
    })
}

/// A sysfs attribute that is a number.
fn number(directory: &Path, file: &str) -> Result<u64> {
    let path = directory.join(file);
    let text = fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
    text.trim().parse().map_err(|_| {
        let cause = io::Error::new(io::ErrorKind::InvalidData, "expected a number");
        Error::Io { doing: "reading", path, cause }
    })
}

fn flag(directory: &Path, file: &str) -> bool {
    attribute(directory, file).is_some_and(|value| value == "1")
}

/// Names of links that udev made.
fn existing_links(machine: &Machine, name: &str) -> Vec<String> {
    let Ok(links) = fs::read_dir(machine.dev.join("disk/by-id")) else { return Vec::new() };
    let mut names: Vec<String> = links
        .filter_map(|link| {
            let link = link.ok()?;
            let target = fs::read_link(link.path()).ok()?;
            (target.file_name()? == name).then(|| link.file_name().into_string().ok())?
        })
        .collect();
    names.sort();
    names
}

/// A sysfs attribute without spaces around it; absent if empty or not there.
pub(super) fn attribute(directory: &Path, file: &str) -> Option<String> {
    let text = fs::read(directory.join(file)).ok()?;
    let text = String::from_utf8_lossy(&text);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A machine made of files.
    pub(crate) struct FakeMachine {
        pub(crate) machine: Machine,
        _root: tempfile::TempDir,
    }

    impl FakeMachine {
        pub(crate) fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let at = |name: &str| {
                let path = root.path().join(name);
                fs::create_dir_all(&path).unwrap();
                path
            };
            let (sysfs, dev, proc) = (at("sys"), at("dev"), at("proc"));
            at("sys/block");
            at("sys/class/block");
            at("proc/self");
            let machine = Machine { sysfs, dev, proc, ..Machine::default() };
            Self { machine, _root: root }
        }

        /// A disk of 512-byte sectors; `attributes` are files below it and their content.
        pub(crate) fn disk(&self, name: &str, size: u64, attributes: &[(&str, &str)]) {
            let device = self.machine.sysfs.join("devices").join(name);
            let basic = [
                ("size", &*(size / 512).to_string()),
                ("queue/logical_block_size", "512"),
                ("queue/rotational", "0"),
                ("removable", "0"),
                ("ro", "0"),
            ];
            for (file, content) in basic.iter().chain(attributes) {
                self.write(&device.join(file), content);
            }
            for class in ["block", "class/block"] {
                symlink(&device, self.machine.sysfs.join(class).join(name)).unwrap();
            }
            self.write(&self.machine.dev.join(name), "");
        }

        pub(crate) fn partition(&self, disk: &str, number: u32, dev: &str) {
            let name = super::super::partition_path(Path::new(disk), number);
            let name = name.to_str().unwrap();
            let device = self.machine.sysfs.join("devices").join(disk).join(name);
            self.write(&device.join("partition"), &number.to_string());
            self.write(&device.join("dev"), dev);
            symlink(&device, self.machine.sysfs.join("class/block").join(name)).unwrap();
            self.write(&self.machine.dev.join(name), "");
        }

        pub(crate) fn write(&self, path: &Path, content: &str) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{content}\n")).unwrap();
        }
    }

    #[test]
    fn only_disks_with_a_medium_are_listed() {
        let fake = FakeMachine::new();
        fake.disk("vda", 8 << 30, &[("serial", "abc")]);
        fake.disk("nvme0n1", 1 << 40, &[("device/model", "Fast One  ")]);
        fake.disk("nvme0c0n1", 1 << 40, &[("hidden", "1")]);
        fake.disk("sdb", 0, &[]);
        for name in ["loop0", "ram0", "zram0", "sr0", "fd0", "dm-0", "md127"] {
            fake.disk(name, 1 << 20, &[]);
        }
        let disks = list(&fake.machine).unwrap();
        let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["nvme0n1", "vda"]);
        assert_eq!(disks[0].model.as_deref(), Some("Fast One"));
        assert_eq!(disks[1].size, 8 << 30);
        assert_eq!(disks[1].serial.as_deref(), Some("abc"));
        assert_eq!(disks[1].path, fake.machine.dev.join("vda"));
    }

    #[test]
    fn a_path_may_name_a_disk_that_is_not_listed_but_no_partition() {
        let fake = FakeMachine::new();
        fake.disk("loop0", 1 << 20, &[]);
        fake.disk("vda", 1 << 30, &[]);
        fake.partition("vda", 1, "252:1");
        let named = |path: &str| open_named(&fake.machine, Path::new(path));
        assert_eq!(named("/dev/loop0").unwrap().unwrap().name, "loop0");
        assert_eq!(named("/dev/sdz").unwrap(), None);
        let error = named("/dev/vda1").unwrap_err().to_string();
        assert!(error.contains("found a partition of vda"), "{error}");
    }

    #[test]
    fn a_partition_is_a_place_with_a_size_of_its_own_and_the_identity_of_its_disk() {
        let fake = FakeMachine::new();
        fake.disk("vda", 1 << 30, &[("serial", "abc")]);
        fake.partition("vda", 2, "252:2");
        fake.write(&fake.machine.sysfs.join("devices/vda/vda2/size"), "2048");
        let place = open_place(&fake.machine, Path::new("/dev/vda2")).unwrap().unwrap();
        assert_eq!((&*place.name, place.size, place.sector_size), ("vda2", 1 << 20, 512));
        assert_eq!(place.serial.as_deref(), Some("abc"));
        assert_eq!(place.partition_of.as_deref(), Some("vda"));
        let whole = open_place(&fake.machine, Path::new("/dev/vda")).unwrap().unwrap();
        assert_eq!((whole.size, whole.partition_of), (1 << 30, None));
    }

    #[test]
    fn links_made_by_udev_are_known() {
        let fake = FakeMachine::new();
        fake.disk("vda", 1 << 30, &[("serial", "abc")]);
        let links = fake.machine.dev.join("disk/by-id");
        fs::create_dir_all(&links).unwrap();
        symlink("../../vda", links.join("site-rule-7")).unwrap();
        let disks = list(&fake.machine).unwrap();
        assert_eq!(disks[0].by_id, ["virtio-abc", "site-rule-7"]);
    }
}
