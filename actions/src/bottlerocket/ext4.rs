//! An empty ext4 filesystem for a private partition, made without the programs that make one.
//!
//! As twoliter's `rpm2img` has it made (`mkfs.ext4 -b 4096 -i 4096 -I 256`, no label), less what
//! GRUB 2.06 or an older kernel may not read: no `metadata_csum_seed`, no `orphan_file`, and none of
//! the checksums those came with. A private partition has 41 or 89 MiB and a block group of 4 KiB
//! blocks 128 MiB, so there is exactly one group:
//!
//! ```text
//! superblock | descriptor | block bitmap | inode bitmap | inodes | / | lost+found | journal | free
//! ```
//!
//! Source: Linux `Documentation/filesystems/ext4` and `fs/ext4/ext4.h`; the journal's own header is
//! big-endian, all else little-endian.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

const BLOCK: usize = 4096;
const INODE_SIZE: usize = 256;
const BYTES_PER_INODE: usize = 4096;

/// Blocks of a group: as many as one block of bitmap has bits.
const GROUP: usize = BLOCK * 8;

/// The least that ext4 takes for a journal (`JBD2_MIN_JOURNAL_BLOCKS`), which is what the image has.
const JOURNAL: usize = 1024;

/// Bytes of the smallest partition that is formatted: journal and inodes leave most of it free.
pub(super) const MIN_SIZE: u64 = 16 << 20;

/// Bytes of the largest partition that is formatted: one group.
pub(super) const MAX_SIZE: u64 = (GROUP * BLOCK) as u64;

const DESCRIPTOR: usize = 1;
const BLOCK_BITMAP: usize = 2;
const INODE_BITMAP: usize = 3;
const INODE_TABLE: usize = 4;

/// Numbers of inodes that are always the same.
const ROOT: u32 = 2;
const JOURNAL_INODE: u32 = 8;
const LOST_AND_FOUND: u32 = 11;

const DIRECTORY: u16 = 0o040_000;
const REGULAR: u16 = 0o100_000;

/// `EXT4_EXTENTS_FL`: where the blocks are is told by extents.
const EXTENTS: u32 = 0x8_0000;

/// `has_journal`, `ext_attr`, `dir_index`.
const COMPATIBLE: u32 = 0x4 | 0x8 | 0x20;
/// `filetype`, `extent`.
const INCOMPATIBLE: u32 = 0x2 | 0x40;
/// `sparse_super`, `large_file`, `huge_file`, `dir_nlink`, `extra_isize`.
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40;

/// Where everything is in a filesystem of so many bytes.
struct Layout {
    blocks: usize,
    inodes: usize,
    root: usize,
    lost_and_found: usize,
    journal: usize,
    /// The first block that nothing has.
    free: usize,
}

impl Layout {
    fn of(size: u64) -> Option<Self> {
        if !(MIN_SIZE..=MAX_SIZE).contains(&size) {
            return None;
        }
        let blocks = usize::try_from(size).ok()? / BLOCK;
        let per_block = BLOCK / INODE_SIZE;
        let inodes = (blocks * BLOCK / BYTES_PER_INODE).next_multiple_of(per_block);
        let root = INODE_TABLE + inodes / per_block;
        let journal = root + 2;
        let free = journal + JOURNAL;
        Some(Self { blocks, inodes, root, lost_and_found: root + 1, journal, free })
    }
}

/// The first bytes of an empty filesystem that fills a partition of `size` bytes; the bytes behind
/// them do not count. None for a size that one group does not fit.
pub(super) fn empty(size: u64, uuid: Uuid, now: SystemTime) -> Option<Vec<u8>> {
    let layout = Layout::of(size)?;
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // The fields for more than 32 bits are left zero: they are good until 2106.
    let now = u32::try_from(seconds).unwrap_or(u32::MAX);
    let mut disk = Bytes(vec![0; layout.free * BLOCK]);
    superblock(&mut disk, &layout, uuid, now);
    descriptor(&mut disk, &layout);
    bitmap(&mut disk, BLOCK_BITMAP, layout.free, layout.blocks);
    bitmap(&mut disk, INODE_BITMAP, LOST_AND_FOUND as usize, layout.inodes);
    inode(&mut disk, ROOT, DIRECTORY | 0o755, 3, (layout.root, 1), now);
    inode(&mut disk, LOST_AND_FOUND, DIRECTORY | 0o700, 2, (layout.lost_and_found, 1), now);
    inode(&mut disk, JOURNAL_INODE, REGULAR | 0o600, 1, (layout.journal, JOURNAL), now);
    let entries = [(ROOT, "."), (ROOT, ".."), (LOST_AND_FOUND, "lost+found")];
    directory(&mut disk, layout.root, &entries);
    directory(&mut disk, layout.lost_and_found, &[(LOST_AND_FOUND, "."), (ROOT, "..")]);
    journal(&mut disk, layout.journal, uuid);
    Some(disk.0)
}

