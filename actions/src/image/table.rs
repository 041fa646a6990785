//! The image's GPT, read from its first bytes (UEFI 2.10, section 5.3), and moved to the end of a
//! disk that is larger than the image.

use std::ops::Range;

use super::{Error, Result};

/// How much of an image is held back at its start: everything that makes it bootable or tells
/// where its partitions are. The first partition commonly starts right behind it.
pub(super) const HEAD: usize = 1 << 20;

const SIGNATURE: &[u8] = b"EFI PART";
const SECTOR_SIZES: [u32; 2] = [512, 4096];

/// Header sizes that make sense; the rest of the sector is reserved.
const HEADER_MIN: usize = 92;

/// Where the four entries of an MBR start, and how long each is.
const MBR_ENTRIES: usize = 446;
const MBR_ENTRY: usize = 16;
const MBR_PROTECTIVE: u8 = 0xee;

/// Type of an EFI system partition (UEFI 2.10, table 5.7), C12A7328-F81F-11D2-BA4B-00A0C93EC93B, as
/// it is on disk.
const ESP: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];

/// Type of an entry without a partition.
const UNUSED: [u8; 16] = [0; 16];

/// Of how many EFI system partitions the start is told. There is one, or two for A and B.
const ESPS_MAX: usize = 4;

mod entry {
    //! Offsets and lengths in an entry.
    pub(super) const TYPE_LENGTH: usize = 16;
    pub(super) const FIRST_LBA: usize = 32;
    pub(super) const LAST_LBA: usize = 40;
    pub(super) const LENGTH: usize = 128;
}

mod field {
    //! Offsets in a GPT header.
    pub(super) const HEADER_SIZE: usize = 12;
    pub(super) const HEADER_CRC: usize = 16;
    pub(super) const MY_LBA: usize = 24;
    pub(super) const ALTERNATE_LBA: usize = 32;
    pub(super) const LAST_USABLE: usize = 48;
    pub(super) const ENTRIES_LBA: usize = 72;
    pub(super) const ENTRY_COUNT: usize = 80;
    pub(super) const ENTRY_SIZE: usize = 84;
    pub(super) const ENTRIES_CRC: usize = 88;
}

/// Where the GPT of an image is. All counts are bytes, except the sector's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Sector size that the image was made for.
    pub(super) sector: u32,
    /// What the image has in all, as the GPT says.
    pub(super) image_size: u64,
    /// Where the entries are in the head.
    entries: Range<usize>,
    header_size: usize,
    /// Where its partitions are, in the order of their entries, which need not make sense.
    pub(super) partitions: Vec<Range<u64>>,
    /// Where its EFI system partitions are, in order.
    pub(super) esps: Vec<Range<u64>>,
}

impl Table {
    /// Finds the GPT in the first bytes of an image; none if it has none. A damaged one is an
    /// error: an image that cannot boot is better refused than installed.
    pub(super) fn parse(head: &[u8]) -> Result<Option<Self>> {
        let starts_at = |sector: u32| {
            head.get(sector as usize..).is_some_and(|header| header.starts_with(SIGNATURE))
        };
        let Some(sector) = SECTOR_SIZES.into_iter().find(|sector| starts_at(*sector)) else {
            return Ok(None);
        };
        let unit = sector as usize;
        let header = head.get(unit..2 * unit).ok_or_else(|| damaged("its header is cut short"))?;
        let header_size = number(header, field::HEADER_SIZE, 4) as usize;
        if !(HEADER_MIN..=unit).contains(&header_size) {
            return Err(damaged(&format!("a header of {header_size} bytes makes no sense")));
        }
        let expected = number(header, field::HEADER_CRC, 4);
        let found = header_crc(&header[..header_size]);
        if expected != u64::from(found) {
            return Err(damaged(&format!("expected header CRC {expected:08x}, found {found:08x}")));
        }
        let count = number(header, field::ENTRY_COUNT, 4);
        let length = count.saturating_mul(number(header, field::ENTRY_SIZE, 4));
        let start = number(header, field::ENTRIES_LBA, 8).saturating_mul(u64::from(sector));
        let end = start.saturating_add(length);
        if start < 2 * u64::from(sector) || end > head.len() as u64 {
            return Err(damaged(&format!(
                "its entries are at bytes {start} to {end}, outside the first {} of the image",
                head.len()
            )));
        }
        let entries = start as usize..end as usize;
        let expected = number(header, field::ENTRIES_CRC, 4);
        let found = crc32fast::hash(&head[entries.clone()]);
        if expected != u64::from(found) {
            return Err(damaged(&format!(
                "expected entries CRC {expected:08x}, found {found:08x}"
            )));
        }
        let alternate = number(header, field::ALTERNATE_LBA, 8);
        let image_size = alternate
            .checked_add(1)
            .and_then(|sectors| sectors.checked_mul(u64::from(sector)))
            .filter(|size| *size > end)
            .ok_or_else(|| damaged(&format!("its backup at sector {alternate} makes no sense")))?;
        let entry_size = number(header, field::ENTRY_SIZE, 4) as usize;
        let partitions = partitions(&head[entries.clone()], entry_size, u64::from(sector));
        let mut esps: Vec<_> = partitions.iter().filter(|(of, _)| *of == ESP).collect();
        esps.sort_by_key(|(_, range)| range.start);
        let esps = esps.into_iter().take(ESPS_MAX).map(|(_, range)| range.clone()).collect();
        let partitions = partitions.into_iter().map(|(_, range)| range).collect();
        let table = Self { sector, image_size, entries, header_size, partitions, esps };
        let usable_end = number(header, field::LAST_USABLE, 8).saturating_add(1);
        let backup_at = image_size.saturating_sub(table.backup_length());
        if backup_at < end || usable_end.saturating_mul(u64::from(sector)) > backup_at {
            return Err(damaged("its backup overlaps the room for partitions"));
        }
        Ok(Some(table))
    }

