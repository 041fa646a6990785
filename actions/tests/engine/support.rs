//! What the tests of the image engine share: images, targets in memory, sources that say what they
//! are told.

use std::io::{self, Cursor, Write};
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use gpt::disk::LogicalBlockSize;
use nibs_actions::image::{self, Error, Expected, Source, Summary, Target};
use nibs_actions::{Sink, Stop};
use nibs_job::{HexDigest, LogLevel, Progress};
use sha2::{Digest, Sha256};

const SIGNATURE: &[u8] = b"EFI PART";

/// An image with a GPT, one partition and data in it that compress well.
pub(crate) fn image(size: usize) -> Vec<u8> {
    image_for(size, LogicalBlockSize::Lb512)
}

pub(crate) fn image_for(size: usize, sectors: LogicalBlockSize) -> Vec<u8> {
    let mut image = vec![0; size];
    let unit = u64::from(sectors);
    let mut cursor = Cursor::new(&mut image[..]);
    let last = u32::try_from(size as u64 / unit - 1).unwrap();
    gpt::mbr::ProtectiveMBR::with_lb_size(last).overwrite_lba0(&mut cursor).unwrap();
    let mut table = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(sectors)
        .create_from_device(cursor, Some("00112233-4455-6677-8899-aabbccddeeff".parse().unwrap()))
        .unwrap();
    let room = size as u64 - 80 * unit;
    table.add_partition("data", room / 2, gpt::partition_types::LINUX_FS, 0, None).unwrap();
    table.write_inplace().unwrap();
    drop(table);
    let data = 40 * unit as usize;
    for (index, byte) in image[data..data + size / 4].iter_mut().enumerate() {
        *byte = (index / 251) as u8;
    }
    image
}

/// The formats, by the names of their tools.
pub(crate) const FORMATS: [&str; 6] = ["raw", "lz4", "gzip", "xz", "zstd", "bzip2"];

pub(crate) fn encode(format: &str, content: &[u8]) -> Vec<u8> {
    match format {
        "raw" => content.to_vec(),
        "lz4" => {
            let info = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max4MB)
                .content_checksum(true);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        "gzip" => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        "xz" => liblzma::encode_all(content, 1).unwrap(),
        "zstd" => {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        "bzip2" => {
            let level = bzip2::Compression::best();
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        other => panic!("no format {other}"),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Expected {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    Expected { sha256: Some(HexDigest(digest)), sha512: None }
}

pub(crate) fn no_digest() -> Expected {
    Expected::default()
}

/// A disk in memory that fails where it is told to.
#[derive(Debug)]
pub(crate) struct MemoryDisk {
    bytes: Mutex<Vec<u8>>,
    /// Writes that touch this byte fail.
    fails_at: Option<u64>,
    sector_size: u32,
    /// What was done to it.
    pub(crate) log: Mutex<Vec<Done>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    Write(u64, u64),
    Zero(u64, u64),
    Flush,
}

impl MemoryDisk {
    /// A disk that holds an older system, with a GPT at both ends.
    pub(crate) fn with_old_system(size: usize) -> Self {
        Self {
            bytes: Mutex::new(old_system(size)),
            fails_at: None,
            sector_size: 512,
            log: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn failing_at(self, offset: u64) -> Self {
        Self { fails_at: Some(offset), ..self }
    }

    pub(crate) fn with_sectors_of(self, sector_size: u32) -> Self {
        Self { sector_size, ..self }
    }

    /// As it was in the beginning.
    pub(crate) fn reset(&self) {
        self.log.lock().unwrap().clear();
        let mut bytes = self.bytes.lock().unwrap();
        *bytes = old_system(bytes.len());
    }

    /// Whether nothing was written, not even zeros.
    pub(crate) fn is_untouched(&self) -> bool {
        self.log.lock().unwrap().is_empty()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    /// Whether firmware could find a partition table.
    pub(crate) fn has_table(&self) -> bool {
        has_table(&self.bytes.lock().unwrap())
    }

    fn change(&self, offset: u64, length: u64, change: impl FnOnce(&mut [u8])) -> io::Result<()> {
        assert!(offset.is_multiple_of(u64::from(self.sector_size)), "unaligned {offset}");
        assert!(length.is_multiple_of(u64::from(self.sector_size)), "unaligned {length}");
        if self.fails_at.is_some_and(|at| (offset..offset + length).contains(&at)) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let range = offset as usize..(offset + length) as usize;
        change(&mut self.bytes.lock().unwrap()[range]);
        Ok(())
    }
}

/// Someone's data everywhere, and what makes a table be found.
fn old_system(size: usize) -> Vec<u8> {
    let mut bytes = vec![0x55; size];
    for at in [512, size - 512] {
        bytes[at..at + SIGNATURE.len()].copy_from_slice(SIGNATURE);
    }
    bytes
}

fn has_table(bytes: &[u8]) -> bool {
    let last = bytes.len() - 512;
    [512, 4096, last, bytes.len() - 4096].iter().any(|at| bytes[*at..].starts_with(SIGNATURE))
}

impl Target for MemoryDisk {
    fn path(&self) -> &Path {
        Path::new("/dev/memory")
    }
    fn size(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }
    fn sector_size(&self) -> u32 {
        self.sector_size
    }
    fn manner(&self) -> &'static str {
        "in memory"
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.log.lock().unwrap().push(Done::Write(offset, bytes.len() as u64));
        self.change(offset, bytes.len() as u64, |place| place.copy_from_slice(bytes))
    }
    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        self.log.lock().unwrap().push(Done::Zero(offset, length));
        self.change(offset, length, |place| place.fill(0))
    }
    fn flush(&self) -> io::Result<()> {
        self.log.lock().unwrap().push(Done::Flush);
        Ok(())
    }
}

/// Bytes in memory as a source.
pub(crate) struct MemorySource {
    rest: Bytes,
    total: Option<u64>,
}

impl MemorySource {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let total = Some(bytes.len() as u64);
        Self { rest: bytes.into(), total }
    }
}

impl Source for MemorySource {
    fn next(&mut self) -> image::Result<Option<Bytes>> {
        let length = self.rest.len().min(50_000);
        Ok((length > 0).then(|| self.rest.split_to(length)))
    }
    fn total(&self) -> Option<u64> {
        self.total
    }
}

/// Remembers what it hears.
#[derive(Debug, Default)]
pub(crate) struct Ears {
    pub(crate) warnings: Mutex<Vec<String>>,
    pub(crate) log: Mutex<Vec<String>>,
    pub(crate) progress: Mutex<Vec<Progress>>,
}

impl Sink for Ears {
    fn progress(&self, progress: Progress) {
        self.progress.lock().unwrap().push(progress);
    }
    fn warning(&self, message: String) {
        self.warnings.lock().unwrap().push(message);
    }
    fn log(&self, _: LogLevel, message: String) {
        self.log.lock().unwrap().push(message);
    }
}

/// Streams bytes onto a disk, with digests where given.
pub(crate) fn install(
    served: Vec<u8>,
    disk: &MemoryDisk,
    of_served: Expected,
    of_image: Expected,
) -> Result<Summary, Error> {
    let source = Box::new(MemorySource::new(served));
    image::stream(source, disk, of_served, of_image, &Stop::default(), &Ears::default())
}
