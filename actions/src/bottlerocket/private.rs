//! The private partition: found, looked into, written.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nibs_bottlerocket::bootconfig::{self, Tree, settings::consistency};
use nibs_bottlerocket::partitions::private_file::{BOOT_CONFIG, USER_DATA};
use nibs_bottlerocket::partitions::{PRIVATE_NAME, kind};
use nibs_bottlerocket::user_data;
use nibs_job::params::{Filesystem, PartitionSelector};

use super::error::Error;
use super::ext4;
use super::prove::Files;
use crate::disk::{self, Disk};
use crate::mount::{self, Access, FileError, MountError, NewFile, Root};
use crate::partition::{LocateError, Located};
use crate::{Context, write_files};

/// Bit of a boot partition's GPT attributes that is set once a system has booted from it well
/// (bottlerocket-core-kit, `sources/updater/signpost/src/gptprio.rs`).
const HAS_BOOTED: u64 = 1 << 57;

/// Files may hold tokens; the system reads them as root.
const MODE: u32 = 0o600;

/// Bytes of a block of the filesystem.
const BLOCK: u64 = 4096;

/// What an ext4 that is damaged says when it is mounted or read: `EFSCORRUPTED` and `EFSBADCRC` are
/// the kernel's own names of the first two.
const DAMAGED: [i32; 4] = [libc::EUCLEAN, libc::EBADMSG, libc::EINVAL, libc::EIO];

/// Whether the files go to what an image has just brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    /// It has.
    New,
    /// A system that was there before.
    Installed,
}

/// Finds the private partition of a disk.
pub(super) fn find(disk: &Disk, context: &Context) -> Result<Located, crate::Error> {
    let on_disk = Context { installed_disk: Some(disk.path.clone()), ..context.clone() };
    let private = find_anywhere(&on_disk)?;
    let partition = &private.partition;
    if partition.name != PRIVATE_NAME {
        context.sink.warning(format!(
            "{} has the type of a private partition and is called {:?}; expected {PRIVATE_NAME}, by \
             which GRUB and the system look for it",
            partition.path.display(),
            partition.name
        ));
    }
    Ok(private)
}

/// Finds the private partition of the disk that an earlier action wrote, else of any.
pub(super) fn find_anywhere(context: &Context) -> Result<Located, LocateError> {
    let type_guid = Some(kind::PRIVATE);
    let wanted = PartitionSelector { type_guid, ..PartitionSelector::default() };
    Located::find(&wanted, None, context)
}

/// Whether the system on a disk has ever come up.
pub(super) fn has_booted(disk: &Disk) -> Result<bool, crate::Error> {
    let partitions = disk::partitions(disk)?;
    Ok(partitions.iter().any(|partition| {
        partition.type_guid == kind::BOOT && partition.attributes & HAS_BOOTED != 0
    }))
}

