//! `storage`: disks laid out as the storage document of a Tinkerbell metadata service says.
//!
//! Of the JSON at `/metadata` only `metadata.instance.storage` counts: `disks[]` with `device`,
//! `wipe_table` and `partitions[]` of `label`, `number` and `size` (in sectors of 512 bytes), and
//! `filesystems[].mount` with `device`, `format`, `point` and `create.options`.

use std::path::PathBuf;
use std::time::Duration;

use nibs_job::params::{
    DiskSelector, Format, MakeFilesystem, NewPartition, PartitionDisk, PartitionUse, Storage,
    StorageStep, TableKind, Volume, WipeDisk,
};
use nibs_job::{Class, Size};
use serde::Deserialize;

use crate::bottlerocket::fetch::Wanted;
use crate::mount::{self, Access, MountError};
use crate::{Context, Done, Error, layout, volume};

/// How long the metadata service is tried, as Tinkerbell's own action does.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The most that is read of a document.
const LIMIT: usize = 4 << 20;

/// Sizes in a document count these, whatever the sectors of the disk are.
const SECTOR: u64 = 512;

/// A storage document cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It is no JSON of that shape.
    #[error("reading the storage document: {cause}")]
    Parse {
        /// What is wrong with it.
        cause: String,
    },
    /// What it asks for cannot be done.
    #[error("reading the storage document, {place}: {cause}")]
    Asks {
        /// Where in it.
        place: String,
        /// What is wrong.
        cause: String,
    },
}

impl StorageError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        Class::InvalidInput
    }
}

#[derive(Debug, Deserialize)]
struct Document {
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    instance: Instance,
}

#[derive(Debug, Deserialize)]
struct Instance {
    storage: Layout,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Layout {
    disks: Option<Vec<DiskDoc>>,
    filesystems: Option<Vec<FilesystemDoc>>,
    raid: Option<Vec<serde_json::Value>>,
    volume_groups: Option<Vec<serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
struct DiskDoc {
    device: String,
    #[serde(default)]
    partitions: Option<Vec<PartitionDoc>>,
    #[serde(default)]
    wipe_table: bool,
}

#[derive(Debug, Deserialize)]
struct PartitionDoc {
    #[serde(default)]
    label: String,
    number: usize,
    #[serde(default)]
    size: u64,
}

#[derive(Debug, Deserialize)]
struct FilesystemDoc {
    mount: MountDoc,
}

#[derive(Debug, Deserialize)]
struct MountDoc {
    device: String,
    format: String,
    #[serde(default)]
    point: String,
    #[serde(default)]
    create: Option<CreateDoc>,
}

#[derive(Debug, Default, Deserialize)]
struct CreateDoc {
    #[serde(default)]
    options: Option<Vec<String>>,
}

/// Does the action.
pub(crate) fn run(params: &Storage, context: &Context) -> Result<Done, Error> {
    let wanted = Wanted { file: "the storage document", limit: LIMIT, timeout: TIMEOUT };
    let layout = parse(&wanted.read(&params.document, context)?)?;
    let mut done = Done::default();
    match params.step {
        StorageStep::Check => {
            let count = |disks: usize, what| format!("the storage document names {disks} {what}");
            context.info(count(layout.disks.as_ref().map_or(0, Vec::len), "disks"));
            context.info(count(layout.filesystems.as_ref().map_or(0, Vec::len), "filesystems"));
        }
        StorageStep::Wipe => {
            let disks = disks(&layout, context).iter();
            let disks: Vec<_> = disks.map(|disk| selector(disk, params.release)).collect();
            for disk in &disks {
                layout::check_disk(disk, context)?;
            }
            for disk in disks {
                layout::wipe(&WipeDisk { disk }, context)?;
            }
        }
        StorageStep::Partition => done = partition_all(&layout, params, context)?,
        StorageStep::Format => {
            for params in to_make(filesystems(&layout, context))? {
                let device = volume::device(&params.on, context)?;
                layout::make(&device, &params, context)?;
            }
        }
        StorageStep::Mount => prove(&layout, context)?,
    }
    Ok(done)
}

/// Partitions the disks. All that can be known of all of them is looked at first: a mistake in the
/// last disk, or in the filesystems to come, must not cost what is on the first.
fn partition_all(layout: &Layout, params: &Storage, context: &Context) -> Result<Done, Error> {
    refuse_stacked(layout)?;
    for filesystem in to_make(layout.filesystems.as_deref().unwrap_or_default())? {
        layout::check_program(filesystem.format)?;
    }
    let changes = disks(layout, context).iter().enumerate();
    let changes = changes.map(|(index, disk)| change(index, disk, params));
    let changes = changes.collect::<Result<Vec<_>, StorageError>>()?;
    for Change { wipe, table } in &changes {
        if let Some(wipe) = wipe {
            layout::check_disk(&wipe.disk, context)?;
        }
        if let Some(table) = table {
            layout::check_partition(table, context)?;
        }
    }
    let mut done = Done::default();
    for Change { wipe, table } in changes {
        if let Some(wipe) = wipe {
            layout::wipe(&wipe, context)?;
        }
        if let Some(table) = table {
            done = layout::partition(&table, context)?;
        }
    }
    Ok(done)
}

fn parse(bytes: &[u8]) -> Result<Layout, StorageError> {
    let document: Document = serde_json::from_slice(bytes).map_err(|error| StorageError::Parse {
        cause: format!(
            "expected JSON with metadata.instance.storage, as a Tinkerbell metadata service has it \
             at /metadata: {error}"
        ),
    })?;
    Ok(document.metadata.instance.storage)
}

fn disks<'a>(layout: &'a Layout, context: &Context) -> &'a [DiskDoc] {
    let disks = layout.disks.as_deref().unwrap_or_default();
    if disks.is_empty() {
        context.sink.warning("the storage document names no disks: nothing to do".into());
    }
    disks
}

