//! Clearing all by which a disk could be taken for what it was.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use super::list::{KERNEL_SECTOR, attribute};
use super::settle::reread;
use super::{Claim, Error, Result};
use crate::Machine;

/// How much is cleared at the start. The mark that lies furthest in is that of the second header of
/// LUKS2, at 4 MiB at most.
const START: u64 = 8 << 20;

/// How much is cleared at the end: the backup GPT, and the marks of RAID and of ZFS.
const END: u64 = 1 << 20;

const PIECE: usize = 1 << 20;

/// Clears both ends of a claimed disk, and of every partition that the kernel knows on it. The
/// kernel then knows none any more. What lies in between is not overwritten.
pub fn wipe(machine: &Machine, claim: &Claim) -> Result<()> {
    let (disk, file) = (claim.disk(), claim.file());
    let failed = || Error::io("wiping", &disk.path);
    // The partitions first: an interruption leaves a table by which they are found again.
    for (start, size) in known(machine, &disk.name) {
        clear_ends(file, start, size.min(disk.size.saturating_sub(start))).map_err(failed())?;
    }
    clear_ends(file, 0, disk.size).and_then(|()| file.sync_all()).map_err(failed())?;
    // Fails where the kernel has no support for partitions, and then knows none.
    let _ = reread(file);
    Ok(())
}

/// Clears both ends of a range of bytes.
pub(super) fn clear_ends(file: &File, start: u64, size: u64) -> io::Result<()> {
    let end = END.min(size);
    clear(file, start + size - end, end)?;
    clear(file, start, START.min(size))
}

fn clear(file: &File, mut at: u64, mut length: u64) -> io::Result<()> {
    let zeros = vec![0; PIECE];
    while length > 0 {
        let piece = length.min(PIECE as u64);
        file.write_all_at(&zeros[..piece as usize], at)?;
        at += piece;
        length -= piece;
    }
    Ok(())
}

/// Start and size, in bytes, of the partitions that the kernel knows, of whatever table.
fn known(machine: &Machine, disk: &str) -> Vec<(u64, u64)> {
    let directory = machine.sysfs.join("class/block").join(disk);
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let of = |entry: io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        attribute(&path, "partition")?;
        let bytes = |file| attribute(&path, file)?.parse::<u64>().ok()?.checked_mul(KERNEL_SECTOR);
        Some((bytes("start")?, bytes("size")?))
    };
    entries.filter_map(of).collect()
}
