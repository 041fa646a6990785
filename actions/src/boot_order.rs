//! `boot-order`: makes the firmware know the installed system, and sets its place in the order.
//!
//! ```text
//! find the ESP -> mount ro, find the loader -> read the boot variables -> write what differs
//!                                                     |                          |
//!                                                     +-- refused, full, absent --+
//!                                                                  |
//!                              degraded: the removable path starts it (copied there if need be)
//! ```

mod loader;
mod plan;

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::Path;

use nibs_job::params::{BootOrder, BootPolicy, Filesystem, PartitionSelector};
use uuid::Uuid;

use crate::disk::{self, Disk};
use crate::efi::{
    BootEntries, ESP_TYPE, Efivarfs, HardDrive, LoadOption, VariableError, Variables,
};
use crate::mount::{self, Access, NewFile, Root};
use crate::partition::Located;
use crate::{Context, Done, Error, Machine};
use loader::{Architecture, Loader};

pub use loader::LoaderError;

/// Label of an entry that neither the job nor the image has a word on.
const DEFAULT_LABEL: &str = "Nibs";

/// More than any loader has: Linux with its initramfs in one file is smaller.
const LOADER_LIMIT: u64 = 512 << 20;

/// Devices stacked on disks, whose partitions [`disk::list`] does not show.
const STACKED: [&str; 2] = ["md", "dm-"];

