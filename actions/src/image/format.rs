//! What some bytes are, told by their magic, never by a name or a Content-Type.

use std::io;

use super::chunks::ChunkReader;

/// A format in which an image may be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Raw,
    Lz4,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
}

/// Enough of a stream's start to tell its format and, where it says so, its size.
pub(super) const HEAD: usize = 64;

/// Skippable frames start with this, save its lowest four bits: the same for lz4 and zstd
/// (RFC 8878, section 3.1.2; lz4_Frame_format.md).
const SKIPPABLE: u32 = 0x184d_2a50;

const MAGICS: [(&[u8], Format); 5] = [
    (b"\x04\x22\x4d\x18", Format::Lz4),
    (b"\x1f\x8b\x08", Format::Gzip),
    (b"\xfd7zXZ\x00", Format::Xz),
    (b"\x28\xb5\x2f\xfd", Format::Zstd),
    (b"BZh", Format::Bzip2),
];

/// What a bzip2 stream has at offset 4: a block, or the end of an empty one.
const BZIP2_BLOCKS: [&[u8]; 2] = [b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"];

/// What is a disk image, but none that can be read from its front; see [`super::qcow2`].
pub(super) const QCOW2: &str = "qcow2 (convert it with `qemu-img convert -O raw`)";

/// What people serve by mistake, and that must not get onto a disk as if it were an image.
const NO_IMAGES: [(&[u8], &str); 13] = [
    (b"QFI\xfb", QCOW2),
    (b"KDMV", "VMDK (convert it with `qemu-img convert -O raw`)"),
    (b"# Disk Desc", "VMDK (convert it with `qemu-img convert -O raw`)"),
    (b"vhdxfile", "VHDX (convert it with `qemu-img convert -O raw`)"),
    (b"conectix", "VHD (convert it with `qemu-img convert -O raw`)"),
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x89LZO\x00\r\n\x1a\n", "lzop"),
    (b"\x02\x21\x4c\x18", "a legacy lz4 frame, which has no end mark: one cut short looks whole"),
    (b"\x3a\xff\x26\xed", "an Android sparse image (convert it with `simg2img`)"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"<!doctype", "an HTML page"),
    (b"<html", "an HTML page"),
];

impl Format {
    /// Its usual name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Lz4 => "lz4",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
        }
    }

    /// The format that starts with these bytes; raw if it is none that is known.
    pub(super) fn of(head: &[u8]) -> Self {
        let known = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, f)| *f);
        match known {
            Some(Self::Bzip2) if !is_bzip2(head) => Self::Raw,
            Some(format) => format,
            None => Self::Raw,
        }
    }

    /// The format of a stream. Skippable frames in front of the first real one are taken.
    pub(super) fn detect(input: &mut ChunkReader) -> io::Result<Self> {
        while let Some(length) = skippable_length(input.peek(HEAD)?) {
            input.skip(length)?;
        }
        Ok(Self::of(input.peek(HEAD)?))
    }
}

/// Whether a frame of lz4 or zstd that starts with these bytes is to be skipped.
pub(super) fn is_skippable(magic: [u8; 4]) -> bool {
    u32::from_le_bytes(magic) & 0xffff_fff0 == SKIPPABLE
}

/// The length of the skippable frame that these bytes start, its header included.
fn skippable_length(head: &[u8]) -> Option<u64> {
    let length = u32::from_le_bytes(*head.get(4..)?.first_chunk()?);
    is_skippable(*head.first_chunk()?).then_some(u64::from(length) + 8)
}

/// What these bytes of a decoded image are, if that is no raw disk image.
pub(super) fn no_disk_image(head: &[u8]) -> Option<&'static str> {
    let known = NO_IMAGES.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| *name);
    known.or_else(|| match Format::of(head) {
        Format::Raw => None,
        Format::Lz4 => Some("compressed twice, with lz4 inside"),
        Format::Gzip => Some("compressed twice, with gzip inside"),
        Format::Xz => Some("compressed twice, with xz inside"),
        Format::Zstd => Some("compressed twice, with zstd inside"),
        Format::Bzip2 => Some("compressed twice, with bzip2 inside"),
    })
}

