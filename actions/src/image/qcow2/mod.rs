//! A qcow2 image as a source of the disk in it (QEMU, `docs/interop/qcow2.rst`; versions 2 and 3).
//!
//! ```text
//!  guest offset ── L1 table ──> L2 table ──> cluster: nothing, zeros, bytes, compressed bytes
//!                  in memory    one at a time
//! ```
//!
//! The disk is delivered from front to back, whatever the order in the file, so the file has to be
//! read in any order: over HTTP, by ranges of one version of it. What the file lacks is zeros.
//!
//! A digest of the file cannot be taken on the way: where the job has one, the file is read once more
//! before, and has to stay what it was then. A digest of the disk is taken by the engine as ever.

mod file;
mod header;

use std::io::{self, Read};

use bytes::Bytes;

pub(crate) use self::file::{Place, Qcow2File};
use self::header::{Compression, Header};
use super::{Error, Result, Source};

/// How a qcow2 image starts.
pub(super) const MAGIC: &[u8; 4] = b"QFI\xfb";

/// The most that is delivered at once, and of zeros; bytes.
const CHUNK: u64 = 256 << 10;
const ZEROS: u64 = 1 << 20;

/// Bits of an entry of an L1 or L2 table.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const IS_COMPRESSED: u64 = 1 << 62;
const IS_ZERO: u64 = 1;

/// The unit in which an entry tells the length of compressed bytes.
const SECTOR: u64 = 512;

/// The disk in a qcow2 image.
#[derive(Debug)]
pub(crate) struct Qcow2 {
    file: Qcow2File,
    header: Header,
    l1: Vec<u64>,
    /// The L2 table in use, and its number.
    l2: Option<(u64, Vec<u64>)>,
    /// Where the next byte of the disk is.
    at: u64,
    zeros: Bytes,
}

/// What is at some place of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cluster {
    Zeros,
    /// Bytes in the file from here.
    At(u64),
    /// Compressed ones, and how many there are at most.
    Compressed(u64, u64),
}

fn wrong(cause: impl Into<String>) -> Error {
    Error::Qcow2 { cause: cause.into() }
}

impl Qcow2 {
    /// Reads what leads to everything else.
    pub(crate) fn open(mut file: Qcow2File) -> Result<Self> {
        let header = Header::read(&mut file)?;
        let l1 = file.table(header.l1_offset, header.l1_entries, "L1 table")?;
        let zeros = Bytes::from(vec![0; ZEROS as usize]);
        Ok(Self { file, header, l1, l2: None, at: 0, zeros })
    }

    /// What is at a place of the disk, and up to where that is so at least.
    fn look(&mut self, at: u64) -> Result<(Cluster, u64)> {
        let cluster = self.header.cluster();
        let per_table = cluster / 8;
        let (number, end) = (at / cluster, (at / cluster + 1) * cluster);
        let (table, index) = (number / per_table, number % per_table);
        let of_table = self.l1[usize::try_from(table).map_err(|_| wrong("it is too large"))?];
        if of_table & OFFSET == 0 {
            return Ok((Cluster::Zeros, (table + 1) * per_table * cluster));
        }
        let entry = match &self.l2 {
            Some((known, entries)) if *known == table => entries[index as usize],
            _ => {
                let entries = self.file.table(of_table & OFFSET, per_table, "L2 table")?;
                let entry = entries[index as usize];
                self.l2 = Some((table, entries));
                entry
            }
        };
        if entry & IS_COMPRESSED != 0 {
            let bits = 62 - (self.header.cluster_bits - 8);
            let offset = entry & ((1 << bits) - 1);
            let sectors = ((entry & !IS_COMPRESSED) & ((1 << 62) - 1)) >> bits;
            let length = (sectors + 1) * SECTOR - offset % SECTOR;
            return Ok((Cluster::Compressed(offset, length), end));
        }
        let offset = entry & OFFSET;
        let is_zero = offset == 0 || (entry & IS_ZERO != 0 && self.header.version > 2);
        if is_zero {
            return Ok((Cluster::Zeros, end));
        }
        if !offset.is_multiple_of(cluster) {
            return Err(wrong(format!("offset {offset} of the cluster of {at} is not aligned")));
        }
        Ok((Cluster::At(offset + at % cluster), end))
    }

    /// How many bytes from a place on lie one behind the other in the file.
    fn run(&mut self, offset: u64, mut end: u64) -> Result<u64> {
        let (start, most) = (self.at, (self.at + CHUNK).min(self.header.size));
        while end < most {
            match self.look(end)? {
                (Cluster::At(next), next_end) if next == offset + (end - start) => end = next_end,
                _ => break,
            }
        }
        Ok(end.min(most) - start)
    }

    fn decompress(&mut self, offset: u64, length: u64) -> Result<Vec<u8>> {
        let cluster = self.header.cluster() as usize;
        // The last of its sectors may end behind the file.
        let length = length.min(self.file.length().saturating_sub(offset));
        let mut packed = vec![0; length as usize];
        self.file.read_ahead(offset, &mut packed, "a compressed cluster")?;
        let mut bytes = vec![0; cluster];
        let unpacked = match self.header.compression {
            Compression::Zlib => inflate(&packed, &mut bytes),
            Compression::Zstd => zstd::stream::read::Decoder::with_buffer(&packed[..])
                .and_then(|mut decoder| decoder.read_exact(&mut bytes)),
        };
        let at = self.at;
        unpacked.map_err(|error| {
            wrong(format!("the compressed cluster of {at}, at {offset} of the file: {error}"))
        })?;
        Ok(bytes)
    }
}

impl Source for Qcow2 {
    fn next(&mut self) -> Result<Option<Bytes>> {
        let (at, size) = (self.at, self.header.size);
        if at == size {
            return Ok(None);
        }
        self.file.check()?;
        let (found, end) = self.look(at)?;
        let bytes = match found {
            Cluster::Zeros => {
                let mut end = end;
                while end < (at + ZEROS).min(size) {
                    match self.look(end)? {
                        (Cluster::Zeros, next) => end = next,
                        _ => break,
                    }
                }
                self.zeros.slice(..(end.min(size) - at).min(ZEROS) as usize)
            }
            Cluster::At(offset) => {
                let mut bytes = vec![0; self.run(offset, end)? as usize];
                self.file.read_ahead(offset, &mut bytes, "a cluster")?;
                bytes.into()
            }
            Cluster::Compressed(offset, length) => {
                let mut bytes = self.decompress(offset, length)?;
                bytes.truncate((size - at).min(bytes.len() as u64) as usize);
                bytes.into()
            }
        };
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }

    fn total(&self) -> Option<u64> {
        Some(self.header.size)
    }

    fn place(&self) -> Option<String> {
        self.file.place()
    }
}

/// Deflated bytes without a header, behind which there may be others.
fn inflate(packed: &[u8], into: &mut [u8]) -> io::Result<()> {
    flate2::bufread::DeflateDecoder::new(packed).read_exact(into)
}

#[cfg(test)]
mod tests;