/// Does the action.
pub(crate) fn run(params: &BootOrder, context: &Context) -> Result<Done, Error> {
    let wanted = PartitionSelector { type_guid: Some(ESP_TYPE), ..PartitionSelector::default() };
    let esp = Located::find(&wanted, params.disk.as_ref(), context)?;
    let device = &esp.partition.path;
    mount::wait_for_node(device)?;
    let filesystem = mount::mountable(device, Some(Filesystem::Vfat))?;
    let architecture = Architecture::CURRENT;
    let (loader, removable) = mount::with_mounted(device, filesystem, Access::ReadOnly, |root| {
        let loader = loader::find(root, params.loader.as_deref(), architecture)?;
        let removable = loader::resolve(root, &architecture.removable())?;
        Ok::<_, Error>((loader, removable))
    })?;
    context.info(format!("the loader is {} on {}", loader.path, device.display()));
    context.check()?;

    let option = load_option(params, &esp, &loader);
    let machine = &context.machine;
    let set = match Efivarfs::open(&machine.efivars) {
        Some(mut variables) => set(&mut variables, &option, params.policy, machine),
        None => Err(Refusal::NoVariables { is_uefi: is_uefi(machine) }),
    };
    let done = conclude(set, &architecture.removable(), removable.is_some(), || {
        copy_to_removable(device, filesystem, &loader, architecture)
    })?;
    done.changes.iter().for_each(|change| context.info(change));
    Ok(Done { degraded: done.degraded, ..Done::default() })
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Conclusion {
    changes: Vec<String>,
    degraded: Vec<String>,
}

/// Turns a refusal by the firmware into a fallback: the `removable` path, which `exists` or which
/// `copy` makes. Only without any the action has failed.
fn conclude(
    set: Result<Vec<String>, Refusal>,
    removable: &str,
    exists: bool,
    copy: impl FnOnce() -> Result<Vec<String>, Error>,
) -> Result<Conclusion, Error> {
    let refusal = match set {
        Ok(changes) if changes.is_empty() => {
            let changes = vec!["the boot variables are as wanted already".to_owned()];
            return Ok(Conclusion { changes, ..Conclusion::default() });
        }
        Ok(changes) => return Ok(Conclusion { changes, ..Conclusion::default() }),
        Err(refusal) => refusal,
    };
    let fallback = if exists {
        format!("firmware that looks for {removable} finds it")
    } else if matches!(refusal, Refusal::NoVariables { is_uefi: false }) {
        format!("and there is no {removable} for UEFI firmware to find")
    } else {
        let copies = copy().map_err(|fallback| Error::Unbootable {
            nvram: refusal.to_string(),
            fallback: Box::new(fallback),
        })?;
        format!("copied {}, where firmware looks by itself", copies.join(", "))
    };
    Ok(Conclusion { degraded: vec![format!("{refusal}; {fallback}")], ..Conclusion::default() })
}

/// Why the boot variables are not as wanted.
#[derive(Debug)]
enum Refusal {
    /// There are none to be seen.
    NoVariables {
        /// Whether the machine was booted by UEFI all the same.
        is_uefi: bool,
    },
    /// A variable could not be read or written.
    Variable(VariableError),
    /// All of the 65536 numbers of entries are taken.
    NoNumber,
    /// What was written is not what is read.
    NotKept(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the boot order is not set: ")?;
        match self {
            Self::NoVariables { is_uefi: false } => {
                f.write_str("this machine was not booted by UEFI")
            }
            Self::NoVariables { is_uefi: true } => f.write_str(
                "no EFI variables are to be seen; mount efivarfs at its place in sysfs, unless the \
                 firmware offers none at run time",
            ),
            Self::Variable(error) => error.fmt(f),
            Self::NoNumber => f.write_str("no number for a boot entry is free"),
            Self::NotKept(difference) => f.write_str(difference),
        }
    }
}

impl From<VariableError> for Refusal {
    fn from(error: VariableError) -> Self {
        Self::Variable(error)
    }
}

/// Brings the boot variables to what is wanted and proves it; says what was changed.
fn set(
    variables: &mut dyn Variables,
    option: &LoadOption,
    policy: BootPolicy,
    machine: &Machine,
) -> Result<Vec<String>, Refusal> {
    let before = BootEntries::read(variables)?;
    let partitions = all_partitions(machine);
    let wanted =
        plan::wanted(&before, option, policy, partitions.as_ref()).ok_or(Refusal::NoNumber)?;
    let changes = plan::apply(variables, &before, &wanted.entries)?;
    let after = BootEntries::read(variables)?;
    match plan::difference(&wanted, &after) {
        None => Ok(changes),
        Some(difference) => Err(Refusal::NotKept(difference)),
    }
}

fn load_option(params: &BootOrder, esp: &Located, loader: &Loader) -> LoadOption {
    let blocks = |bytes: u64| bytes / u64::from(esp.disk.sector_size.max(1));
    let partition = HardDrive {
        number: esp.partition.number,
        start: blocks(esp.partition.start),
        size: blocks(esp.partition.size),
        guid: esp.partition.unique_guid,
    };
    let label = params.label.as_deref().or(loader.label.as_deref()).unwrap_or(DEFAULT_LABEL);
    LoadOption::new(label, partition, &loader.path, loader.optional_data.clone())
}

/// The GUIDs of all partitions; `None` if some may be out of sight.
fn all_partitions(machine: &Machine) -> Option<HashSet<Uuid>> {
    let names = fs::read_dir(machine.sysfs.join("block")).ok()?;
    for name in names {
        let name = name.ok()?.file_name();
        if STACKED.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            return None;
        }
    }
    let mut guids = HashSet::new();
    for disk in disk::list(machine).ok()? {
        guids.extend(partition_guids(&disk)?);
    }
    Some(guids)
}

/// A disk whose table is broken or absent has no partition that firmware could find either.
fn partition_guids(disk: &Disk) -> Option<Vec<Uuid>> {
    match disk::partitions(disk) {
        Ok(partitions) => Some(partitions.into_iter().map(|p| p.unique_guid).collect()),
        Err(disk::Error::Table { .. }) => Some(Vec::new()),
        Err(_) => None,
    }
}

fn is_uefi(machine: &Machine) -> bool {
    machine.sysfs.join("firmware/efi").exists()
}

/// Copies the loader to where firmware looks by itself, and says what it copied.
fn copy_to_removable(
    device: &Path,
    filesystem: Filesystem,
    loader: &Loader,
    architecture: Architecture,
) -> Result<Vec<String>, Error> {
    mount::with_mounted(device, filesystem, Access::ReadWrite, |root| {
        copy(root, loader, architecture)
    })
}