/// The `user-data.toml` on a disk; none where there is none, or no sound filesystem for it.
pub(super) fn user_data(disk: &Disk, context: &Context) -> Result<Option<Vec<u8>>, crate::Error> {
    let on_disk = Context { installed_disk: Some(disk.path.clone()), ..context.clone() };
    let device = find_anywhere(&on_disk)?.partition.path;
    mount::wait_for_node(&device)?;
    match look(&device) {
        Ok(there) => Ok(there.user_data),
        Err(error) if damage(&error).is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says what has no effect on a system that has booted.
pub(super) fn warn_if_booted(files: &Files, context: &Context) {
    if files.user_data.is_some() {
        context.sink.warning(format!(
            "the system on this disk has booted before, and read {USER_DATA} then, once: the new one \
             has no effect; change its settings by its API, or install it anew"
        ));
    }
    if files.bootconfig.is_some() {
        context.sink.warning(format!(
            "the system on this disk has booted before, and writes {BOOT_CONFIG} from its settings \
             at every boot: the new one counts for the next boot only; change settings.boot by its \
             API"
        ));
    }
}

/// Writes the files into the private partition, and reads them back.
pub(super) fn write(
    private: &Located,
    mut files: Files,
    (system, has_booted): (System, bool),
    recreate: bool,
    context: &Context,
) -> Result<(), crate::Error> {
    let device = &*private.partition.path;
    mount::wait_for_node(device)?;
    let looked = look(device);
    let there = match looked.as_ref().err().and_then(damage) {
        None => looked?,
        Some(cause) if recreate => {
            make_anew(private, context)?;
            context.sink.warning(format!(
                "the filesystem of {} was made anew, for: {cause}; what it held is lost",
                device.display()
            ));
            if files.bootconfig.is_none() {
                files.bootconfig = Some(shipped()?);
            }
            look(device)?
        }
        Some(cause) => return Err(Error::Damaged { device: device.into(), cause }.into()),
    };
    let needed = files.iter().map(|(_, content)| (content.len() as u64).next_multiple_of(BLOCK));
    let (needed, free) = (needed.sum(), there.free);
    if needed > free {
        return Err(Error::Full { device: device.into(), needed, free }.into());
    }
    if !has_booted {
        check_together(&there, &files, system, context)?;
    }
    let named: Vec<(PathBuf, &[u8])> =
        files.iter().map(|(name, content)| (Path::new("/").join(name), content)).collect();
    let new: Vec<NewFile<'_>> = named
        .iter()
        .map(|(path, content)| NewFile {
            path,
            content,
            mode: MODE,
            directory_mode: MODE,
            uid: 0,
            gid: 0,
        })
        .collect();
    write_files::write_and_prove(device, Filesystem::Ext4, &new, context)
}

/// What the partition has.
struct There {
    user_data: Option<Vec<u8>>,
    bootconfig: Option<Vec<u8>>,
    /// Bytes.
    free: u64,
}

fn look(device: &Path) -> Result<There, crate::Error> {
    let filesystem = mount::mountable(device, Some(Filesystem::Ext4))?;
    mount::with_mounted(device, filesystem, Access::ReadOnly, |root| {
        Ok(There {
            user_data: read(root, USER_DATA, user_data::MAX_BYTES)?,
            bootconfig: read(root, BOOT_CONFIG, bootconfig::TAIL)?,
            free: root.free().map_err(|cause| FileError::Io {
                operation: "asking for free space on",
                path: device.into(),
                cause,
            })?,
        })
    })
}

fn read(root: &Root, name: &str, limit: usize) -> Result<Option<Vec<u8>>, crate::Error> {
    match root.read(&Path::new("/").join(name), limit as u64) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(FileError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What is wrong with the filesystem itself, if that is why it could not be looked into.
fn damage(error: &crate::Error) -> Option<String> {
    let is_damage =
        |cause: &io::Error| cause.raw_os_error().is_some_and(|errno| DAMAGED.contains(&errno));
    let is_damaged = match error {
        crate::Error::Mount(MountError::WrongFilesystem { .. } | MountError::Ambiguous { .. }) => {
            true
        }
        crate::Error::Mount(MountError::Mount { cause, .. })
        | crate::Error::File(FileError::Io { cause, .. }) => is_damage(cause),
        _ => false,
    };
    is_damaged.then(|| error.to_string())
}

fn make_anew(private: &Located, context: &Context) -> Result<(), crate::Error> {
    let (device, size) = (&private.partition.path, private.partition.size);
    let empty = ext4::empty(size, private.partition.unique_guid, SystemTime::now());
    let empty = empty.ok_or_else(|| Error::Size {
        device: device.clone(),
        size,
        min: ext4::MIN_SIZE,
        max: ext4::MAX_SIZE,
    })?;
    // Held until all is on the disk: what uses the partition keeps the disk from being claimed.
    let _claim = disk::claim(&context.machine, &private.disk)?;
    let failed = |cause| Error::Io { doing: "making a filesystem on", path: device.clone(), cause };
    let mut node = OpenOptions::new().write(true).open(device).map_err(failed)?;
    node.write_all(&empty).and_then(|()| node.sync_all()).map_err(failed)?;
    Ok(())
}

/// `bootconfig.data` as images have it: GRUB does without none.
fn shipped() -> Result<Vec<u8>, Error> {
    bootconfig::pack(bootconfig::EMPTY)
        .map_err(|error| Error::Content { file: BOOT_CONFIG, cause: error.to_string() })
}

/// Holds the files that are new against those that stay: at the first boot the two that tell boot
/// parameters have to agree.
fn check_together(
    there: &There,
    files: &Files,
    system: System,
    context: &Context,
) -> Result<(), Error> {
    let tree = |bytes: &Option<Vec<u8>>| bootconfig::check(bytes.as_ref()?).tree;
    let (old, new) = (tree(&there.bootconfig), tree(&files.bootconfig));
    if let (System::New, Some(old), Some(new)) = (system, &old, &new) {
        let lost = lost(old, new);
        if !lost.is_empty() {
            context.sink.warning(format!(
                "{BOOT_CONFIG} of the image had parameters that the new one has not: {}",
                lost.join(", ")
            ));
        }
    }
    if files.bootconfig.is_some() == files.user_data.is_some() {
        return Ok(());
    }
    let text = files.user_data.as_ref().or(there.user_data.as_ref());
    let settings = text
        .and_then(|bytes| user_data::boot_settings(&user_data::decode(bytes).ok()?.text).ok()?);
    let (Some(tree), Some(settings)) = (new.or(old), settings) else { return Ok(()) };
    let stays = if files.user_data.is_some() { BOOT_CONFIG } else { USER_DATA };
    let findings: Vec<String> = consistency(&tree, &settings)
        .iter()
        .map(|found| format!("{} (the {stays} is the one on the disk)", found.in_file(BOOT_CONFIG)))
        .collect();
    match system {
        System::Installed if !findings.is_empty() => return Err(Error::Refused { findings }),
        _ => findings.into_iter().for_each(|finding| context.sink.warning(finding)),
    }
    Ok(())
}

/// The parameters that only the first has.
fn lost(old: &Tree, new: &Tree) -> Vec<String> {
    let names = |tree: &Tree| -> BTreeSet<String> {
        let leaves = tree.leaves().into_iter().filter(|(words, _)| words.len() > 1);
        leaves.map(|(words, _)| words.join(".")).collect()
    };
    names(old).difference(&names(new)).cloned().collect()
}