/// `struct ext4_super_block`.
fn superblock(disk: &mut Bytes, layout: &Layout, uuid: Uuid, now: u32) {
    let at = 1024;
    let Layout { blocks, inodes, free, .. } = *layout;
    let counts = [inodes, blocks, blocks / 20, blocks - free, inodes - LOST_AND_FOUND as usize];
    for (index, count) in counts.into_iter().enumerate() {
        disk.u32(at + 4 * index, count as u32);
    }
    let block_size = BLOCK.trailing_zeros() - 10;
    disk.u32(at + 24, block_size);
    disk.u32(at + 28, block_size);
    for (offset, per_group) in [(32, GROUP), (36, GROUP), (40, inodes)] {
        disk.u32(at + offset, per_group as u32);
    }
    disk.u32(at + 48, now);
    // Never checked for the number of mounts alone; magic, clean, go on after errors.
    for (offset, value) in [(54, u16::MAX), (56, 0xef53), (58, 1), (60, 1)] {
        disk.u16(at + offset, value);
    }
    disk.u32(at + 64, now);
    // Revision with sizes of inodes and features.
    disk.u32(at + 76, 1);
    disk.u32(at + 84, LOST_AND_FOUND);
    disk.u16(at + 88, INODE_SIZE as u16);
    disk.u32(at + 92, COMPATIBLE);
    disk.u32(at + 96, INCOMPATIBLE);
    disk.u32(at + 100, READ_ONLY_COMPATIBLE);
    disk.put(at + 104, uuid.as_bytes());
    disk.u32(at + 224, JOURNAL_INODE);
    // Directories are hashed by half MD4 with this seed, characters as signed.
    disk.put(at + 236, uuid.as_bytes());
    disk.0[at + 252] = 1;
    disk.u32(at + 352, 1);
    // By default with extended attributes and access lists.
    disk.u32(at + 256, 0xc);
    disk.u32(at + 264, now);
    // A copy of where the journal is, for a check that finds its inode damaged.
    disk.0[at + 253] = 1;
    let map = extent((layout.journal, JOURNAL));
    disk.put(at + 268, &map);
    disk.u32(at + 268 + 64, (JOURNAL * BLOCK) as u32);
    for offset in [348, 350] {
        disk.u16(at + offset, EXTRA_SIZE);
    }
}

/// What the fields of an inode take beyond the first 128 bytes.
const EXTRA_SIZE: u16 = 32;

/// `struct ext4_group_desc`.
fn descriptor(disk: &mut Bytes, layout: &Layout) {
    let at = DESCRIPTOR * BLOCK;
    for (index, block) in [BLOCK_BITMAP, INODE_BITMAP, INODE_TABLE].into_iter().enumerate() {
        disk.u32(at + 4 * index, block as u32);
    }
    let directories = 2;
    let free_inodes = layout.inodes - LOST_AND_FOUND as usize;
    for (index, count) in
        [layout.blocks - layout.free, free_inodes, directories].into_iter().enumerate()
    {
        disk.u16(at + 12 + 2 * index, count as u16);
    }
}

/// A bit for each that is used, and for each that there is not.
fn bitmap(disk: &mut Bytes, block: usize, used: usize, all: usize) {
    for bit in (0..used).chain(all..GROUP) {
        disk.0[block * BLOCK + bit / 8] |= 1 << (bit % 8);
    }
}

/// `struct ext4_inode` of a file in one run of blocks.
fn inode(disk: &mut Bytes, number: u32, mode: u16, links: u16, blocks: (usize, usize), now: u32) {
    let at = INODE_TABLE * BLOCK + (number as usize - 1) * INODE_SIZE;
    let (_, length) = blocks;
    disk.u16(at, mode);
    disk.u32(at + 4, (length * BLOCK) as u32);
    for time in [8, 12, 16, 144] {
        disk.u32(at + time, now);
    }
    disk.u16(at + 26, links);
    disk.u32(at + 28, (length * BLOCK / 512) as u32);
    disk.u32(at + 32, EXTENTS);
    disk.put(at + 40, &extent(blocks));
    disk.u16(at + 128, EXTRA_SIZE);
}

/// The root of an extent tree with one leaf: first block and number of blocks.
fn extent((start, length): (usize, usize)) -> Vec<u8> {
    let mut map = Bytes(vec![0; 60]);
    for (index, value) in [0xf30a, 1, 4].into_iter().enumerate() {
        map.u16(2 * index, value);
    }
    map.u16(16, length as u16);
    map.u32(20, start as u32);
    map.0
}