fn copy(root: &Root, loader: &Loader, architecture: Architecture) -> Result<Vec<String>, Error> {
    let mut copies = Vec::new();
    // The loader comes last: with it in place firmware would start it before all is there.
    for (from, to) in loader.companions(root, architecture)? {
        let (path, source) = (loader::with_slashes(&to), loader::with_slashes(&from));
        let content = root.read(&source, LOADER_LIMIT)?;
        let (mode, directory_mode) = (0o644, 0o755);
        let file = NewFile { path: &path, content: &content, mode, directory_mode, uid: 0, gid: 0 };
        root.write(&file)?;
        root.verify(&file)?;
        copies.push(format!("{from} to {to}"));
    }
    Ok(copies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::efi::MemoryVariables;

    #[test]
    fn refusals_say_what_the_matter_is() {
        let option = LoadOption::new(
            "x",
            HardDrive { number: 1, start: 2048, size: 1, guid: Uuid::nil() },
            r"\x.efi",
            Vec::new(),
        );
        let refused = |variables: &mut MemoryVariables| {
            let policy = BootPolicy::InstalledFirst;
            set(variables, &option, policy, &Machine::default()).unwrap_err().to_string()
        };
        for (errno, said) in
            [(libc::ENOSPC, "full"), (libc::EROFS, "read-only"), (libc::EPERM, "refuses")]
        {
            let mut variables =
                MemoryVariables { fails_with: Some(errno), ..MemoryVariables::default() };
            let refusal = refused(&mut variables);
            assert!(refusal.contains(said), "{refusal}");
        }
        let mut variables =
            MemoryVariables { forgets: Some("Boot0000".into()), ..MemoryVariables::default() };
        assert!(refused(&mut variables).contains("did not keep Boot0000"));
    }

    #[test]
    fn a_refusal_is_degraded_as_long_as_a_removable_path_is_there_or_can_be_made() {
        let removable = r"\EFI\BOOT\BOOTX64.EFI";
        let with = |is_uefi, exists, copied: Result<Vec<String>, Error>| {
            conclude(Err(Refusal::NoVariables { is_uefi }), removable, exists, || copied)
        };
        let reason = |conclusion: Result<Conclusion, Error>| conclusion.unwrap().degraded.remove(0);
        let unused = || Err(Error::Cancelled);
        assert!(reason(with(true, true, unused())).contains(r"BOOTX64.EFI finds it"));
        assert!(reason(with(false, true, unused())).contains("not booted by UEFI"));
        assert!(reason(with(false, false, unused())).contains("there is no"));
        assert!(reason(with(true, false, Ok(vec!["a to b".into()]))).contains("copied a to b"));
        let error = with(true, false, unused()).unwrap_err().to_string();
        assert!(error.contains("mount efivarfs") && error.ends_with("cancelled"), "{error}");
    }

    #[test]
    fn the_copy_for_the_removable_path_brings_what_shim_needs_beside_it() {
        let esp = tempfile::tempdir().unwrap();
        let debian = esp.path().join("EFI/debian");
        fs::create_dir_all(&debian).unwrap();
        for name in ["shimx64.efi", "grubx64.efi", "fbx64.efi"] {
            fs::write(debian.join(name), name).unwrap();
        }
        let root = Root::open(esp.path(), false).unwrap();
        let x64 = Architecture("X64");
        let loader = loader::find(&root, Some(r"\EFI\debian\shimx64.efi"), x64).unwrap();
        let copies = copy(&root, &loader, x64).unwrap();
        assert_eq!(copies.len(), 2);
        assert_eq!(copies[1], r"\EFI\debian\shimx64.efi to \EFI\BOOT\BOOTX64.EFI");
        let removable = esp.path().join("EFI/BOOT");
        assert_eq!(fs::read(removable.join("BOOTX64.EFI")).unwrap(), b"shimx64.efi");
        assert_eq!(fs::read(removable.join("grubx64.efi")).unwrap(), b"grubx64.efi");
        assert!(!removable.join("fbx64.efi").exists(), "it would rewrite the boot order");
    }
}
