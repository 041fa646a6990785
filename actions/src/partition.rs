//! Which partition is meant: none, one or many, each answered by name.

use std::path::{Path, PathBuf};

use nibs_job::params::{DiskSelector, PartitionSelector};
use nibs_job::{Class, Size};

use crate::disk::{self, Disk, Partition};
use crate::{Context, mount};

/// A partition and the disk it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The disk.
    pub disk: Disk,
    /// The partition.
    pub partition: Partition,
}

/// Why no partition could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// No partition fits.
    #[error("choosing the partition with {wanted} on {place}: none fits; there are {present}")]
    None {
        /// The selector.
        wanted: String,
        /// Which disks were searched.
        place: String,
        /// All partitions of those.
        present: String,
    },
    /// More than one partition fits.
    #[error(
        "choosing the partition with {wanted} on {place}: several fit: {fit}; say more of the one \
         that is meant, or of its disk"
    )]
    Many {
        /// The selector.
        wanted: String,
        /// Which disks were searched.
        place: String,
        /// Those that fit.
        fit: String,
    },
    /// The disk could not be found or read.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

impl LocateError {
    /// Whose fault it is: a partition that is not there is the machine's, one that is not told
    /// apart from others is the job's.
    pub fn class(&self) -> Class {
        match self {
            Self::None { .. } => Class::Environment,
            Self::Many { .. } => Class::InvalidInput,
            Self::Disk(error) => error.class(),
        }
    }
}

impl Located {
    /// Finds the one partition that is meant: on the disk that is named, else on the one that an
    /// earlier action wrote, else on any.
    pub(crate) fn find(
        wanted: &PartitionSelector,
        disk: Option<&DiskSelector>,
        context: &Context,
    ) -> Result<Self, LocateError> {
        let machine = &context.machine;
        let named = match (disk, &context.installed_disk) {
            (Some(selector), _) => Some(disk::find(selector, machine)?),
            (None, Some(path)) => disk::open_named(machine, path)?,
            (None, None) => None,
        };
        let (place, candidates) = match named {
            Some(disk) => (disk.to_string(), on_named(&disk, context)?),
            None => ("any disk".to_owned(), on_any(&disk::list(machine)?)),
        };
        choose(candidates, wanted, place, &label)
    }
}

/// The device with the filesystem that is meant: the partition that fits, or whatever a path names.
/// Its node may be yet to come.
pub(crate) fn device(
    wanted: &PartitionSelector,
    disk: Option<&DiskSelector>,
    context: &Context,
) -> Result<PathBuf, LocateError> {
    match &wanted.path {
        Some(path) => by_path(Path::new(path), context),
        None => Ok(Located::find(wanted, disk, context)?.partition.path),
    }
}

/// The node that a path names. One that is not there may be of a partition that the kernel does not
/// know yet, or a link that udev would make if it ran.
fn by_path(path: &Path, context: &Context) -> Result<PathBuf, LocateError> {
    let machine = &context.machine;
    let node = machine.device(path);
    let Some((whole, number)) = disk::split_partition_path(path).filter(|_| !node.exists()) else {
        return Ok(node);
    };
    let whole = Some(whole.to_string_lossy().into_owned());
    let Ok(disk) = disk::find(&DiskSelector { path: whole, ..DiskSelector::default() }, machine)
    else {
        return Ok(node);
    };
    let named = disk::partition_path(&disk.path, number);
    // What uses the disk keeps it from being settled, and the node may come all the same.
    let settled = disk::claim(machine, &disk).and_then(|claim| disk::settle(machine, &claim));
    match settled {
        Ok(found) if !found.is_empty() && found.iter().all(|it| it.number != number) => {
            let (wanted, place) = (format!("path {:?}", path.display()), disk.to_string());
            Err(LocateError::None { wanted, place, present: listed(&located(&disk, found)) })
        }
        Ok(_) => Ok(named),
        Err(error) => {
            context.info(format!("waiting for {}: {error}", named.display()));
            Ok(named)
        }
    }
}

/// The partitions of one disk, with their nodes made.
fn on_named(disk: &Disk, context: &Context) -> Result<Vec<Located>, disk::Error> {
    let mut partitions = disk::partitions(disk)?;
    if partitions.iter().any(|partition| !partition.path.exists()) {
        partitions = disk::settle(&context.machine, &disk::claim(&context.machine, disk)?)?;
    }
    Ok(located(disk, partitions))
}

/// The partitions of all disks; one that is blank, or cannot be read, has none.
fn on_any(disks: &[Disk]) -> Vec<Located> {
    let of = |disk| located(disk, disk::partitions(disk).unwrap_or_default());
    disks.iter().flat_map(of).collect()
}

fn located(disk: &Disk, partitions: Vec<Partition>) -> Vec<Located> {
    let of = |partition| Located { disk: disk.clone(), partition };
    partitions.into_iter().map(of).collect()
}

fn label(device: &Path) -> Option<String> {
    mount::probe(device).ok()??.label
}

