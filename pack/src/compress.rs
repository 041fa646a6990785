//! Packs disk images as their publishers do.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::tool::{LZ4, ZSTD};

/// Start of an LZ4 frame as Bottlerocket's: magic, version 1 with independent blocks, a content
/// checksum and no content size, blocks of 4 MiB, no dictionary (LZ4 frame format 1.6.1).
const BOTTLEROCKET_FRAME: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9];

/// Level at which the Debian image is worth its time: a fifth smaller than the default's.
const ZSTD_LEVEL: &str = "-10";

/// Packs `image` as twoliter's `imghelper` does, and checks that this lz4 still writes that frame.
pub(crate) fn lz4(image: &Path, packed: &Path) -> Result<()> {
    LZ4.run(LZ4.command().args(["-q", "-f", "-9", "-B7", "-BI"]).arg(image).arg(packed))?;
    let mut header = [0; BOTTLEROCKET_FRAME.len()];
    File::open(packed)
        .and_then(|mut file| file.read_exact(&mut header))
        .with_context(|| format!("reading {}", packed.display()))?;
    ensure!(
        header == BOTTLEROCKET_FRAME,
        "packing {}: frame starts with {}, Bottlerocket's with {}; this version of lz4 differs",
        image.display(),
        hex::encode(header),
        hex::encode(BOTTLEROCKET_FRAME),
    );
    Ok(())
}

/// Packs `image` as one zstd frame with a content checksum.
pub(crate) fn zstd(image: &Path, packed: &Path) -> Result<()> {
    ZSTD.run(
        ZSTD.command().args(["-q", "-f", "-T0", ZSTD_LEVEL]).arg(image).arg("-o").arg(packed),
    )?;
    Ok(())
}
