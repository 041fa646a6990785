//! zstd in many frames, each decodable alone: what `pzstd` and the seekable format make, and
//! `zstd`, on however many threads, does not.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};

/// How much of the image a frame has, bytes.
const FRAME: u64 = 4 << 20;

/// Packs a file: frames that tell their length, at this level, on all cores.
pub(super) fn pack(from: &Path, to: &Path, level: i32) -> Result<()> {
    let cores = thread::available_parallelism().context("counting the cores")?.get();
    let mut image = File::open(from).with_context(|| format!("opening {}", from.display()))?;
    let packed = File::create_new(to).with_context(|| format!("creating {}", to.display()))?;
    let mut packed = BufWriter::new(packed);
    loop {
        let mut pieces = Vec::new();
        for _ in 0..cores {
            let mut piece = Vec::new();
            (&mut image).take(FRAME).read_to_end(&mut piece).context("reading an image")?;
            if !piece.is_empty() {
                pieces.push(piece);
            }
        }
        if pieces.is_empty() {
            return packed.flush().context("writing frames");
        }
        for frame in compress(&pieces, level)? {
            packed.write_all(&frame).context("writing frames")?;
        }
    }
}

fn compress(pieces: &[Vec<u8>], level: i32) -> Result<Vec<Vec<u8>>> {
    thread::scope(|scope| {
        let threads: Vec<_> =
            pieces.iter().map(|piece| scope.spawn(move || frame(piece, level))).collect();
        let joined = threads.into_iter().map(|thread| {
            let frame = thread.join().map_err(|_| anyhow!("compressing a frame: it panicked"))?;
            frame.context("compressing a frame")
        });
        joined.collect()
    })
}

/// With its length and a checksum, as the programs write them.
fn frame(piece: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.include_checksum(true)?;
    compressor.compress(piece)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_piece_is_a_frame_that_can_be_decoded_alone() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["image", "packed"].map(|name| directory.path().join(name));
        let image: Vec<u8> = (0..5 * FRAME / 2).map(|at| (at >> 12) as u8).collect();
        fs::write(&from, &image).unwrap();
        pack(&from, &to, 1).unwrap();
        let packed = fs::read(&to).unwrap();
        let (mut decoded, mut lengths, mut at) = (Vec::new(), Vec::new(), 0);
        while at < packed.len() {
            let length = zstd::zstd_safe::find_frame_compressed_size(&packed[at..]).unwrap();
            let frame = &packed[at..at + length];
            let piece = zstd::bulk::decompress(frame, FRAME as usize).unwrap();
            lengths.push(piece.len() as u64);
            decoded.extend(piece);
            at += length;
        }
        assert_eq!(lengths, [FRAME, FRAME, FRAME / 2]);
        assert!(decoded == image);
    }
}