    /// Bytes of the backup at the end of image or disk: entries in whole sectors, and the header.
    pub(super) fn backup_length(&self) -> u64 {
        let sector = u64::from(self.sector);
        (self.entries.len() as u64).next_multiple_of(sector) + sector
    }

    /// Changes header and protective MBR in `head` for a disk of `disk_size` bytes, and makes the
    /// backup that goes to that disk's end.
    pub(super) fn relocate(&self, head: &mut [u8], disk_size: u64) -> Vec<u8> {
        let unit = self.sector as usize;
        let sectors = disk_size / u64::from(self.sector);
        let last = sectors - 1;
        let entries_at = sectors - self.backup_length() / u64::from(self.sector);

        let header = &mut head[unit..2 * unit];
        put(header, field::ALTERNATE_LBA, last);
        put(header, field::LAST_USABLE, entries_at - 1);
        self.seal(header);
        let mut mirrored = header.to_vec();
        put(&mut mirrored, field::MY_LBA, last);
        put(&mut mirrored, field::ALTERNATE_LBA, 1);
        put(&mut mirrored, field::ENTRIES_LBA, entries_at);
        self.seal(&mut mirrored);

        cover_in_mbr(&mut head[..512], last);
        let mut backup = head[self.entries.clone()].to_vec();
        backup.resize(self.backup_length() as usize - unit, 0);
        backup.extend(mirrored);
        backup
    }