/// `struct ext4_dir_entry_2`, the last of which takes the rest of the block.
fn directory(disk: &mut Bytes, block: usize, entries: &[(u32, &str)]) {
    const HEAD: usize = 8;
    const IS_DIRECTORY: u8 = 2;
    let mut at = block * BLOCK;
    let end = at + BLOCK;
    for (index, (inode, name)) in entries.iter().enumerate() {
        let is_last = index + 1 == entries.len();
        let length = if is_last { end - at } else { (HEAD + name.len()).next_multiple_of(4) };
        disk.u32(at, *inode);
        disk.u16(at + 4, length as u16);
        disk.put(at + 6, &[name.len() as u8, IS_DIRECTORY]);
        disk.put(at + HEAD, name.as_bytes());
        at += length;
    }
}

/// `journal_superblock_t` of version 2: nothing to replay.
fn journal(disk: &mut Bytes, block: usize, uuid: Uuid) {
    let at = block * BLOCK;
    let [magic, superblock, first, sequence, users] = [0xc03b_3998, 4, 1, 1, 1];
    for (offset, value) in [
        (0, magic),
        (4, superblock),
        (12, BLOCK as u32),
        (16, JOURNAL as u32),
        (20, first),
        (24, sequence),
        (64, users),
    ] {
        disk.put(at + offset, &value.to_be_bytes());
    }
    disk.put(at + 48, uuid.as_bytes());
}

/// Bytes that numbers are put into, little-endian.
struct Bytes(Vec<u8>);

impl Bytes {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn made(size: u64) -> tempfile::NamedTempFile {
        let bytes = empty(size, Uuid::from_u128(7), SystemTime::now()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file.as_file().set_len(size).unwrap();
        file
    }

    /// What a program of e2fsprogs says of it; none if there is no such program here.
    fn said(program: &str, arguments: &[&str], size: u64) -> Option<(bool, String)> {
        let file = made(size);
        let output = Command::new(program).args(arguments).arg(file.path()).output();
        let Ok(output) = output else {
            eprintln!("skipped: needs {program}");
            return None;
        };
        let text = [output.stdout, output.stderr].concat();
        Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    #[test]
    fn a_check_finds_nothing_wrong_with_it() {
        for size in [MIN_SIZE, 41 * MIB, 89 * MIB, 89 * MIB + 512, MAX_SIZE] {
            let Some((clean, said)) = said("e2fsck", &["-f", "-n"], size) else { return };
            assert!(clean && !said.contains("Fix?"), "{size}: {said}");
        }
    }

    #[test]
    fn it_has_what_the_image_has_and_nothing_that_grub_cannot_read() {
        let Some((_, said)) = said("dumpe2fs", &["-h"], 41 * MIB) else { return };
        let value = |key: &str| {
            let line = said.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.trim_start_matches(key).trim().to_owned()
        };
        assert_eq!(value("Block size:"), "4096");
        assert_eq!(value("Inode size:"), "256");
        assert_eq!(value("Inode count:"), "10496");
        assert_eq!(value("Filesystem volume name:"), "<none>");
        assert_eq!(value("Total journal blocks:"), "1024");
        assert_eq!(value("Filesystem state:"), "clean");
        let features = value("Filesystem features:");
        for unread in ["metadata_csum_seed", "orphan_file", "metadata_csum", "64bit"] {
            assert!(!features.split(' ').any(|feature| feature == unread), "{features}");
        }
        for wanted in ["has_journal", "extent", "filetype"] {
            assert!(features.contains(wanted), "{features}");
        }
    }

    #[test]
    fn grub_reads_a_file_in_it() {
        let (file, content) = (made(41 * MIB), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(content.path(), "kernel {}\n").unwrap();
        let write = format!("write {} bootconfig.data", content.path().display());
        for (program, arguments) in [
            ("debugfs", &["-w", "-R", &write, file.path().to_str().unwrap()][..]),
            ("grub-fstest", &[file.path().to_str().unwrap(), "cat", "/bootconfig.data"]),
        ] {
            let Ok(output) = Command::new(program).args(arguments).output() else {
                eprintln!("skipped: needs {program}");
                return;
            };
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program}: {said}");
            if program == "grub-fstest" {
                assert_eq!(output.stdout, b"kernel {}\n", "{said}");
            }
        }
    }

    #[test]
    fn what_one_group_does_not_fit_is_not_made() {
        for size in [0, MIN_SIZE - 1, MAX_SIZE + 1] {
            assert!(empty(size, Uuid::nil(), UNIX_EPOCH).is_none());
        }
    }
}