fn filesystems<'a>(layout: &'a Layout, context: &Context) -> &'a [FilesystemDoc] {
    let filesystems = layout.filesystems.as_deref().unwrap_or_default();
    if filesystems.is_empty() {
        context.sink.warning("the storage document names no filesystems: nothing to do".into());
    }
    filesystems
}

fn selector(disk: &DiskDoc, release: bool) -> DiskSelector {
    DiskSelector { path: Some(disk.device.clone()), release, ..DiskSelector::default() }
}

fn refuse_stacked(layout: &Layout) -> Result<(), StorageError> {
    for (key, value) in [("raid", &layout.raid), ("volume_groups", &layout.volume_groups)] {
        if value.as_ref().is_some_and(|value| !value.is_empty()) {
            return Err(StorageError::Asks {
                place: key.to_owned(),
                cause: "RAID and LVM are not made by this version; leave it out, and make them in \
                        the installed system"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

/// What is to be done to a disk of the document: nothing, if it is only named there.
struct Change {
    wipe: Option<WipeDisk>,
    table: Option<PartitionDisk>,
}

fn change(index: usize, disk: &DiskDoc, params: &Storage) -> Result<Change, StorageError> {
    let wipe = disk.wipe_table.then(|| {
        checked(&WipeDisk { disk: selector(disk, params.release) })
            .map_err(|cause| StorageError::Asks { place: format!("disks[{index}]"), cause })
    });
    let has_partitions = disk.partitions.as_ref().is_some_and(|partitions| !partitions.is_empty());
    let table = has_partitions.then(|| partitions(index, disk, params));
    Ok(Change { wipe: wipe.transpose()?, table: table.transpose()? })
}

/// The partition table that a disk of the document is to have.
fn partitions(
    index: usize,
    disk: &DiskDoc,
    params: &Storage,
) -> Result<PartitionDisk, StorageError> {
    let documents = disk.partitions.as_deref().unwrap_or_default();
    let place = |number: usize| format!("disks[{index}].partitions[{number}]");
    let mut new = Vec::new();
    for (at, document) in documents.iter().enumerate() {
        if document.number != at + 1 {
            return Err(StorageError::Asks {
                place: place(at),
                cause: format!(
                    "number {}: expected {}, since partitions are numbered in their order",
                    document.number,
                    at + 1
                ),
            });
        }
        new.push(
            partition(document, params.table)
                .map_err(|cause| StorageError::Asks { place: place(at), cause })?,
        );
    }
    let disk = selector(disk, params.release);
    let table = PartitionDisk { disk, table: params.table, partitions: new };
    checked(&table).map_err(|cause| StorageError::Asks { place: format!("disks[{index}]"), cause })
}

/// The same demands as of a job's own table.
fn checked<T: serde::Serialize + serde::de::DeserializeOwned>(table: &T) -> Result<T, String> {
    let value = serde_json::to_value(table).map_err(|error| error.to_string())?;
    nibs_job::decode::decode(value).map_err(|error| error.to_string())
}

/// Labels say what a partition is for; of an MBR, which has no names, they say nothing else.
fn partition(document: &PartitionDoc, table: TableKind) -> Result<NewPartition, String> {
    let label = document.label.as_str();
    let active = table == TableKind::Mbr && matches!(label, "LINUX_ACTIVE" | "FAT32_ACTIVE");
    let purpose = match (table, label) {
        (_, "SWAP") => PartitionUse::Swap,
        (TableKind::Gpt, "BIOS") => PartitionUse::BiosBoot,
        (TableKind::Gpt, "EFI") => PartitionUse::Efi,
        (TableKind::Mbr, "FAT32" | "FAT32_ACTIVE") => PartitionUse::Fat,
        _ => PartitionUse::Linux,
    };
    let size = match document.size.checked_mul(SECTOR) {
        Some(0) => None,
        Some(bytes) => Some(Size(bytes)),
        None => return Err(format!("size {}: no disk has as many sectors", document.size)),
    };
    let name = if table == TableKind::Gpt { label.to_owned() } else { String::new() };
    Ok(NewPartition { name, size, purpose, active, ..NewPartition::default() })
}

fn to_make(filesystems: &[FilesystemDoc]) -> Result<Vec<MakeFilesystem>, StorageError> {
    filesystems.iter().enumerate().map(|(index, it)| make_filesystem(index, &it.mount)).collect()
}

fn make_filesystem(index: usize, mount: &MountDoc) -> Result<MakeFilesystem, StorageError> {
    let known = Format::ALL.iter().find(|(name, _)| *name == mount.format);
    let asks = |cause| StorageError::Asks { place: format!("filesystems[{index}].mount"), cause };
    let Some((_, format)) = known else {
        let names: Vec<_> = Format::ALL.iter().map(|(name, _)| *name).collect();
        let (found, names) = (&mount.format, names.join(", "));
        return Err(asks(format!("format {found:?}: expected one of {names}")));
    };
    let options = mount.create.as_ref().and_then(|create| create.options.clone());
    let params = MakeFilesystem {
        on: Volume::at(&mount.device),
        format: *format,
        label: None,
        // What Tinkerbell's documents say of swap has no meaning for it.
        options: options.filter(|_| *format != Format::Swap).unwrap_or_default(),
    };
    checked(&params).map_err(asks)
}

/// Mounts every filesystem and unmounts it again: later actions mount what they need themselves, so
/// that it can be is all that they want to know.
fn prove(layout: &Layout, context: &Context) -> Result<(), Error> {
    for filesystem in filesystems(layout, context) {
        let MountDoc { device, format, point, .. } = &filesystem.mount;
        if format == "swap" {
            context.info(format!("{device}: swap space, which nothing mounts"));
            continue;
        }
        let device: PathBuf = volume::device(&Volume::at(device), context)?;
        let driver = mount::mountable(&device, None)?;
        mount::with_mounted(&device, driver, Access::ReadWrite, |_| Ok::<(), MountError>(()))?;
        context.info(format!(
            "{}: {} for {point:?} can be mounted; actions mount what they need themselves, so \
             nothing is left mounted",
            device.display(),
            driver.as_str()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the shape of the metadata service (its internal/frontend, `/metadata`).
    const DOCUMENT: &str = r#"{"metadata":{"instance":{"storage":{
        "disks":[{"device":"/dev/sda","wipe_table":true,"partitions":[
            {"label":"BIOS","number":1,"size":4096},
            {"label":"EFI","number":2,"size":1048576},
            {"label":"SWAP","number":3,"size":3993600},
            {"label":"ROOT","number":4,"size":0}]}],
        "filesystems":[
            {"mount":{"create":{"options":["-L","ROOT"]},"device":"/dev/sda4","format":"ext4","point":"/"}},
            {"mount":{"create":{"options":["-L","SWAP"]},"device":"/dev/sda3","format":"swap","point":"none"}}]
        }}}}"#;

    fn table(document: &str, kind: TableKind) -> Result<PartitionDisk, String> {
        let layout = parse(document.as_bytes()).map_err(|e| e.to_string())?;
        let params = Storage {
            document: nibs_job::Location::try_from("/document.json".to_owned())?,
            step: StorageStep::Partition,
            table: kind,
            release: false,
        };
        partitions(0, &layout.disks.unwrap()[0], &params).map_err(|e| e.to_string())
    }

    #[test]
    fn a_document_becomes_a_table_by_its_labels() {
        let table = table(DOCUMENT, TableKind::Gpt).unwrap();
        let made: Vec<_> = table
            .partitions
            .iter()
            .map(|p| (p.name.as_str(), p.size.map(|size| size.0 >> 20), p.purpose))
            .collect();
        assert_eq!(
            made,
            [
                ("BIOS", Some(2), PartitionUse::BiosBoot),
                ("EFI", Some(512), PartitionUse::Efi),
                ("SWAP", Some(1950), PartitionUse::Swap),
                ("ROOT", None, PartitionUse::Linux),
            ]
        );
        assert_eq!(table.disk.path.as_deref(), Some("/dev/sda"));
    }

    #[test]
    fn labels_mean_something_else_in_an_mbr() {
        let document = DOCUMENT.replace("BIOS", "LINUX_ACTIVE").replace("\"EFI\"", "\"FAT32\"");
        let document = document.replace("\"label\":\"SWAP\"", "\"label\":\"DATA_ACTIVE\"");
        let table = table(&document, TableKind::Mbr).unwrap();
        let made: Vec<_> = table.partitions.iter().map(|p| (p.purpose, p.active)).collect();
        assert_eq!(made[0], (PartitionUse::Linux, true));
        assert_eq!(made[1], (PartitionUse::Fat, false));
        assert_eq!(made[2], (PartitionUse::Linux, false));
        assert!(table.partitions.iter().all(|partition| partition.name.is_empty()));
    }

    #[test]
    fn what_cannot_be_followed_is_told_with_its_place() {
        for (from, to, wrong) in [
            ("\"number\":2", "\"number\":3", "disks[0].partitions[1]: number 3: expected 2"),
            ("\"size\":4096", "\"size\":0", "disks[0]: partitions[0]: has no size; only the last"),
            ("\"size\":4096", "\"size\":99999999999999999", "no disk has as many sectors"),
            ("\"/dev/sda\"", "\"sda\"", "must be a device node below /dev"),
            ("\"storage\"", "\"store\"", "expected JSON with metadata.instance.storage"),
        ] {
            let error = table(&DOCUMENT.replacen(from, to, 1), TableKind::Gpt).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
        assert!(table("<html>", TableKind::Gpt).unwrap_err().contains("reading the storage"));
    }

    #[test]
    fn filesystems_have_their_options_and_unknown_ones_are_named() {
        let layout = parse(DOCUMENT.as_bytes()).unwrap();
        let filesystems = layout.filesystems.unwrap();
        let root = make_filesystem(0, &filesystems[0].mount).unwrap();
        assert_eq!((root.format, root.options), (Format::Ext4, vec!["-L".into(), "ROOT".into()]));
        assert!(make_filesystem(1, &filesystems[1].mount).unwrap().options.is_empty());
        let odd = DOCUMENT.replace("\"ext4\"", "\"zfs\"");
        let odd = parse(odd.as_bytes()).unwrap().filesystems.unwrap();
        let error = make_filesystem(0, &odd[0].mount).unwrap_err().to_string();
        assert!(error.contains("filesystems[0].mount: format \"zfs\": expected one of ext2, ext3"));
    }

    #[test]
    fn raid_and_volume_groups_are_refused_and_nulls_are_nothing() {
        let layout = |text: &str| {
            let text = format!(r#"{{"metadata":{{"instance":{{"storage":{text}}}}}}}"#);
            parse(text.as_bytes()).unwrap()
        };
        refuse_stacked(&layout(r#"{"disks":null,"filesystems":null,"raid":null}"#)).unwrap();
        let error = refuse_stacked(&layout(r#"{"volume_groups":[{"name":"vg"}]}"#)).unwrap_err();
        assert!(error.to_string().contains("volume_groups: RAID and LVM are not made"), "{error}");
    }
}
