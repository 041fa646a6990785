//! What a disk held before: told by the signatures in its first and last MiB, so that the log says
//! what was cleared.

/// A signature at a fixed place from the start.
struct Signature {
    at: usize,
    magic: &'static [u8],
    name: &'static str,
}

const fn at(at: usize, magic: &'static [u8], name: &'static str) -> Signature {
    Signature { at, magic, name }
}

/// md's superblock starts with this, little-endian (linux/raid/md_p.h).
const MD: &[u8] = &0xa92b_4efc_u32.to_le_bytes();

const BCACHE: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";

/// Places are those of the formats' own documents: UEFI 2.10, the kernel's headers, cryptsetup's
/// and LVM's on-disk formats.
const SIGNATURES: [Signature; 18] = [
    at(510, b"\x55\xaa", "MBR"),
    at(512, b"EFI PART", "GPT"),
    at(4096, b"EFI PART", "GPT"),
    at(0, b"XFSB", "XFS"),
    at(1024 + 56, b"\x53\xef", "ext2/3/4"),
    at((64 << 10) + 64, b"_BHRfS_M", "btrfs"),
    at(0, b"LUKS\xba\xbe", "LUKS"),
    at(4096 - 10, b"SWAPSPACE2", "swap"),
    at(0, b"LABELONE", "LVM2"),
    at(512, b"LABELONE", "LVM2"),
    at(1024, b"LABELONE", "LVM2"),
    at(1536, b"LABELONE", "LVM2"),
    at(0, MD, "md 1.1"),
    at(4096, MD, "md 1.2"),
    at(4096 + 24, BCACHE, "bcache"),
    at(1024, b"\x10\x20\xf5\xf2", "F2FS"),
    at(3, b"NTFS    ", "NTFS"),
    at(54, b"FAT16", "FAT"),
];

/// ZFS keeps two labels of 256 KiB at either end, each with a ring of uberblocks in its second half.
const ZFS_LABEL: usize = 256 << 10;
const ZFS_RING: usize = 128 << 10;
const ZFS_STEP: usize = 1 << 10;
const ZFS_UBERBLOCK: u64 = 0x00ba_b10c;

/// The names of all that is recognised in the first and the last bytes of a disk of `size` bytes.
pub(super) fn recognised(head: &[u8], tail: &[u8], size: u64) -> Vec<&'static str> {
    let has = |bytes: &[u8], at: usize, magic: &[u8]| {
        bytes.get(at..).is_some_and(|rest| rest.starts_with(magic))
    };
    let fixed = SIGNATURES.iter().filter(|s| has(head, s.at, s.magic)).map(|s| s.name);
    let mut names: Vec<&'static str> = fixed.collect();
    // From the end of the disk into `tail`.
    let from_end =
        |start: u64| usize::try_from((start + tail.len() as u64).checked_sub(size)?).ok();
    let has_in_tail =
        |start: u64, magic| from_end(start).is_some_and(|start| has(tail, start, magic));
    if [512, 4096].iter().any(|sector| has_in_tail(size.saturating_sub(*sector), b"EFI PART")) {
        names.push("backup GPT");
    }
    // 64 KiB before the last whole 64 KiB; and 8 KiB before the end, at whole 4 KiB (md(4)).
    if has_in_tail((size & !0xffff).saturating_sub(0x1_0000), MD) {
        names.push("md 0.90");
    }
    if has_in_tail((size & !0x1ff).saturating_sub(8 << 10) & !0xfff, MD) {
        names.push("md 1.0");
    }
    let end = size & !(ZFS_LABEL as u64 - 1);
    let labels = [
        head.get(..ZFS_LABEL),
        from_end(end.saturating_sub(ZFS_LABEL as u64)).and_then(|at| tail.get(at..at + ZFS_LABEL)),
    ];
    if labels.into_iter().flatten().any(is_zfs_label) {
        names.push("ZFS");
    }
    names.dedup();
    names
}

/// Whether any uberblock is there, in either byte order.
fn is_zfs_label(label: &[u8]) -> bool {
    label[ZFS_RING..].chunks(ZFS_STEP).any(|uberblock| {
        [ZFS_UBERBLOCK.to_le_bytes(), ZFS_UBERBLOCK.to_be_bytes()]
            .iter()
            .any(|magic| uberblock.starts_with(magic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const SIZE: u64 = 10 << 20;

    fn found(change: impl FnOnce(&mut [u8], &mut [u8])) -> Vec<&'static str> {
        let (mut head, mut tail) = (vec![0; MIB], vec![0; MIB]);
        change(&mut head, &mut tail);
        recognised(&head, &tail, SIZE)
    }

    #[test]
    fn every_signature_is_found_at_its_place_and_nowhere_else() {
        assert_eq!(found(|_, _| ()), [""; 0]);
        for signature in &SIGNATURES {
            let put = |at: usize| {
                found(|head, _| {
                    head[at..at + signature.magic.len()].copy_from_slice(signature.magic);
                })
            };
            assert_eq!(put(signature.at), [signature.name]);
            assert_eq!(put(signature.at + 7), [""; 0]);
        }
    }

    #[test]
    fn the_end_of_a_disk_has_signatures_too() {
        let put = |from_end: usize, magic: &'static [u8]| {
            found(|_, tail| tail[MIB - from_end..][..magic.len()].copy_from_slice(magic))
        };
        assert_eq!(put(512, b"EFI PART"), ["backup GPT"]);
        assert_eq!(put(64 << 10, MD), ["md 0.90"]);
        assert_eq!(put(8 << 10, MD), ["md 1.0"]);
        assert_eq!(put(ZFS_LABEL - ZFS_RING - 3 * ZFS_STEP, b"\x0c\xb1\xba\0\0\0\0\0"), ["ZFS"]);
        let zfs = found(|head, _| head[ZFS_RING..][..8].copy_from_slice(b"\0\0\0\0\0\xba\xb1\x0c"));
        assert_eq!(zfs, ["ZFS"]);
    }

    #[test]
    fn a_disk_smaller_than_its_signatures_is_no_trouble() {
        for size in [0, 512, 70_000] {
            let bytes = vec![0; size];
            assert_eq!(recognised(&bytes, &bytes, size as u64), [""; 0]);
        }
    }
}
