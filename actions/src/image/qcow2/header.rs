//! The header of a qcow2 image, and what of the format is not taken.

use super::file::Qcow2File;
use super::{MAGIC, wrong};
use crate::image::Result;

/// Bytes of a header of version 2, and of the longest known one of version 3.
const LENGTH_2: usize = 72;
const LENGTH_3: usize = 112;

/// The largest L1 table that QEMU takes, bytes.
const L1_MAX: u64 = 32 << 20;

/// Bits of `incompatible_features`. That the image was not closed well is about reference counts only,
/// which reading does not need.
const DIRTY: u64 = 1 << 0;
const COMPRESSION: u64 = 1 << 3;
const REFUSED: [(u64, &str); 3] = [
    (1 << 1, "it is marked as corrupt; repair it with `qemu-img check -r all`"),
    (
        1 << 2,
        "its bytes are in another file (external data file); convert it with `qemu-img convert`",
    ),
    (1 << 4, "it has subclusters (extended L2 entries); convert it with `qemu-img convert`"),
];

/// How clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Zlib,
    Zstd,
}

/// What leads to everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    /// Bytes of the disk.
    pub(super) size: u64,
    pub(super) l1_offset: u64,
    pub(super) l1_entries: u64,
    pub(super) compression: Compression,
}

impl Header {
    pub(super) fn read(file: &mut Qcow2File) -> Result<Self> {
        let mut bytes = [0; LENGTH_3];
        let here = file.length().min(LENGTH_3 as u64) as usize;
        if here < LENGTH_2 {
            return Err(wrong(format!("it has {here} bytes, less than a header")));
        }
        file.read(0, &mut bytes[..here], "the header")?;
        Self::parse(&bytes)
    }

    /// Bytes of a cluster.
    pub(super) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn parse(bytes: &[u8; LENGTH_3]) -> Result<Self> {
        let word = |at: usize| {
            bytes[at..at + 4].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
        };
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        if !bytes.starts_with(MAGIC) {
            return Err(wrong(
                "it is qcow2 only when it is unpacked, and that can be read from its front alone; serve \
                 it without a compression around it",
            ));
        }
        let version = word(4);
        if !(2..=3).contains(&version) {
            return Err(wrong(format!("expected version 2 or 3, found {version}")));
        }
        if long(8) != 0 {
            return Err(wrong(
                "it only has what differs from another image (backing file); flatten it with \
                 `qemu-img convert`",
            ));
        }
        if word(32) != 0 {
            return Err(wrong("it is encrypted; convert it with `qemu-img convert`"));
        }
        let features = if version > 2 { long(72) } else { 0 };
        if let Some((_, why)) = REFUSED.iter().find(|(bit, _)| features & bit != 0) {
            return Err(wrong(*why));
        }
        if features & !(DIRTY | COMPRESSION) != 0 {
            return Err(wrong(format!("it has features that are not known ({features:#x})")));
        }
        let compression = match bytes[104] {
            _ if features & COMPRESSION == 0 => Compression::Zlib,
            0 => Compression::Zlib,
            1 => Compression::Zstd,
            other => return Err(wrong(format!("its compression {other} is not known"))),
        };
        let (cluster_bits, size) = (word(20), long(24));
        if !(9..=21).contains(&cluster_bits) {
            return Err(wrong(format!("expected 9 to 21 cluster bits, found {cluster_bits}")));
        }
        let (l1_offset, l1_entries) = (long(40), u64::from(word(36)));
        let of_one = 1_u64 << (2 * cluster_bits - 3);
        let needed = size.div_ceil(of_one);
        if l1_entries < needed || l1_entries * 8 > L1_MAX {
            return Err(wrong(format!(
                "a disk of {size} bytes needs {needed} L1 entries, and there are {l1_entries}"
            )));
        }
        Ok(Self { version, cluster_bits, size, l1_offset, l1_entries, compression })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> [u8; LENGTH_3] {
        let mut bytes = [0; LENGTH_3];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[7] = 3;
        bytes[23] = 16;
        bytes[28] = 0x40;
        bytes[39] = 2;
        bytes[45] = 3;
        bytes[103] = 112;
        bytes
    }

    #[test]
    fn a_sound_header_is_read() {
        let expected = Header {
            version: 3,
            cluster_bits: 16,
            size: 0x4000_0000,
            l1_offset: 3 << 16,
            l1_entries: 2,
            compression: Compression::Zlib,
        };
        assert_eq!(Header::parse(&header()).unwrap(), expected);
    }

    #[test]
    fn what_is_not_taken_is_refused_by_name() {
        for (at, value, says) in [
            (0, b'q', "without a compression around it"),
            (7, 1, "expected version 2 or 3, found 1"),
            (15, 9, "backing file"),
            (35, 2, "encrypted"),
            (79, 2, "marked as corrupt"),
            (79, 4, "external data file"),
            (79, 16, "extended L2"),
            (79, 32, "not known (0x20)"),
            (23, 8, "expected 9 to 21 cluster bits, found 8"),
            (23, 22, "expected 9 to 21 cluster bits, found 22"),
            (39, 1, "needs 2 L1 entries, and there are 1"),
        ] {
            let mut bytes = header();
            bytes[at] = value;
            let error = Header::parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
        }
        let mut bytes = header();
        (bytes[79], bytes[104]) = (8, 7);
        let error = Header::parse(&bytes).unwrap_err().to_string();
        assert!(error.contains("compression 7 is not known"), "{error}");
    }
}