/// `BZh` alone starts many a text. A stream cut within its magic is still bzip2, cut short.
fn is_bzip2(head: &[u8]) -> bool {
    let block = head.get(4..head.len().min(10)).unwrap_or_default();
    head.get(3).is_none_or(|level| (b'1'..=b'9').contains(level))
        && BZIP2_BLOCKS.iter().any(|magic| magic.starts_with(block))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::chunks::tests::reader;
    use super::*;

    #[test]
    fn formats_are_told_by_their_magic() {
        assert_eq!(Format::of(b"\x04\x22\x4d\x18rest"), Format::Lz4);
        assert_eq!(Format::of(b"\x1f\x8b\x08rest"), Format::Gzip);
        assert_eq!(Format::of(b"\xfd7zXZ\0rest"), Format::Xz);
        assert_eq!(Format::of(b"\x28\xb5\x2f\xfdrest"), Format::Zstd);
        assert_eq!(Format::of(b"BZh9\x31\x41\x59\x26\x53\x59"), Format::Bzip2);
        assert_eq!(Format::of(b"BZhello, world"), Format::Raw);
        assert_eq!(Format::of(b""), Format::Raw);
    }

    #[test]
    fn skippable_frames_in_front_are_passed_over() {
        let mut bytes = b"\x53\x2a\x4d\x18\x05\0\0\0hello".to_vec();
        bytes.extend(b"\x28\xb5\x2f\xfdrest");
        let mut input = reader(&bytes, 3);
        assert_eq!(Format::detect(&mut input).unwrap(), Format::Zstd);
        assert_eq!(input.consumed(), 13);
        assert!(Format::detect(&mut reader(&bytes[..10], 3)).is_err());
    }

    #[test]
    fn what_is_no_disk_image_is_called_by_its_name() {
        assert!(no_disk_image(b"QFI\xfb\0\0\0\x03").unwrap().contains("qemu-img"));
        assert_eq!(no_disk_image(b"<!DOCTYPE html>"), Some("an HTML page"));
        assert!(no_disk_image(b"\x1f\x8b\x08\0").unwrap().contains("twice"));
        assert_eq!(no_disk_image(&[0; 512]), None);
    }

    /// Skippable frames, a magic, and anything behind it; each of them may be absent or cut.
    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let magics: Vec<Vec<u8>> = MAGICS.iter().map(|(magic, _)| magic.to_vec()).collect();
        let skipped = prop::collection::vec((0..16_u32, 0..40_u32), 0..3);
        let magic = prop::option::of(prop::sample::select(magics));
        (skipped, magic, prop::collection::vec(any::<u8>(), 0..80), 0..200_usize).prop_map(
            |(skipped, magic, rest, cut)| {
                let mut bytes = Vec::new();
                for (kind, length) in skipped {
                    bytes.extend((SKIPPABLE + kind).to_le_bytes());
                    bytes.extend(length.to_le_bytes());
                    bytes.extend(vec![7; length as usize]);
                }
                bytes.extend(magic.unwrap_or_default());
                bytes.extend(rest);
                bytes.truncate(cut);
                bytes
            },
        )
    }

    proptest! {
        /// A format is told by bytes, not by how they were cut on their way.
        #[test]
        fn no_stream_makes_it_panic_and_its_chunks_do_not_matter(bytes in streams(), chunk in 1..90_usize) {
            let told = |chunk: usize| {
                let mut input = reader(&bytes, chunk);
                let format = Format::detect(&mut input).map_err(|error| error.kind());
                (format, input.consumed())
            };
            let (format, taken) = told(usize::MAX);
            prop_assert_eq!((format, taken), told(chunk));
            if let Ok(format) = format {
                prop_assert_eq!(format, Format::of(&bytes[taken as usize..]));
            }
            let _ = no_disk_image(&bytes);
        }
    }
}
