//! The partitions of a disk, as its GPT says.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use gpt::disk::LogicalBlockSize;
use uuid::Uuid;

use super::{Disk, Error, Result};

/// How a GPT header begins (UEFI 2.10, 5.3.2).
const SIGNATURE: &[u8; 8] = b"EFI PART";

/// One partition of a GPT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Number in the table, from 1.
    pub number: u32,
    /// GPT name.
    pub name: String,
    /// Type GUID.
    pub type_guid: Uuid,
    /// GUID of this very partition.
    pub unique_guid: Uuid,
    /// First byte on the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// GPT attribute bits; 48 to 63 are the partition type's own.
    pub attributes: u64,
    /// Device node.
    pub path: PathBuf,
}

/// Node of a partition: a disk whose name ends in a digit gets a `p` in between.
pub fn partition_path(disk: &Path, number: u32) -> PathBuf {
    let mut path = disk.as_os_str().to_owned();
    if disk.as_os_str().as_encoded_bytes().last().is_some_and(u8::is_ascii_digit) {
        path.push("p");
    }
    path.push(number.to_string());
    path.into()
}

/// The disk and the number that the name of a partition's node, or of udev's link to one, tells:
/// `sda3`, `nvme0n1p3`, `wwn-0x5000-part3`.
pub fn split_partition_path(path: &Path) -> Option<(PathBuf, u32)> {
    let text = path.to_str()?;
    let whole = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = text[whole.len()..].parse().ok().filter(|number| *number > 0)?;
    let of_link = whole.strip_suffix("-part");
    let is_digit = |c: char| c.is_ascii_digit();
    let of_digit = || whole.strip_suffix('p').filter(|disk| disk.ends_with(is_digit));
    let of_letter = || whole.ends_with(|c: char| c.is_ascii_lowercase()).then_some(whole);
    let disk = of_link.or_else(of_digit).or_else(of_letter)?;
    Some((disk.into(), number))
}

/// Reads the GPT of a disk, from its backup if the primary table is damaged. By number.
pub fn partitions(disk: &Disk) -> Result<Vec<Partition>> {
    let file = File::open(&disk.path).map_err(Error::io("opening", &disk.path))?;
    read(&file, disk)
}

/// Whether there is anything of a GPT at either end of a disk, sound or not. One that cannot be read
/// may have one.
pub(super) fn has_table(file: &File, disk: &Disk) -> bool {
    let sector = u64::from(disk.sector_size);
    [Some(sector), disk.size.checked_sub(sector)].into_iter().flatten().any(|offset| {
        let mut signature = [0; SIGNATURE.len()];
        file.read_exact_at(&mut signature, offset).is_err() || signature == *SIGNATURE
    })
}

/// Reads the GPT through a file that is open already.
pub(super) fn read(file: &File, disk: &Disk) -> Result<Vec<Partition>> {
    let broken = |cause: String| Error::Table { path: disk.path.clone(), cause };
    let sectors = match disk.sector_size {
        512 => LogicalBlockSize::Lb512,
        4096 => LogicalBlockSize::Lb4096,
        other => return Err(broken(format!("no GPT has sectors of {other} bytes"))),
    };
    let table = gpt::GptConfig::new()
        .writable(false)
        .logical_block_size(sectors)
        .open_from_device(file)
        .map_err(|error| broken(error.to_string()))?;
    table
        .partitions()
        .iter()
        .filter(|(_, partition)| partition.is_used())
        .map(|(number, partition)| {
            let bytes = |count: std::io::Result<u64>| {
                count.map_err(|error| broken(format!("partition {number}: {error}")))
            };
            let guid = &partition.part_type_guid.guid;
            Ok(Partition {
                number: *number,
                name: partition.name.clone(),
                type_guid: guid.to_string().parse().map_err(|e| broken(format!("{guid}: {e}")))?,
                unique_guid: partition.part_guid,
                start: bytes(partition.bytes_start(sectors))?,
                size: bytes(partition.bytes_len(sectors))?,
                attributes: partition.flags,
                path: partition_path(&disk.path, *number),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_as_the_kernel_does() {
        let path = |disk: &str| partition_path(Path::new(disk), 3).display().to_string();
        assert_eq!(path("/dev/sda"), "/dev/sda3");
        assert_eq!(path("/dev/nvme0n1"), "/dev/nvme0n1p3");
    }

    #[test]
    fn a_partitions_name_tells_its_disk_and_number() {
        let split = |path: &str| {
            let (disk, number) = split_partition_path(Path::new(path))?;
            Some((disk.to_str()?.to_owned(), number))
        };
        for (path, disk, number) in [
            ("/dev/sda12", "/dev/sda", 12),
            ("/dev/nvme0n1p12", "/dev/nvme0n1", 12),
            ("/dev/mmcblk0p1", "/dev/mmcblk0", 1),
            ("/dev/disk/by-id/wwn-0x5000c500-part3", "/dev/disk/by-id/wwn-0x5000c500", 3),
        ] {
            assert_eq!(split(path), Some((disk.into(), number)), "{path}");
        }
        for path in ["/dev/sda", "/dev/sda0", "/dev/", "/dev/disk/by-label/A-1", ""] {
            assert_eq!(split(path), None, "{path}");
        }
    }

    #[test]
    fn a_table_is_read_with_names_types_and_places() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 << 20).unwrap();
        let mut table = gpt::GptConfig::new().writable(true).create(file.path()).unwrap();
        table.add_partition("ESP", 2 << 20, gpt::partition_types::EFI, 0, Some(2048)).unwrap();
        table.write().unwrap();
        let path = file.path().to_owned();
        let disk = Disk { path: path.clone(), sector_size: 512, ..Disk::default() };
        let found = partitions(&disk).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].number, found[0].name.as_str()), (1, "ESP"));
        assert_eq!((found[0].start, found[0].size), (1 << 20, 2 << 20));
        let esp: Uuid = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b".parse().unwrap();
        assert_eq!(found[0].type_guid, esp);
        assert_eq!(found[0].path, partition_path(&path, 1));
    }

    #[test]
    fn a_disk_without_a_table_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let disk = Disk { path: file.path().to_owned(), sector_size: 512, ..Disk::default() };
        let error = partitions(&disk).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("reading the GPT of {}", disk.path.display())),
            "{error}"
        );
        assert!(error.contains("install an image to it first"), "{error}");
    }
}
