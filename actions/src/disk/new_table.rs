//! A new partition table on a disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{OperatingSystem, Type};
use uuid::Uuid;

use super::settle::show;
use super::wipe::clear_ends;
use super::{Claim, Disk, Error, Partition, Result, partition_path, settle};
use crate::Machine;

/// Partitions start at multiples of this, so that no block of any medium is shared; all tools of
/// the field use it.
const ALIGNMENT: u64 = 1 << 20;

/// Bytes that the entries of a GPT of the usual size take.
const GPT_ENTRIES: u64 = 16 << 10;

/// Where the four entries of an MBR start, how long each is, and how it ends.
const MBR_SIGNATURE: usize = 440;
const MBR_ENTRIES: usize = 446;
const MBR_ENTRY: usize = 16;
const MBR_END: [u8; 2] = [0x55, 0xaa];

/// An address of heads and cylinders that says: look at the sector number.
const MBR_NO_CHS: [u8; 3] = [0xfe, 0xff, 0xff];

/// A partition table to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewTable {
    /// GPT.
    Gpt(Vec<NewPartition<Uuid>>),
    /// MBR, with types of a byte.
    Mbr(Vec<NewPartition<u8>>),
}

/// A partition to be, with its type in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartition<T> {
    /// Name, for a table that has names.
    pub name: String,
    /// Bytes, rounded up to whole MiB; `None`: all that is left.
    pub size: Option<u64>,
    /// Type.
    pub kind: T,
    /// Whether it is marked as the one to start from.
    pub active: bool,
}

/// Where a partition goes: bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    start: u64,
    size: u64,
}

/// Whether a disk can have this table; nothing is written.
pub fn check_table(disk: &Disk, table: &NewTable) -> Result<()> {
    layout(disk, table).map(drop)
}

/// Writes a table to a claimed disk, in place of any that is there, clears both ends of the new
/// partitions and waits for their nodes. Nothing is written if the disk cannot have it.
pub fn write_table(machine: &Machine, claim: &Claim, table: &NewTable) -> Result<Vec<Partition>> {
    let (disk, file) = (claim.disk(), claim.file());
    let places = layout(disk, table)?;
    let failed = || Error::io("clearing both ends of", &disk.path);
    clear_ends(file, 0, disk.size).map_err(failed())?;
    for place in &places {
        clear_ends(file, place.start, place.size).map_err(failed())?;
    }
    match table {
        NewTable::Gpt(new) => write_gpt(disk, file, new, &places)?,
        NewTable::Mbr(new) => write_mbr(machine, disk, file, new, &places)?,
    }
    file.sync_all().map_err(Error::io("writing the partition table of", &disk.path))?;
    match table {
        NewTable::Gpt(_) => settle(machine, claim),
        NewTable::Mbr(_) => {
            let found = of_mbr(disk, &places);
            show(machine, claim, &found)?;
            Ok(found)
        }
    }
}

/// Where the partitions of a table go.
fn layout(disk: &Disk, table: &NewTable) -> Result<Vec<Place>> {
    let sector = u64::from(disk.sector_size);
    match table {
        NewTable::Gpt(new) => {
            gpt_sectors(disk)?;
            places(disk, sizes(new), disk.size.saturating_sub(GPT_ENTRIES + sector))
        }
        NewTable::Mbr(new) => {
            places(disk, sizes(new), disk.size.min(sector.saturating_mul(u64::from(u32::MAX))))
        }
    }
}

fn gpt_sectors(disk: &Disk) -> Result<LogicalBlockSize> {
    match disk.sector_size {
        512 => Ok(LogicalBlockSize::Lb512),
        4096 => Ok(LogicalBlockSize::Lb4096),
        other => Err(Error::NewTable {
            path: disk.path.clone(),
            cause: format!("no GPT has sectors of {other} bytes"),
        }),
    }
}

/// The partitions of an MBR, which has neither names nor GUIDs.
fn of_mbr(disk: &Disk, places: &[Place]) -> Vec<Partition> {
    let partition = |(number, place): (u32, &Place)| Partition {
        number,
        name: String::new(),
        type_guid: Uuid::nil(),
        unique_guid: Uuid::nil(),
        start: place.start,
        size: place.size,
        attributes: 0,
        path: partition_path(&disk.path, number),
    };
    (1..).zip(places).map(partition).collect()
}

fn sizes<T>(new: &[NewPartition<T>]) -> impl Iterator<Item = Option<u64>> {
    new.iter().map(|partition| partition.size)
}

/// Places for partitions of these sizes, one behind the other, up to `end`.
fn places(disk: &Disk, sizes: impl Iterator<Item = Option<u64>>, end: u64) -> Result<Vec<Place>> {
    let room = end / ALIGNMENT * ALIGNMENT;
    let mut next = ALIGNMENT;
    let mut places = Vec::new();
    for size in sizes {
        let size = match size {
            Some(size) => size.div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT),
            None => room.saturating_sub(next).max(ALIGNMENT),
        };
        places.push(Place { start: next, size });
        next = next.saturating_add(size);
    }
    if next > room {
        return Err(Error::NoRoom { path: disk.path.clone(), needed: next, room });
    }
    Ok(places)
}

