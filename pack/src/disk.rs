//! A disk image as a sparse file: protective MBR, GPT with its backup at the end, partitions.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{OperatingSystem, Type};
use uuid::Uuid;

pub(crate) const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;

/// Granularity at which zeros become holes.
const CHUNK: usize = 64 << 10;

/// One partition of an image. They follow one another from 1 MiB on.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) name: String,
    pub(crate) kind: Uuid,
    pub(crate) guid: Uuid,
    pub(crate) attributes: u64,
    pub(crate) mib: u64,
    /// What is copied to its start; a partition without is all zeros.
    pub(crate) content: Option<PathBuf>,
}

/// Writes the image `path` with `partitions`, numbered from 1, and one MiB free at each end.
pub(crate) fn write(path: &Path, guid: Uuid, partitions: &[Partition]) -> Result<()> {
    let size = (1 + partitions.iter().map(|partition| partition.mib).sum::<u64>() + 1) * MIB;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .with_context(|| format!("creating {}", path.display()))?;
    file.set_len(size).with_context(|| format!("sizing {}", path.display()))?;
    write_tables(&mut file, size, guid, partitions)
        .with_context(|| format!("writing the partition table of {}", path.display()))?;

    let mut offset = MIB;
    for partition in partitions {
        let length = partition.mib * MIB;
        if let Some(content) = &partition.content {
            copy(content, &mut file, offset, length).with_context(|| {
                format!("copying {} to partition {:?}", content.display(), partition.name)
            })?;
        }
        offset += length;
    }
    file.sync_all().with_context(|| format!("flushing {}", path.display()))
}

fn write_tables(file: &mut File, size: u64, guid: Uuid, partitions: &[Partition]) -> Result<()> {
    let last_sector = u32::try_from(size / SECTOR - 1).context("the image exceeds 2 TiB")?;
    ProtectiveMBR::with_lb_size(last_sector).overwrite_lba0(file)?;

    let mut first = MIB / SECTOR;
    let mut entries = BTreeMap::new();
    for (number, partition) in (1..).zip(partitions) {
        let next = first + partition.mib * MIB / SECTOR;
        entries.insert(
            number,
            gpt::partition::Partition {
                part_type_guid: Type { guid: partition.kind, os: OperatingSystem::None },
                part_guid: partition.guid,
                first_lba: first,
                last_lba: next - 1,
                flags: partition.attributes,
                name: partition.name.clone(),
            },
        );
        first = next;
    }
    let mut disk = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(file, Some(guid))?;
    disk.update_partitions(entries)?;
    disk.write()?;
    Ok(())
}

fn copy(content: &Path, image: &mut File, offset: u64, length: u64) -> Result<()> {
    let mut content = File::open(content).context("opening it")?;
    let found = content.metadata().context("reading its size")?.len();
    ensure!(found <= length, "it has {found} bytes, the partition {length}");
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut at = offset;
    loop {
        chunk.clear();
        let read = (&mut content).take(CHUNK as u64).read_to_end(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        if chunk.iter().any(|&byte| byte != 0) {
            image.seek(SeekFrom::Start(at))?;
            image.write_all(&chunk)?;
        }
        at += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn partition(name: &str, mib: u64, content: Option<PathBuf>) -> Partition {
        let guid = Uuid::from_u128(u128::from(mib));
        Partition { name: name.into(), kind: guid, guid, attributes: 0, mib, content }
    }

    #[test]
    fn both_tables_are_valid_and_the_rest_is_where_it_belongs_or_a_hole() {
        let dir = tempfile::tempdir().unwrap();
        let content = dir.path().join("content");
        let mut bytes = vec![0; 3 * CHUNK];
        bytes[0] = 1;
        bytes.extend(*b"end");
        fs::write(&content, &bytes).unwrap();
        let path = dir.path().join("disk.img");
        let guid = Uuid::from_u128(7);
        let partitions = [partition("one", 3, None), partition("two", 5, Some(content))];
        write(&path, guid, &partitions).unwrap();

        let image = fs::read(&path).unwrap();
        assert_eq!(image.len() as u64, 10 * MIB);
        assert_eq!(image[510..512], [0x55, 0xaa]);
        assert_eq!(image[446 + 4], 0xee);
        assert_eq!(image[446 + 12..446 + 16], (10 * 2048u32 - 1).to_le_bytes());
        let start = 4 * MIB as usize;
        assert_eq!(image[start..start + bytes.len()], bytes);
        assert!(fs::metadata(&path).unwrap().blocks() * 512 < MIB);

        let disk = GptConfig::new().only_valid_headers(true).open(&path).unwrap();
        assert_eq!(*disk.guid(), guid);
        assert_eq!(disk.header().backup_lba, 10 * 2048 - 1);
        let found: Vec<_> = disk
            .partitions()
            .iter()
            .map(|(number, p)| (*number, p.name.as_str(), p.first_lba, p.last_lba))
            .collect();
        assert_eq!(found, [(1, "one", 2048, 8191), (2, "two", 8192, 18431)]);
    }

    #[test]
    fn content_larger_than_its_partition_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let content = dir.path().join("content");
        File::create(&content).unwrap().set_len(MIB + 1).unwrap();
        let partitions = [partition("small", 1, Some(content))];
        let error = write(&dir.path().join("disk.img"), Uuid::nil(), &partitions).unwrap_err();
        assert_eq!(error.root_cause().to_string(), "it has 1048577 bytes, the partition 1048576");
    }
}
