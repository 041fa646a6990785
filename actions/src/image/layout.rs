//! What an image needs of the disk that it goes to, told by its first bytes before the first write:
//! whether it fits, what of it is held back until it is proven, and what is cleared before.

use std::ops::Range;
use std::path::Path;

use super::table::{HEAD, Table};
use super::{Error, Result};

/// How much is cleared at the end of the disk: an old backup GPT, md and ZFS superblocks. Bytes.
const TAIL: u64 = 1 << 20;

/// How much is held back of an EFI system partition: its boot sector, and the FATs without which
/// none of its files is found. Bytes.
const ESP_HEAD: u64 = 1 << 20;

/// Where on a disk an image begins and ends. Ranges are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The image's GPT, if it has one.
    pub(super) table: Option<Table>,
    /// What is written last of all: the first MiB, the first MiB of every EFI system partition, the
    /// image's backup GPT. In order, none with a byte of another.
    pub(crate) held: Vec<Range<u64>>,
    /// What is cleared first of all: both ends of the disk, and the places of what is held back: an
    /// image that is written over an older version of itself would find its boot sectors there.
    /// In order, none with a byte of another.
    pub(crate) cleared: Vec<Range<u64>>,
}

impl Layout {
    /// Lays out an image on a disk of `size` bytes in sectors of `sector` bytes. `head` is the
    /// image's first MiB, or all of it.
    pub(crate) fn of(head: &[u8], disk: &Path, size: u64, sector: u32) -> Result<Self> {
        let head = &head[..head.len().min(HEAD)];
        let table = Table::parse(head)?;
        let first = 0..head.len().next_multiple_of(sector as usize) as u64;
        let mut held = vec![first];
        if let Some(table) = &table {
            if table.sector != sector {
                let (disk, image) = (disk.to_owned(), table.sector);
                return Err(Error::SectorSize { disk, image, found: sector });
            }
            if table.image_size > size {
                let (disk, needed) = (disk.to_owned(), table.image_size);
                return Err(Error::TooSmall { disk, size, needed, at_least: false });
            }
            let backup = table.image_size - table.backup_length();
            for esp in &table.esps {
                held.push(esp.start..esp.end.min(esp.start.saturating_add(ESP_HEAD)).min(backup));
            }
            held.push(backup..table.image_size);
        }
        let held = apart(held);
        let (first, last) = ends(size);
        let cleared = apart([first, last].into_iter().chain(held.iter().cloned()).collect());
        Ok(Self { table, held, cleared })
    }

    /// Where on a larger disk of `size` bytes its backup GPT moves to, if it moves. Bytes.
    pub(crate) fn backup_at(&self, size: u64) -> Option<u64> {
        let table = self.table.as_ref().filter(|table| table.image_size < size)?;
        Some(size - size % u64::from(table.sector) - table.backup_length())
    }

    /// How long the image is, if its GPT says so. Bytes.
    pub(crate) fn image_size(&self) -> Option<u64> {
        self.table.as_ref().map(|table| table.image_size)
    }
}

/// The first and the last MiB of a disk, where whatever it held is recognised by.
pub(super) fn ends(size: u64) -> (Range<u64>, Range<u64>) {
    let head = 0..(HEAD as u64).min(size);
    let tail = size.saturating_sub(TAIL).max(head.end)..size;
    (head, tail)
}

/// Ranges in order, none empty, and none with a byte of another.
pub(super) fn apart(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut end = 0;
    for range in &mut ranges {
        range.start = range.start.max(end);
        end = end.max(range.end);
    }
    ranges.retain(|range| !range.is_empty());
    ranges
}

#[cfg(test)]
mod tests {
    use gpt::disk::LogicalBlockSize;
    use proptest::prelude::*;

    use super::super::table::tests::image;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn layout(head: &[u8], size: u64, sector: u32) -> Result<Layout> {
        Layout::of(head, Path::new("/dev/test"), size, sector)
    }

    #[test]
    fn what_makes_it_bootable_is_held_back_and_both_ends_are_cleared() {
        let image = image(4 << 20, LogicalBlockSize::Lb512);
        let found = layout(&image, 10 * MIB, 512).unwrap();
        let backup = 4 * MIB - 33 * 512..4 * MIB;
        // Its EFI system partition has half a MiB.
        let esp = 2 * MIB..2 * MIB + MIB / 2;
        assert_eq!(found.held, [0..MIB, esp.clone(), backup.clone()]);
        assert_eq!(found.cleared, [0..MIB, esp, backup, 9 * MIB..10 * MIB]);
        assert_eq!(found.image_size(), Some(4 * MIB));
        assert_eq!(found.backup_at(10 * MIB), Some(10 * MIB - 33 * 512));
        assert_eq!(found.backup_at(4 * MIB), None);
    }

    #[test]
    fn a_disk_that_does_not_fit_is_refused_by_what_does_not() {
        let image = image(4 << 20, LogicalBlockSize::Lb512);
        let error = layout(&image, 4 * MIB - 512, 512).unwrap_err();
        assert!(matches!(error, Error::TooSmall { at_least: false, .. }), "{error}");
        let error = layout(&image, 10 * MIB, 4096).unwrap_err();
        assert!(matches!(error, Error::SectorSize { image: 512, found: 4096, .. }), "{error}");
    }

    #[test]
    fn an_image_without_a_table_holds_back_its_start_in_whole_sectors() {
        let found = layout(&[1; 700], MIB, 512).unwrap();
        let first = 0..1024;
        assert_eq!((found.held, found.table), (vec![first], None));
    }

    proptest! {
        #[test]
        fn ranges_that_are_set_apart_cover_the_same_bytes_once(
            ranges in prop::collection::vec((0..60_u64, 0..30_u64), 0..6),
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(start, length)| start..start + length).collect();
            let apart = apart(ranges.clone());
            prop_assert!(apart.windows(2).all(|pair| pair[0].end <= pair[1].start));
            for byte in 0..100 {
                let inside = |all: &[Range<u64>]| all.iter().any(|range| range.contains(&byte));
                prop_assert_eq!(inside(&apart), inside(&ranges));
            }
        }
    }
}
