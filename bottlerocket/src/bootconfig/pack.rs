//! The packed form: what the kernel finds at the end of an initrd.
//!
//! ```text
//! initrd | text | NUL, then NULs to a multiple of 4 | size: u32 LE | checksum: u32 LE | "#BOOTCONFIG\n"
//!        '---------- size counts text and NULs ----------'
//! ```
//!
//! The checksum is the sum of the counted bytes, modulo 2^32. It tells any changed bit of a file,
//! but not two bytes that changed places. The whole file is a multiple of 4 long. A loader may add
//! up to three bytes of alignment after the magic; on Bottlerocket there is no initrd proper.
//! Source: Linux `Documentation/admin-guide/bootconfig.rst`, `tools/bootconfig/main.c` and
//! `init/main.c` (`get_boot_config_from_initrd`).

use thiserror::Error;

use super::limits::MAX_SIZE;

const MAGIC: &[u8; 12] = b"#BOOTCONFIG\n";
const ALIGNMENT: usize = 4;
const TRAILER: usize = 4 + 4 + MAGIC.len();

/// The most bytes at the end of an initrd that can belong to its boot configuration: whoever has
/// a long initrd needs to read no more.
pub const TAIL: usize = MAX_SIZE + TRAILER + ALIGNMENT - 1;

/// Why a text cannot be packed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PackError {
    /// The kernel ends the text at its first NUL, so the rest would be lost.
    #[error("packing boot configuration: NUL byte at offset {offset}; remove it")]
    Nul {
        /// Offset of the first NUL in the text.
        offset: usize,
    },
    /// The kernel would ignore the file.
    #[error(
        "packing boot configuration: {size} bytes with padding, but the kernel takes at most \
         {MAX_SIZE}; shorten it"
    )]
    TooLong {
        /// Size in bytes, padding included.
        size: usize,
    },
}

/// Why bytes are not a boot configuration that a kernel would accept.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnpackError {
    /// The magic is not at the end.
    #[error("reading boot configuration: no #BOOTCONFIG magic at the end of {length} bytes")]
    MagicMissing {
        /// Length of the input in bytes.
        length: usize,
    },
    /// The size field points before the start of the data.
    #[error("reading boot configuration: size field says {size}, but {available} bytes precede it")]
    SizeBeyondStart {
        /// The size field.
        size: usize,
        /// Bytes before the size field.
        available: usize,
    },
    /// The kernel refuses such a size.
    #[error(
        "reading boot configuration: size field says {size}, the kernel takes at most {MAX_SIZE}"
    )]
    TooLong {
        /// The size field.
        size: usize,
    },
    /// The data was changed or cut.
    #[error("reading boot configuration: checksum is {found}, expected {expected}")]
    Checksum {
        /// Sum stored in the file.
        expected: u32,
        /// Sum of the data found.
        found: u32,
    },
    /// Something follows the NUL that ends the text: the size field is wrong, or the text was not
    /// packed by a tool that ends it. Newer kernels refuse that too.
    #[error(
        "reading boot configuration: the NUL at offset {offset} of {size} bytes is followed by \
         data, expected padding"
    )]
    DataAfterEnd {
        /// Offset of the first NUL from the start of the text.
        offset: usize,
        /// The size field.
        size: usize,
    },
    /// The text is not UTF-8 (the kernel takes ASCII only).
    #[error("reading boot configuration: byte {offset} is not text")]
    NotText {
        /// Offset of the first bad byte in the text.
        offset: usize,
    },
}

/// Packs `text` into the bytes of `bootconfig.data`, as the kernel's tool does with an empty
/// initrd. The text's grammar is not looked at.
pub fn pack(text: &str) -> Result<Vec<u8>, PackError> {
    footer(text, 0)
}

