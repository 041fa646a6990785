//! `wipe-disk`, `partition-disk` and `make-filesystem`: a disk laid out from nothing.

mod make_filesystem;
mod swap;

use nibs_job::Size;
use nibs_job::params::{DiskSelector, PartitionDisk, PartitionUse, TableKind, WipeDisk};
use uuid::{Uuid, uuid};

pub use self::make_filesystem::FormatError;
pub(crate) use self::make_filesystem::{check_program, make, make_filesystem};
use crate::disk::{self, Claim, Disk, NewPartition, NewTable};
use crate::{Context, Done, Error};

const LINUX: Uuid = uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");
const SWAP: Uuid = uuid!("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f");
const BIOS_BOOT: Uuid = uuid!("21686148-6449-6e6f-744e-656564454649");
const BASIC_DATA: Uuid = uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7");

/// Wipes a disk.
pub(crate) fn wipe(params: &WipeDisk, context: &Context) -> Result<Done, Error> {
    let claim = claim(&params.disk, context)?;
    disk::wipe(&context.machine, &claim)?;
    context.info(format!("wiped {}", claim.disk()));
    Ok(Done::default())
}

/// Partitions a disk, which later actions of the job then take for the one that was written.
pub(crate) fn partition(params: &PartitionDisk, context: &Context) -> Result<Done, Error> {
    let claim = claim(&params.disk, context)?;
    let found = disk::write_table(&context.machine, &claim, &table(params))?;
    context.info(format!("partitioned {}", claim.disk()));
    for partition in found {
        let size = Size(partition.size);
        context.info(format!("{}: {size}, name {:?}", partition.path.display(), partition.name));
    }
    Ok(Done { installed_disk: Some(claim.disk().path.clone()), ..Done::default() })
}

/// Whether a disk is there and, unless what uses it is to be stopped, free. Nothing is written.
pub(crate) fn check_disk(selector: &DiskSelector, context: &Context) -> Result<Disk, Error> {
    let disk = disk::find(selector, &context.machine)?;
    context.check()?;
    if !selector.release {
        drop(disk::claim(&context.machine, &disk)?);
    }
    Ok(disk)
}

/// Whether a disk can be partitioned like that. Nothing is written.
pub(crate) fn check_partition(params: &PartitionDisk, context: &Context) -> Result<(), Error> {
    let disk = check_disk(&params.disk, context)?;
    Ok(disk::check_table(&disk, &table(params))?)
}

fn claim(selector: &DiskSelector, context: &Context) -> Result<Claim, Error> {
    let disk = disk::find(selector, &context.machine)?;
    if selector.release {
        disk::release(&context.machine, &disk, &mut |step| context.info(step.done()))?;
    }
    context.check()?;
    Ok(disk::claim(&context.machine, &disk)?)
}

fn table(params: &PartitionDisk) -> NewTable {
    let size = |size: Option<Size>| size.map(|Size(bytes)| bytes);
    let new = params.partitions.iter();
    match params.table {
        TableKind::Gpt => NewTable::Gpt(
            new.map(|partition| NewPartition {
                name: partition.name.clone(),
                size: size(partition.size),
                kind: partition.type_guid.unwrap_or(gpt_type(partition.purpose)),
                active: false,
            })
            .collect(),
        ),
        TableKind::Mbr => NewTable::Mbr(
            new.map(|partition| NewPartition {
                name: String::new(),
                size: size(partition.size),
                kind: mbr_type(partition.purpose),
                active: partition.active,
            })
            .collect(),
        ),
    }
}

fn gpt_type(purpose: PartitionUse) -> Uuid {
    match purpose {
        PartitionUse::Linux => LINUX,
        PartitionUse::Swap => SWAP,
        PartitionUse::Efi => crate::efi::ESP_TYPE,
        PartitionUse::BiosBoot => BIOS_BOOT,
        PartitionUse::Fat => BASIC_DATA,
    }
}

fn mbr_type(purpose: PartitionUse) -> u8 {
    match purpose {
        // BIOS boot partitions are refused when the job is decoded.
        PartitionUse::Linux | PartitionUse::BiosBoot => 0x83,
        PartitionUse::Swap => 0x82,
        PartitionUse::Efi => 0xef,
        PartitionUse::Fat => 0x0c,
    }
}
