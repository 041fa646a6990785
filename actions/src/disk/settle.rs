//! Making the kernel, and /dev, know the partitions that were just written.
//!
//! Works with udev, with devtmpfs alone, and with a static /dev.

use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::raw::{c_int, c_longlong, c_void};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::list::{KERNEL_SECTOR, attribute};
use super::{Claim, Disk, Error, Partition, Result, partitions};
use crate::Machine;

/// `BLKRRPART` fails while anybody, such as a probe by udev, has a partition open.
const REREAD_ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// How long nodes may take to appear by themselves before they are made.
const NODE_PATIENCE: Duration = Duration::from_secs(3);

/// Makes the kernel read a claimed disk's partition table and waits until every partition has its
/// node. A disk without a GPT is left to what the kernel makes of it.
pub fn settle(machine: &Machine, claim: &Claim) -> Result<Vec<Partition>> {
    let (disk, file) = (claim.disk(), claim.file());
    let found =
        if partitions::has_table(file, disk) { partitions::read(file, disk)? } else { Vec::new() };
    show(machine, claim, &found)?;
    Ok(found)
}

/// Makes the kernel read a claimed disk's partition table, have these partitions whatever it reads,
/// and waits until each has its node.
pub(super) fn show(machine: &Machine, claim: &Claim, found: &[Partition]) -> Result<()> {
    let (disk, file) = (claim.disk(), claim.file());
    // A kernel that rereads the table may still not understand it, having no GPT support; one that
    // does not reread it may know the partitions of the old one.
    let _ = reread(file);
    for partition in found {
        if !is_known(machine, disk, partition) {
            announce(file, disk, partition)?;
        }
    }
    let patience = Instant::now() + NODE_PATIENCE;
    for partition in found {
        while !is_there(machine, disk, partition) {
            if Instant::now() >= patience {
                make_node(machine, disk, partition)?;
                break;
            }
            sleep(PAUSE);
        }
    }
    Ok(())
}

/// Has the kernel read the partition table again.
pub(super) fn reread(file: &File) -> nix::Result<()> {
    let mut attempt = 1;
    loop {
        // SAFETY: BLKRRPART takes no argument, and the file is open for the length of the call.
        #[allow(unsafe_code)]
        let result = unsafe { blkrrpart(file.as_raw_fd()) };
        match result {
            Ok(_) => return Ok(()),
            Err(Errno::EBUSY) if attempt < REREAD_ATTEMPTS => sleep(PAUSE),
            Err(error) => return Err(error),
        }
        attempt += 1;
    }
}

/// Tells the kernel of one partition, replacing what it thought it knew.
fn announce(file: &File, disk: &Disk, partition: &Partition) -> Result<()> {
    let number = c_int::try_from(partition.number).unwrap_or(c_int::MAX);
    let (start, length) = (partition.start.cast_signed(), partition.size.cast_signed());
    match blkpg(file, BLKPG_DEL_PARTITION, number, 0, 0) {
        Ok(()) | Err(Errno::ENXIO) => {}
        Err(error) => return Err(refused(disk, partition, error)),
    }
    blkpg(file, BLKPG_ADD_PARTITION, number, start, length)
        .map_err(|error| refused(disk, partition, error))
}

fn refused(disk: &Disk, partition: &Partition, error: Errno) -> Error {
    let cause = format!("the kernel does not take partition {}: {error}", partition.number);
    Error::Settle { path: disk.path.clone(), cause }
}

fn is_there(machine: &Machine, disk: &Disk, partition: &Partition) -> bool {
    in_sysfs(machine, disk, partition).is_some() && partition.path.exists()
}

/// Whether the kernel has the partition where the table says.
fn is_known(machine: &Machine, disk: &Disk, partition: &Partition) -> bool {
    let directory = directory(machine, disk, partition);
    let has = |file: &str, bytes: u64| {
        let found = attribute(&directory, file).and_then(|text| text.parse::<u64>().ok());
        found == Some(bytes / KERNEL_SECTOR)
    };
    has("start", partition.start) && has("size", partition.size)
}

/// The device number of a partition, `major:minor`, once the kernel knows it.
fn in_sysfs(machine: &Machine, disk: &Disk, partition: &Partition) -> Option<String> {
    attribute(&directory(machine, disk, partition), "dev")
}

fn directory(machine: &Machine, disk: &Disk, partition: &Partition) -> PathBuf {
    let name = super::partition_path(Path::new(&disk.name), partition.number);
    machine.sysfs.join("class/block").join(&disk.name).join(name)
}

fn make_node(machine: &Machine, disk: &Disk, partition: &Partition) -> Result<()> {
    let path = &partition.path;
    let missing = || Error::Settle {
        path: disk.path.clone(),
        cause: format!("the kernel does not show partition {}", partition.number),
    };
    let number = in_sysfs(machine, disk, partition).ok_or_else(missing)?;
    let (major, minor) = number.split_once(':').ok_or_else(missing)?;
    let device =
        makedev(major.parse().map_err(|_| missing())?, minor.parse().map_err(|_| missing())?);
    // A node of that name that is left from another table points elsewhere.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("replacing", path)(error));
        }
        _ => {}
    }
    mknod(path, SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, device)
        .map_err(|error| Error::io("making", path)(error.into()))
}

const BLKPG_ADD_PARTITION: c_int = 1;
const BLKPG_DEL_PARTITION: c_int = 2;

/// `struct blkpg_partition` of linux/blkpg.h.
#[repr(C)]
#[derive(Debug)]
struct BlkpgPartition {
    start: c_longlong,
    length: c_longlong,
    number: c_int,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// `struct blkpg_ioctl_arg` of linux/blkpg.h.
#[repr(C)]
#[derive(Debug)]
struct BlkpgArgument {
    operation: c_int,
    flags: c_int,
    length: c_int,
    data: *mut c_void,
}

nix::ioctl_none!(blkrrpart, 0x12, 95);
nix::ioctl_write_ptr_bad!(blkpg_raw, 0x1269, BlkpgArgument);

fn blkpg(
    file: &File,
    operation: c_int,
    number: c_int,
    start: c_longlong,
    length: c_longlong,
) -> nix::Result<()> {
    let mut partition =
        BlkpgPartition { start, length, number, device_name: [0; 64], volume_name: [0; 64] };
    let argument = BlkpgArgument {
        operation,
        flags: 0,
        length: c_int::try_from(mem::size_of::<BlkpgPartition>()).unwrap_or(0),
        data: (&raw mut partition).cast(),
    };
    // SAFETY: both structures have the kernel's layout and outlive the call, which only reads them.
    #[allow(unsafe_code)]
    unsafe { blkpg_raw(file.as_raw_fd(), &raw const argument) }.map(|_| ())
}
