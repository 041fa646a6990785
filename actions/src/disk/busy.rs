//! What keeps a disk busy: mounts, swap, and devices stacked on it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::list::attribute;
use super::{Disk, Error, Result};
use crate::Machine;

/// One use of a disk or of one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// Kernel name of the disk or partition that is used.
    pub device: String,
    /// What uses it.
    pub kind: UseKind,
}

/// What uses a disk or partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum UseKind {
    /// Mounted there.
    Mounted(PathBuf),
    /// Used as swap.
    Swap,
    /// Part of a device stacked on it (device mapper, md, bcache), by name.
    Holder(String),
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            UseKind::Mounted(place) => {
                write!(f, "{} is mounted at {}", self.device, place.display())
            }
            UseKind::Swap => write!(f, "{} is swap", self.device),
            UseKind::Holder(name) => write!(f, "{} is part of {name}", self.device),
        }
    }
}

/// All that uses a disk, sorted; empty if nothing does.
pub fn busy(machine: &Machine, disk: &Disk) -> Result<Vec<Use>> {
    let users = Users::read(machine)?;
    let mut uses = BTreeSet::new();
    for (name, directory) in devices(machine, &disk.name) {
        let mut add = |kind| uses.insert(Use { device: name.clone(), kind });
        for place in users.mounts_of(machine, &name, &directory) {
            add(UseKind::Mounted(place));
        }
        if users.is_swap(machine, &name) {
            add(UseKind::Swap);
        }
        for holder in entries(&directory.join("holders")) {
            add(UseKind::Holder(holder_name(machine, &holder)));
        }
    }
    Ok(uses.into_iter().collect())
}

/// What is mounted and what is swap, as the kernel lists it.
pub(super) struct Users {
    mounts: Vec<Mount>,
    swaps: String,
}

impl Users {
    pub(super) fn read(machine: &Machine) -> Result<Self> {
        let mounts = read(&machine.proc.join("self/mountinfo"))?;
        // Absent in kernels without swap.
        let swaps = fs::read_to_string(machine.proc.join("swaps")).unwrap_or_default();
        Ok(Self { mounts: mounts.lines().filter_map(Mount::parse).collect(), swaps })
    }

    /// Where a device is mounted, in the order in which that was done.
    pub(super) fn mounts_of(
        &self,
        machine: &Machine,
        name: &str,
        directory: &Path,
    ) -> Vec<PathBuf> {
        let node = machine.dev.join(name);
        let number = attribute(directory, "dev").unwrap_or_default();
        // btrfs shows a device number that is its own, and the real device as its source.
        let of = |mount: &&Mount| mount.number == number || mount.source == node;
        self.mounts.iter().filter(of).map(|mount| mount.place.clone()).collect()
    }

    pub(super) fn is_swap(&self, machine: &Machine, name: &str) -> bool {
        let node = machine.dev.join(name);
        let path = |line: &str| line.split_whitespace().next().map(|path| Path::new(path) == node);
        self.swaps.lines().skip(1).any(|line| path(line) == Some(true))
    }
}

/// A disk and its partitions: kernel name and sysfs directory.
pub(super) fn devices(machine: &Machine, name: &str) -> Vec<(String, PathBuf)> {
    let whole = machine.sysfs.join("class/block").join(name);
    let mut devices = vec![(name.to_owned(), whole.clone())];
    for name in entries(&whole) {
        let directory = whole.join(&name);
        if directory.join("partition").exists() {
            devices.push((name, directory));
        }
    }
    devices
}

/// What a device mapper device is, by the prefix that its maker gives its UUID.
const MAPPERS: [(&str, &str); 4] =
    [("LVM-", "LVM"), ("CRYPT-", "dm-crypt"), ("mpath-", "multipath"), ("DMRAID-", "RAID")];

/// A device stacked on others, and what it is: `dm-0` alone says little.
pub(super) fn holder_name(machine: &Machine, holder: &str) -> String {
    let directory = machine.sysfs.join("class/block").join(holder);
    if let Some(name) = attribute(&directory, "dm/name") {
        let uuid = attribute(&directory, "dm/uuid").unwrap_or_default();
        let kind = MAPPERS.iter().find(|(prefix, _)| uuid.starts_with(prefix));
        let kind = kind.map_or("device mapper", |(_, kind)| kind);
        return format!("{holder} ({kind} {name})");
    }
    if let Some(level) = attribute(&directory, "md/level") {
        return format!("{holder} (md {level})");
    }
    match directory.join("bcache").exists() {
        true => format!("{holder} (bcache)"),
        false => holder.to_owned(),
    }
}

pub(super) fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io("reading", path))
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct Mount {
    number: String,
    place: PathBuf,
    source: PathBuf,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (own, filesystem) = line.split_once(" - ")?;
        let mut own = own.split(' ').skip(2);
        let number = own.next()?.to_owned();
        let place = unescaped(own.nth(1)?).into();
        let source = unescaped(filesystem.split(' ').nth(1)?).into();
        Some(Self { number, place, source })
    }
}

/// Spaces, tabs, newlines and backslashes are written as octal escapes.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::FakeMachine;
    use super::super::open_named;
    use super::*;

    fn uses(fake: &FakeMachine) -> Vec<String> {
        let disk = open_named(&fake.machine, Path::new("/dev/vda")).unwrap().unwrap();
        busy(&fake.machine, &disk).unwrap().iter().map(ToString::to_string).collect()
    }

    fn fake(mountinfo: &str) -> FakeMachine {
        let fake = FakeMachine::new();
        fake.disk("vda", 1 << 30, &[("dev", "252:0")]);
        fake.partition("vda", 1, "252:1");
        fake.partition("vda", 2, "252:2");
        fake.write(&fake.machine.proc.join("self/mountinfo"), mountinfo);
        fake
    }

    #[test]
    fn every_use_is_named_with_its_partition() {
        let fake = fake(
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             23 1 252:1 / /mnt/with\\040space rw - ext4 /dev/elsewhere rw",
        );
        let node = fake.machine.dev.join("vda2");
        let swaps =
            format!("Filename Type Size Used Priority\n{} partition 1 0 -2", node.display());
        fake.write(&fake.machine.proc.join("swaps"), &swaps);
        let class = fake.machine.sysfs.join("class/block");
        fake.write(&class.join("vda2/holders/dm-3"), "");
        fake.write(&class.join("dm-3/dm/name"), "vg0-root");
        fake.write(&class.join("dm-3/dm/uuid"), "LVM-abc");
        fake.write(&class.join("vda2/holders/md7"), "");
        fake.write(&class.join("md7/md/level"), "raid1");
        assert_eq!(
            uses(&fake),
            [
                "vda1 is mounted at /mnt/with space",
                "vda2 is swap",
                "vda2 is part of dm-3 (LVM vg0-root)",
                "vda2 is part of md7 (md raid1)"
            ]
        );
    }

    #[test]
    fn a_filesystem_with_a_device_number_of_its_own_is_found_by_its_source() {
        let quiet = fake("");
        assert_eq!(uses(&quiet), [""; 0]);
        let source = quiet.machine.dev.join("vda1");
        let line = format!("30 1 0:45 / /data rw - btrfs {} rw", source.display());
        quiet.write(&quiet.machine.proc.join("self/mountinfo"), &line);
        assert_eq!(uses(&quiet), ["vda1 is mounted at /data"]);
    }
}