fn write_gpt(disk: &Disk, file: &File, new: &[NewPartition<Uuid>], places: &[Place]) -> Result<()> {
    let failed = |cause: String| Error::NewTable { path: disk.path.clone(), cause };
    let (sectors, sector) = (gpt_sectors(disk)?, u64::from(disk.sector_size));
    let protected = u32::try_from(disk.size / sector - 1).unwrap_or(u32::MAX);
    let mut device = file;
    ProtectiveMBR::with_lb_size(protected)
        .overwrite_lba0(&mut device)
        .map_err(|error| failed(format!("writing the protective MBR: {error}")))?;
    let config = gpt::GptConfig::new().writable(true).logical_block_size(sectors);
    let mut table =
        config.create_from_device(file, None).map_err(|error| failed(error.to_string()))?;
    for ((id, partition), place) in (1..).zip(new).zip(places) {
        // The crate writes type GUIDs of its own list only by name; any GUID will do.
        let kind = Type { guid: partition.kind, os: OperatingSystem::None };
        table
            .add_partition_at(
                &partition.name,
                id,
                place.start / sector,
                place.size / sector,
                kind,
                0,
            )
            .map_err(|error| failed(format!("partition {id}: {error}")))?;
    }
    table.write().map_err(|error| failed(error.to_string()))?;
    Ok(())
}

fn write_mbr(
    machine: &Machine,
    disk: &Disk,
    file: &File,
    new: &[NewPartition<u8>],
    places: &[Place],
) -> Result<()> {
    let sector = u64::from(disk.sector_size);
    let mut record = [0; 512];
    // By this a partition's PARTUUID is made, so it has to differ from that of any other disk.
    let random = machine.dev.join("urandom");
    File::open(&random)
        .and_then(|mut source| source.read_exact(&mut record[MBR_SIGNATURE..][..4]))
        .map_err(Error::io("reading", &random))?;
    for (index, (partition, place)) in new.iter().zip(places).enumerate() {
        let entry = &mut record[MBR_ENTRIES + index * MBR_ENTRY..][..MBR_ENTRY];
        entry[0] = if partition.active { 0x80 } else { 0 };
        entry[1..4].copy_from_slice(&MBR_NO_CHS);
        entry[4] = partition.kind;
        entry[5..8].copy_from_slice(&MBR_NO_CHS);
        // They fit: the places end below 2^32 sectors.
        let count = |bytes: u64| u32::try_from(bytes / sector).unwrap_or(u32::MAX).to_le_bytes();
        entry[8..12].copy_from_slice(&count(place.start));
        entry[12..].copy_from_slice(&count(place.size));
    }
    record[510..].copy_from_slice(&MBR_END);
    let written: io::Result<()> = file.write_all_at(&record, 0);
    written.map_err(Error::io("writing the partition table of", &disk.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn placed(sizes: &[Option<u64>], end: u64) -> Result<Vec<(u64, u64)>> {
        let places = places(&Disk::default(), sizes.iter().copied(), end)?;
        Ok(places.iter().map(|place| (place.start / MIB, place.size / MIB)).collect())
    }

    #[test]
    fn partitions_lie_behind_each_other_on_whole_mebibytes() {
        let sizes = [Some(1), Some(MIB), Some(3 * MIB + 1), None];
        let end = 20 * MIB - 17_000;
        assert_eq!(placed(&sizes, end).unwrap(), [(1, 1), (2, 1), (3, 4), (7, 12)]);
    }

    #[test]
    fn what_does_not_fit_is_told_with_both_sizes() {
        let error = placed(&[Some(9 * MIB), None], 10 * MIB).unwrap_err().to_string();
        assert!(error.contains("need 11.0 MiB, the disk has room for 10.0 MiB"), "{error}");
        assert!(placed(&[Some(9 * MIB)], 10 * MIB).is_ok());
        assert!(placed(&[Some(u64::MAX)], 10 * MIB).is_err());
        assert!(placed(&[None], 0).is_err());
    }

    fn whole<T>(kind: T) -> NewPartition<T> {
        NewPartition { name: String::new(), size: None, kind, active: false }
    }

    #[test]
    fn sectors_that_no_gpt_has_are_refused_before_anything_is_written() {
        let disk = Disk { size: 64 * MIB, sector_size: 2048, ..Disk::default() };
        let gpt = NewTable::Gpt(vec![whole(Uuid::nil())]);
        let error = check_table(&disk, &gpt).unwrap_err();
        assert!(error.to_string().contains("no GPT has sectors of 2048 bytes"), "{error}");
        check_table(&disk, &NewTable::Mbr(vec![whole(0x83)])).unwrap();
    }
}
