//! What of a disk may be left as it is, by the image's block map.
//!
//! Nobody reads what no filesystem has ever written to, save those who look for filesystems: a
//! partition that the image leaves blank would show its former owner's. What such things are
//! recognised by is at either end of a partition, so both ends are written.

use std::ops::Range;
use std::path::Path;

use super::super::held::gaps;
use super::super::layout::{Layout, apart};
use super::super::write::check_whole;
use super::super::zeros::GRAIN;
use super::super::{Error, Result};
use super::{BlockMap, MapError};

/// How much at either end of a partition is always written: superblocks and labels of filesystems,
/// LVM, LUKS and md at the start; of md 0.90 and 1.0, and two of the four labels of ZFS at the end
/// (its last 512 KiB). Bytes.
const EDGE: u64 = 1 << 20;

/// Less than this is written rather than gone round, as zeros in data are. Bytes.
const SHORTEST: u64 = GRAIN as u64;

/// Where the four entries of an MBR start, and how long each is.
const MBR_ENTRIES: usize = 446;
const MBR_ENTRY: usize = 16;
const MBR_SIGNATURE: &[u8] = b"\x55\xaa";

/// Types of partitions that hold partitions.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

impl BlockMap {
    /// What of a disk of `size` bytes may be left as it is: whole sectors, in order, nothing that
    /// is held back. `head` is the image's first MiB, or all of it, and `layout` is made from that.
    ///
    /// Refuses a disk that is too small for the image, and an image that is longer than the map.
    pub(crate) fn idle(
        &self,
        layout: &Layout,
        head: &[u8],
        (disk, size, sector): (&Path, u64, u32),
    ) -> Result<Vec<Range<u64>>> {
        check_whole(self.image_size)?;
        if self.image_size > size {
            let (disk, needed) = (disk.to_owned(), self.image_size);
            return Err(Error::TooSmall { disk, size, needed, at_least: false });
        }
        let found = layout.image_size().unwrap_or(head.len() as u64);
        if found > self.image_size {
            let expected = self.image_size;
            return Err(MapError::Length { expected, found, at_least: true }.at(&self.place));
        }
        let mut wanted = match &layout.table {
            Some(table) => table.partitions.iter().flat_map(edges).collect(),
            None => wanted_by_mbr(head, sector),
        };
        wanted.extend(edges(&(0..self.image_size)));
        wanted.extend(layout.held.iter().cloned());
        wanted.extend(self.mapped.iter().map(|mapped| mapped.range.clone()));
        let sector = u64::from(sector);
        let whole = |gap: Range<u64>| gap.start.next_multiple_of(sector)..gap.end / sector * sector;
        let idle = gaps(&apart(wanted), 0..self.image_size).into_iter().map(whole);
        Ok(idle.filter(|range| range.end.saturating_sub(range.start) >= SHORTEST).collect())
    }
}

fn edges(partition: &Range<u64>) -> [Range<u64>; 2] {
    let Range { start, end } = *partition;
    [start..end.min(start.saturating_add(EDGE)), start.max(end.saturating_sub(EDGE))..end]
}