/// Packs `text` into the bytes that the kernel's tool appends to an initrd of `initrd` bytes, which
/// has no boot configuration yet. The text's grammar is not looked at.
pub fn footer(text: &str, initrd: u64) -> Result<Vec<u8>, PackError> {
    if let Some(offset) = text.bytes().position(|byte| byte == 0) {
        return Err(PackError::Nul { offset });
    }
    // The cast is lossless: it is less than ALIGNMENT. The trailer is a multiple of it.
    let unaligned = (initrd % ALIGNMENT as u64) as usize;
    let size = (unaligned + text.len() + 1).next_multiple_of(ALIGNMENT) - unaligned;
    if size > MAX_SIZE {
        return Err(PackError::TooLong { size });
    }
    let mut data = Vec::with_capacity(size + TRAILER);
    data.extend_from_slice(text.as_bytes());
    data.resize(size, 0);
    let checksum = checksum(&data);
    // The cast is lossless: size is at most MAX_SIZE.
    data.extend_from_slice(&(size as u32).to_le_bytes());
    data.extend_from_slice(&checksum.to_le_bytes());
    data.extend_from_slice(MAGIC);
    Ok(data)
}

/// Verifies `data` as the kernel would and returns the text, up to its first NUL.
/// An initrd before the text and up to three bytes of alignment after the magic are allowed.
pub fn unpack(data: &[u8]) -> Result<&str, UnpackError> {
    let counted = split(data)?.1;
    let length = counted.iter().position(|&byte| byte == 0).unwrap_or(counted.len());
    if counted[length..].iter().any(|&byte| byte != 0) {
        return Err(UnpackError::DataAfterEnd { offset: length, size: counted.len() });
    }
    std::str::from_utf8(&counted[..length])
        .map_err(|error| UnpackError::NotText { offset: error.valid_up_to() })
}

/// The initrd without its boot configuration and without what a loader added after that.
pub fn strip(data: &[u8]) -> Result<&[u8], UnpackError> {
    Ok(split(data)?.0)
}

/// The initrd proper, and text with padding.
fn split(data: &[u8]) -> Result<(&[u8], &[u8]), UnpackError> {
    let missing = || UnpackError::MagicMissing { length: data.len() };
    let end = (0..ALIGNMENT)
        .filter_map(|shift| data.len().checked_sub(shift))
        .find(|&end| data[..end].ends_with(MAGIC))
        .ok_or_else(missing)?;
    let start = end.checked_sub(TRAILER).ok_or_else(missing)?;
    let field = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes"));
    let size = field(start) as usize;
    let expected = field(start + 4);
    if size > MAX_SIZE {
        return Err(UnpackError::TooLong { size });
    }
    if size > start {
        return Err(UnpackError::SizeBeyondStart { size, available: start });
    }
    let (initrd, counted) = data[..start].split_at(start - size);
    let found = checksum(counted);
    if found != expected {
        return Err(UnpackError::Checksum { expected, found });
    }
    Ok((initrd, counted))
}