fn choose(
    candidates: Vec<Located>,
    wanted: &PartitionSelector,
    place: String,
    label: &dyn Fn(&Path) -> Option<String>,
) -> Result<Located, LocateError> {
    let fits = |partition: &Partition| {
        wanted.number.is_none_or(|number| number == partition.number)
            && wanted.name.as_ref().is_none_or(|name| *name == partition.name)
            && wanted.type_guid.is_none_or(|guid| guid == partition.type_guid)
            // Last, since it reads the device.
            && wanted.label.as_ref().is_none_or(|l| label(&partition.path).as_ref() == Some(l))
    };
    let (mut fit, others): (Vec<Located>, Vec<Located>) =
        candidates.into_iter().partition(|candidate| fits(&candidate.partition));
    match (fit.len(), fit.pop()) {
        (1, Some(one)) => Ok(one),
        (_, None) => {
            let present = listed(&others);
            Err(LocateError::None { wanted: wanted.to_string(), place, present })
        }
        (_, Some(last)) => {
            fit.push(last);
            Err(LocateError::Many { wanted: wanted.to_string(), place, fit: listed(&fit) })
        }
    }
}

fn listed(all: &[Located]) -> String {
    if all.is_empty() {
        return "no partitions".to_owned();
    }
    let one = |located: &Located| {
        let Partition { path, number, name, type_guid, size, .. } = &located.partition;
        let size = Size(*size);
        format!("{} (number {number}, name {name:?}, type {type_guid}, {size})", path.display())
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FakeMachine;
    use crate::efi::ESP_TYPE;
    use uuid::{Uuid, uuid};

    const DATA: Uuid = uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");

    fn candidates() -> Vec<Located> {
        let partition = |number, name: &str, type_guid| Partition {
            number,
            name: name.into(),
            type_guid,
            unique_guid: Uuid::nil(),
            start: 0,
            size: 42 << 20,
            attributes: 0,
            path: format!("/dev/vda{number}").into(),
        };
        let disk = Disk { path: "/dev/vda".into(), ..Disk::default() };
        located(
            &disk,
            vec![
                partition(1, "EFI", ESP_TYPE),
                partition(2, "ROOT", DATA),
                partition(3, "ROOT", DATA),
            ],
        )
    }

    fn chosen(wanted: &PartitionSelector) -> Result<u32, String> {
        let label = |path: &Path| (path == Path::new("/dev/vda3")).then(|| "data".to_owned());
        choose(candidates(), wanted, "/dev/vda".into(), &label)
            .map(|located| located.partition.number)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_criterion_finds_and_all_must_hold() {
        let any = PartitionSelector::default;
        assert_eq!(chosen(&PartitionSelector { number: Some(2), ..any() }), Ok(2));
        assert_eq!(chosen(&PartitionSelector { name: Some("EFI".into()), ..any() }), Ok(1));
        assert_eq!(chosen(&PartitionSelector { type_guid: Some(ESP_TYPE), ..any() }), Ok(1));
        assert_eq!(chosen(&PartitionSelector { label: Some("data".into()), ..any() }), Ok(3));
        let both = PartitionSelector { number: Some(3), name: Some("ROOT".into()), ..any() };
        assert_eq!(chosen(&both), Ok(3));
        let neither = PartitionSelector { number: Some(1), name: Some("ROOT".into()), ..any() };
        assert!(chosen(&neither).unwrap_err().contains("none fits; there are /dev/vda1 (number 1"));
    }

    #[test]
    fn a_partition_by_path_needs_neither_udev_nor_its_node() {
        let fake = FakeMachine::new();
        fake.disk("vda", 1 << 20, &[("serial", "root")]);
        fake.partition("vda", 3, "252:3");
        fake.write(
            &fake.machine.proc.join("self/mountinfo"),
            "23 1 252:3 / /srv rw - ext4 /dev/vda3 rw",
        );
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let context = Context {
            machine: fake.machine.clone(),
            stop: crate::Stop::default(),
            sink: std::sync::Arc::new(crate::context::Deaf),
            runtime: runtime.handle().clone(),
            http: crate::http::Options::default(),
            installed_disk: None,
        };
        let found = |path: &str| {
            let wanted =
                PartitionSelector { path: Some(path.into()), ..PartitionSelector::default() };
            device(&wanted, None, &context)
                .unwrap()
                .strip_prefix(&fake.machine.dev)
                .unwrap()
                .to_owned()
        };
        for (path, node) in [
            ("/dev/vda3", "vda3"),
            ("/dev/disk/by-id/virtio-root-part3", "vda3"),
            ("/dev/vda9", "vda9"),
            ("/dev/sdz1", "sdz1"),
            ("/dev/mapper/vg-root", "mapper/vg-root"),
        ] {
            assert_eq!(found(path), Path::new(node), "{path}");
        }
    }

    #[test]
    fn several_that_fit_are_listed() {
        let wanted =
            PartitionSelector { name: Some("ROOT".into()), ..PartitionSelector::default() };
        let error = chosen(&wanted).unwrap_err();
        let line = "/dev/vda3 (number 3, name \"ROOT\", type 0fc63daf-8483-4772-8e79-3d69d8477de4, \
                    42.0 MiB)";
        assert!(error.contains("several fit: /dev/vda2") && error.contains(line), "{error}");
    }
}