/// What is wanted of an image with an MBR alone. The partitions in an extended one are told by a
/// chain through all of it, so all of it is.
fn wanted_by_mbr(head: &[u8], sector: u32) -> Vec<Range<u64>> {
    let Some(entries) = head.get(MBR_ENTRIES..MBR_ENTRIES + 4 * MBR_ENTRY) else {
        return Vec::new();
    };
    if !head[MBR_ENTRIES + 4 * MBR_ENTRY..].starts_with(MBR_SIGNATURE) {
        return Vec::new();
    }
    let mut wanted = Vec::new();
    for entry in entries.chunks_exact(MBR_ENTRY) {
        let number = |at: usize| {
            let bytes = entry[at..at + 4].iter().rev();
            bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)) * u64::from(sector)
        };
        let partition = number(8)..number(8) + number(12);
        if EXTENDED.contains(&entry[4]) {
            wanted.push(partition);
        } else {
            wanted.extend(edges(&partition));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use gpt::disk::LogicalBlockSize;
    use proptest::prelude::*;

    use super::super::super::table::tests::image;
    use super::super::Mapped;
    use super::*;

    const MIB: u64 = 1 << 20;
    const SIZE: u64 = 32 * MIB;

    fn map(image_size: u64, ranges: &[Range<u64>]) -> BlockMap {
        let mapped = ranges.iter().cloned().map(|range| Mapped { range, digest: None });
        BlockMap {
            place: "test.bmap".into(),
            image_size,
            block_size: 512,
            algorithm: None,
            mapped: mapped.collect(),
        }
    }

    fn idle_of(map: &BlockMap, head: &[u8], size: u64, sector: u32) -> Result<Vec<Range<u64>>> {
        let disk = Path::new("/dev/test");
        let layout = Layout::of(head, disk, size, sector)?;
        map.idle(&layout, head, (disk, size, sector))
    }

    /// A first MiB with an MBR of these types, first sectors and lengths.
    fn mbr(entries: &[(u8, u32, u32)]) -> Vec<u8> {
        let mut head = vec![0; MIB as usize];
        for (index, (of, first, length)) in entries.iter().enumerate() {
            let entry = &mut head[MBR_ENTRIES + index * MBR_ENTRY..][..MBR_ENTRY];
            entry[4] = *of;
            entry[8..12].copy_from_slice(&first.to_le_bytes());
            entry[12..].copy_from_slice(&length.to_le_bytes());
        }
        head[510..512].copy_from_slice(MBR_SIGNATURE);
        head
    }

    #[test]
    fn both_ends_of_every_partition_are_wanted() {
        let image = image(SIZE as usize, LogicalBlockSize::Lb512);
        let table = Layout::of(&image, Path::new("/"), SIZE, 512).unwrap().table.unwrap();
        assert!(!table.partitions.is_empty());
        let idle = idle_of(&map(SIZE, &[]), &image, SIZE, 512).unwrap();
        for partition in table.partitions {
            for at in [
                partition.start,
                (partition.start + EDGE - 1).min(partition.end - 1),
                partition.end.saturating_sub(EDGE).max(partition.start),
                partition.end - 1,
            ] {
                assert!(!idle.iter().any(|idle| idle.contains(&at)), "{at} of {partition:?}");
            }
        }
    }

    #[test]
    fn partitions_of_an_mbr_count_too_and_extended_ones_are_wanted_whole() {
        let sectors = |mib: u32| mib * 2048;
        let head = mbr(&[(0x83, sectors(2), sectors(8)), (0x0f, sectors(12), sectors(8))]);
        let idle = idle_of(&map(SIZE, &[]), &head, SIZE, 512).unwrap();
        let mib = |range: Range<u64>| range.start * MIB..range.end * MIB;
        assert_eq!(idle, [1..2, 3..9, 10..12, 20..31].map(mib));
        // Without its signature it is no MBR.
        let mut other = head.clone();
        other[511] = 0;
        assert_eq!(idle_of(&map(SIZE, &[]), &other, SIZE, 512).unwrap(), [mib(1..31)]);
        // The last sector there can be.
        let head = mbr(&[(0x83, u32::MAX, u32::MAX), (0x05, u32::MAX, u32::MAX)]);
        assert_eq!(idle_of(&map(SIZE, &[]), &head, SIZE, 512).unwrap(), [mib(1..31)]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let head = vec![7; MIB as usize];
        let error = idle_of(&map(SIZE, &[]), &head, SIZE - 512, 512).unwrap_err();
        assert!(matches!(error, Error::TooSmall { needed: SIZE, .. }), "{error}");
        let error = idle_of(&map(SIZE + 7, &[]), &head, 2 * SIZE, 512).unwrap_err();
        assert!(matches!(error, Error::NotWholeSectors { .. }), "{error}");
        let error = idle_of(&map(MIB - 512, &[]), &head, SIZE, 512).unwrap_err();
        let Error::Map { cause: MapError::Length { found, at_least: true, .. }, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(found, MIB);
    }

    proptest! {
        #[test]
        fn nothing_that_is_wanted_is_idle(
            steps in prop::collection::vec((0..9000_u64, 1..9000_u64), 0..20),
            start in 0..60_000_u32, length in 0..60_000_u32, large in any::<bool>(),
        ) {
            let sector = if large { 4096 } else { 512 };
            let (mut ranges, mut next) = (Vec::new(), 0);
            for (gap, length) in steps {
                let range = (next + gap) * 512..(next + gap + length) * 512;
                next += gap + length;
                ranges.push(range.start.min(SIZE)..range.end.min(SIZE));
            }
            ranges.retain(|range| !range.is_empty());
            let head = mbr(&[(0x83, start, length)]);
            let idle = idle_of(&map(SIZE, &ranges), &head, SIZE, sector).unwrap();
            let unit = u64::from(sector);
            let partition = u64::from(start) * unit..u64::from(start + length) * unit;
            let wanted = edges(&partition).into_iter().chain(ranges).chain([0..MIB, SIZE - MIB..SIZE]);
            let wanted: Vec<_> = wanted.filter(|range| !range.is_empty()).collect();
            for range in &idle {
                prop_assert!(range.start.is_multiple_of(unit) && range.end.is_multiple_of(unit));
                prop_assert!(range.end - range.start >= SHORTEST && range.end <= SIZE);
                let meets = |other: &&Range<u64>| other.start < range.end && range.start < other.end;
                prop_assert_eq!(wanted.iter().find(meets), None);
            }
        }
    }
}