fn checksum(data: &[u8]) -> u32 {
    data.iter().fold(0, |sum, &byte| sum.wrapping_add(u32::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootconfig::EMPTY;

    #[test]
    fn the_shipped_configuration_packs_to_the_shipped_bytes() {
        let data = pack(EMPTY).unwrap();
        assert_eq!(data.len(), 40);
        assert_eq!(data[..18], *EMPTY.as_bytes());
        assert_eq!(data[18..20], [0, 0]);
        assert_eq!(data[20..24], 20u32.to_le_bytes());
        assert_eq!(data[24..28], 1657u32.to_le_bytes());
        assert_eq!(data[28..], *b"#BOOTCONFIG\n");
    }

    #[test]
    fn every_length_modulo_four_is_terminated_aligned_and_comes_back() {
        for length in 0..9 {
            let text = "a".repeat(length);
            let data = pack(&text).unwrap();
            assert_eq!(data.len() % 4, 0, "length {length}");
            assert_eq!(data[length], 0, "length {length}");
            assert_eq!(unpack(&data), Ok(text.as_str()));
        }
    }

    #[test]
    fn the_size_limit_is_the_kernels_and_not_the_tools() {
        let longest = "#".repeat(MAX_SIZE - 1);
        assert_eq!(unpack(&pack(&longest).unwrap()), Ok(longest.as_str()));
        let one_more = "#".repeat(MAX_SIZE);
        assert_eq!(pack(&one_more), Err(PackError::TooLong { size: MAX_SIZE + 4 }));
    }

    #[test]
    fn a_nul_in_the_text_is_refused_with_its_place() {
        assert_eq!(pack("kernel\0{}"), Err(PackError::Nul { offset: 6 }));
    }

    #[test]
    fn an_initrd_before_and_alignment_after_are_allowed() {
        let mut data = b"070701 and so on".to_vec();
        data.extend(pack("kernel.quiet\n").unwrap());
        for _ in 0..4 {
            assert_eq!(unpack(&data), Ok("kernel.quiet\n"));
            data.push(0);
        }
        let length = data.len();
        assert_eq!(unpack(&data), Err(UnpackError::MagicMissing { length }));
    }

    #[test]
    fn each_damage_is_told_apart() {
        let good = pack("kernel.a = 1\n").unwrap();
        let trailer = good.len() - TRAILER;
        let size = trailer as u32;

        let mut changed = good.clone();
        changed[0] += 1;
        let expected = checksum(&good[..trailer]);
        let found = expected + 1;
        assert_eq!(unpack(&changed), Err(UnpackError::Checksum { expected, found }));

        let cut = &good[4..];
        let available = trailer - 4;
        assert_eq!(
            unpack(cut),
            Err(UnpackError::SizeBeyondStart { size: size as usize, available })
        );

        for length in 0..TRAILER {
            let tail = &good[good.len() - length..];
            assert_eq!(unpack(tail), Err(UnpackError::MagicMissing { length }));
        }

        let mut long = vec![0; MAX_SIZE + 4];
        long.extend((MAX_SIZE as u32 + 4).to_le_bytes());
        long.extend(0u32.to_le_bytes());
        long.extend(MAGIC);
        assert_eq!(unpack(&long), Err(UnpackError::TooLong { size: MAX_SIZE + 4 }));

        let mut binary = vec![b'k', 0xff, 0, 0];
        let sum = checksum(&binary);
        binary.extend(4u32.to_le_bytes());
        binary.extend(sum.to_le_bytes());
        binary.extend(MAGIC);
        assert_eq!(unpack(&binary), Err(UnpackError::NotText { offset: 1 }));
    }

    #[test]
    fn an_initrd_keeps_its_bytes_and_the_whole_is_aligned() {
        for length in 0..9 {
            let initrd = vec![0; length];
            let mut whole = initrd.clone();
            whole.extend(footer("kernel.a = 1\n", length as u64).unwrap());
            assert_eq!(whole.len() % 4, 0, "length {length}");
            assert_eq!(unpack(&whole), Ok("kernel.a = 1\n"));
            assert_eq!(strip(&whole), Ok(initrd.as_slice()));
            assert_eq!(unpack(&whole[whole.len().saturating_sub(TAIL)..]), Ok("kernel.a = 1\n"));
        }
    }

    #[test]
    fn a_size_field_that_reaches_into_zeros_before_is_no_empty_text() {
        let mut whole = vec![0; 4096];
        whole.extend(pack("kernel.a = 1\n").unwrap());
        let size = whole.len() - TRAILER;
        whole[size] |= 0x40;
        assert_eq!(unpack(&whole), Err(UnpackError::DataAfterEnd { offset: 0, size: 16 + 64 }));
    }

    #[test]
    fn the_tail_is_enough_for_the_longest() {
        let longest = "#".repeat(MAX_SIZE - 1);
        let mut whole = vec![1; 4 * TAIL];
        whole.extend(pack(&longest).unwrap());
        whole.extend([0; ALIGNMENT - 1]);
        assert_eq!(unpack(&whole[whole.len() - TAIL..]), Ok(longest.as_str()));
    }
}