    fn seal(&self, header: &mut [u8]) {
        let crc = header_crc(&header[..self.header_size]);
        header[field::HEADER_CRC..field::HEADER_CRC + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Types and places of the partitions among the entries of a table.
fn partitions(entries: &[u8], entry_size: usize, sector: u64) -> Vec<(&[u8], Range<u64>)> {
    let place = |entry: &[u8]| {
        let at = |field| number(entry, field, 8).checked_mul(sector);
        Some(at(entry::FIRST_LBA)?..at(entry::LAST_LBA)?.checked_add(sector)?)
    };
    entries
        .chunks_exact(entry_size.max(entry::LENGTH))
        .filter_map(|entry| Some((&entry[..entry::TYPE_LENGTH], place(entry)?)))
        .filter(|(of, range)| *of != UNUSED && !range.is_empty())
        .collect()
}

/// Makes the protective entry cover the whole disk, as far as its 32 bits reach.
fn cover_in_mbr(mbr: &mut [u8], last: u64) {
    for at in (0..4).map(|entry| MBR_ENTRIES + entry * MBR_ENTRY) {
        let entry = &mut mbr[at..at + MBR_ENTRY];
        // A hybrid MBR has a protective entry that covers a part on purpose, with others after it.
        let is_whole = entry[4] == MBR_PROTECTIVE && number(entry, 8, 4) == 1;
        if is_whole {
            let sectors = u32::try_from(last).unwrap_or(u32::MAX);
            entry[12..16].copy_from_slice(&sectors.to_le_bytes());
        }
    }
}

/// The CRC of a header, counted with its own field as zero.
fn header_crc(header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..field::HEADER_CRC]);
    hasher.update(&[0; 4]);
    hasher.update(&header[field::HEADER_CRC + 4..]);
    hasher.finalize()
}

/// A little-endian number of up to 8 bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn put(bytes: &mut [u8], at: usize, number: u64) {
    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

fn damaged(cause: &str) -> Error {
    Error::Table { cause: cause.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;
    use std::sync::LazyLock;

    use gpt::disk::LogicalBlockSize;
    use proptest::prelude::*;

    use super::*;

    /// An image with one partition at 1 MiB, as the `gpt` crate makes it.
    pub(crate) fn image(size: usize, sectors: LogicalBlockSize) -> Vec<u8> {
        let mut image = vec![0; size];
        let unit = u64::from(sectors);
        let last = u32::try_from(size as u64 / unit - 1).unwrap();
        let mut cursor = Cursor::new(&mut image[..]);
        gpt::mbr::ProtectiveMBR::with_lb_size(last).overwrite_lba0(&mut cursor).unwrap();
        let mut table = gpt::GptConfig::new()
            .writable(true)
            .logical_block_size(sectors)
            .create_from_device(cursor, None)
            .unwrap();
        let align = Some((1 << 20) / unit);
        table.add_partition("data", 1 << 20, gpt::partition_types::LINUX_FS, 0, align).unwrap();
        table.add_partition("EFI", 512 << 10, gpt::partition_types::EFI, 0, align).unwrap();
        table.write_inplace().unwrap();
        drop(table);
        image
    }

    #[test]
    fn a_table_tells_how_large_its_disk_is() {
        for (sectors, unit, backup) in
            [(LogicalBlockSize::Lb512, 512, 33 * 512), (LogicalBlockSize::Lb4096, 4096, 5 * 4096)]
        {
            let image = image(4 << 20, sectors);
            let table = Table::parse(&image[..HEAD]).unwrap().unwrap();
            assert_eq!((table.sector, table.image_size), (unit, 4 << 20));
            assert_eq!(table.backup_length(), backup);
            let esp = 2 << 20..(2 << 20) + (512 << 10);
            assert_eq!(table.esps, [esp]);
        }
        assert_eq!(Table::parse(&vec![0; HEAD]).unwrap(), None);
        assert_eq!(Table::parse(&[]).unwrap(), None);
    }

    #[test]
    fn on_a_larger_disk_both_tables_are_sound_and_the_same() {
        let mut disk = image(4 << 20, LogicalBlockSize::Lb512);
        let table = Table::parse(&disk[..HEAD]).unwrap().unwrap();
        let size = 10 << 20;
        let backup = table.relocate(&mut disk[..HEAD], size);
        disk.resize(size as usize - backup.len(), 0);
        disk.extend(backup);
        let opened = gpt::GptConfig::new()
            .only_valid_headers(true)
            .open_from_device(Cursor::new(disk.clone()))
            .unwrap();
        assert_eq!(opened.partitions().len(), 2);
        let (first, second) = (opened.primary_header().unwrap(), opened.backup_header().unwrap());
        assert_eq!(first.backup_lba, size / 512 - 1);
        assert_eq!((first.last_usable, second.last_usable), (size / 512 - 34, size / 512 - 34));
        assert_eq!(number(&disk, MBR_ENTRIES + 12, 4), size / 512 - 1);
    }

    #[test]
    fn a_flipped_bit_in_header_or_entries_is_found() {
        let image = image(4 << 20, LogicalBlockSize::Lb512);
        for at in [512 + 24, 512 + 40, 512 + 88, 1024, 1024 + 60, 1024 + 128 * 128 - 1] {
            let mut head = image[..HEAD].to_vec();
            head[at] ^= 1;
            assert!(Table::parse(&head).is_err(), "{at}");
        }
    }

    /// The first MiB of an image.
    static SOUND: LazyLock<Vec<u8>> =
        LazyLock::new(|| image(4 << 20, LogicalBlockSize::Lb512)[..HEAD].to_vec());

    proptest! {
        #[test]
        fn no_header_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), cut in 0..2000_usize) {
            let mut head = vec![0; 512];
            head.extend(SIGNATURE);
            head.extend(&bytes);
            // A right CRC, so that the rest is looked at.
            head.resize(1024 + 2048, 0);
            head[512 + 12..512 + 16].copy_from_slice(&92_u32.to_le_bytes());
            let crc = header_crc(&head[512..512 + 92]);
            head[512 + 16..512 + 20].copy_from_slice(&crc.to_le_bytes());
            let _ = Table::parse(&head);
            let _ = Table::parse(&head[..cut]);
        }

        /// Whatever a header with right checksums says: it is refused, or can be moved to a larger
        /// disk, where it is read again and says what that disk has.
        #[test]
        fn what_is_taken_can_be_moved(
            changes in prop::collection::vec((HEADER_MIN - 76..HEADER_MIN, any::<u8>()), 0..4),
            more in 0..1_u64 << 40,
        ) {
            let mut head = SOUND.clone();
            for (at, byte) in changes {
                head[512 + at] = byte;
            }
            let crc = header_crc(&head[512..512 + 92]);
            head[512 + field::HEADER_CRC..][..4].copy_from_slice(&crc.to_le_bytes());
            let Ok(Some(table)) = Table::parse(&head) else { return Ok(()) };
            prop_assert!(table.backup_length() < table.image_size);
            prop_assert!(table.esps.iter().all(|esp| esp.start < esp.end));
            let size = table.image_size.saturating_add(more) / 512 * 512;
            let backup = table.relocate(&mut head, size);
            prop_assert_eq!(backup.len() as u64, table.backup_length());
            let moved = Table::parse(&head).unwrap().unwrap();
            prop_assert_eq!(moved.image_size, size);
            prop_assert_eq!(&moved.esps, &table.esps);
            prop_assert!(backup.starts_with(&head[table.entries]));
        }
    }
}
