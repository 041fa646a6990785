//! What the tests of the image engine share: images, targets in memory, sources that say what they
//! are told.

use std::io::{self, Cursor, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gpt::disk::LogicalBlockSize;
use nibs_actions::image::{self, Access, Error, Expected, Fetch, Proof, Source, Summary, Target};
use nibs_actions::{Sink, Stop, http};
use nibs_job::{HexDigest, LogLevel, Progress};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

const SIGNATURE: &[u8] = b"EFI PART";

/// How the boot sector of a FAT filesystem starts.
pub(crate) const BOOT_SECTOR: &[u8] = b"\xeb\x58\x90mkfs.fat";

/// An image with a GPT, a partition with data in it that compress well, and an EFI system partition
/// with a boot sector.
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
    table.add_partition("EFI", room / 4, gpt::partition_types::EFI, 0, None).unwrap();
    table.write_inplace().unwrap();
    let esp = table.partitions()[&2].first_lba * unit;
    drop(table);
    image[esp as usize..][..BOOT_SECTOR.len()].copy_from_slice(BOOT_SECTOR);
    let data = 40 * unit as usize;
    for (index, byte) in image[data..data + size / 4].iter_mut().enumerate() {
        *byte = (index / 251) as u8;
    }
    image
}

/// The formats, by the names of their tools.
pub(crate) const FORMATS: [&str; 11] = [
    "raw",
    "lz4",
    "lz4 -B4 -BX",
    "lz4 -B4 -BD",
    "gzip",
    "bgzip",
    "xz",
    "xz -T",
    "zstd",
    "pzstd",
    "bzip2",
];

/// How much of an image is in one part of it that is decoded by itself.
const PART: usize = 40_000;

pub(crate) fn encode(format: &str, content: &[u8]) -> Vec<u8> {
    match format {
        "raw" => content.to_vec(),
        "lz4" | "lz4 -B4 -BX" | "lz4 -B4 -BD" => {
            use lz4_flex::frame::{BlockMode, BlockSize};
            let (size, mode) = match format {
                "lz4" => (BlockSize::Max4MB, BlockMode::Independent),
                "lz4 -B4 -BX" => (BlockSize::Max64KB, BlockMode::Independent),
                _ => (BlockSize::Max64KB, BlockMode::Linked),
            };
            let info = lz4_flex::frame::FrameInfo::new()
                .block_size(size)
                .block_mode(mode)
                .block_checksums(format.ends_with("-BX"))
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
        "bgzip" => content.chunks(PART).chain([&[][..]]).flat_map(bgzip_member).collect(),
        "xz" => liblzma::encode_all(content, 1).unwrap(),
        "xz -T" => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
            for block in content.chunks(PART) {
                encoder.write_all(block).unwrap();
                // Ends the block.
                encoder.flush().unwrap();
            }
            encoder.finish().unwrap()
        }
        "zstd" => {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        // Each frame is behind one to be skipped, which says how long it is.
        "pzstd" => {
            let frames = content.chunks(PART).map(|part| encode("zstd", part));
            let behind_length = frames.flat_map(|frame| {
                let length = (frame.len() as u32).to_le_bytes();
                [&b"\x50\x2a\x4d\x18\x04\0\0\0"[..], &length, &frame].concat()
            });
            behind_length.collect()
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

/// A gzip member that says how long it is.
fn bgzip_member(content: &[u8]) -> Vec<u8> {
    /// Where the length is, behind the header and the names and sizes of fields.
    const LENGTH: usize = 16;
    let builder = flate2::GzBuilder::new().extra(&b"BC\x02\0\0\0"[..]);
    let mut encoder = builder.write(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    let mut member = encoder.finish().unwrap();
    let length = u16::try_from(member.len() - 1).unwrap();
    member[LENGTH..LENGTH + 2].copy_from_slice(&length.to_le_bytes());
    member
}

pub(crate) fn sha256(bytes: &[u8]) -> Expected {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    Expected { sha256: Some(HexDigest(digest)), sha512: None }
}

pub(crate) fn no_digest() -> Expected {
    Expected::default()
}

/// All that can be proven.
pub(crate) fn proof(served: Expected, image: Expected) -> Proof {
    Proof { served, image, read_back: true, ..Proof::default() }
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
        Self::holding(old_system(size))
    }

    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Mutex::new(bytes),
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

/// Whether firmware would take the table that is at either end of a disk of 512-byte sectors.
pub(crate) fn has_sound_table(disk: &[u8]) -> bool {
    is_sound_table(disk, 1) || is_sound_table(disk, disk.len() / 512 - 1)
}

/// Whether a sector has a GPT header with right checksums, of its own and of its entries, that says
/// to be there.
fn is_sound_table(disk: &[u8], sector: usize) -> bool {
    let number = |bytes: &[u8], at: usize, length: usize| {
        bytes[at..at + length].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
    };
    let mut header = disk[sector * 512..][..92].to_vec();
    let own = number(&header, 16, 4);
    header[16..20].fill(0);
    let crc = |bytes: &[u8]| {
        let mut crc = !0_u32;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0xedb8_8320 & (0_u32.wrapping_sub(crc & 1)));
            }
        }
        u64::from(!crc)
    };
    let entries = (number(&header, 72, 8) as usize).saturating_mul(512);
    let entries = entries..entries.saturating_add(128 * 128);
    header.starts_with(SIGNATURE)
        && own == crc(&header)
        && number(&header, 24, 8) == sector as u64
        && disk.get(entries).is_some_and(|entries| crc(entries) == number(&header, 88, 4))
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
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let range = offset as usize..offset as usize + into.len();
        into.copy_from_slice(&self.bytes.lock().unwrap()[range]);
        Ok(())
    }
    fn reads_behind(&self) -> bool {
        true
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
    pub(crate) resets: Mutex<Vec<String>>,
    pub(crate) warnings: Mutex<Vec<String>>,
    pub(crate) log: Mutex<Vec<String>>,
    pub(crate) progress: Mutex<Vec<Progress>>,
}

impl Sink for Ears {
    fn progress(&self, progress: Progress) {
        self.progress.lock().unwrap().push(progress);
    }
    fn reset(&self, reason: String) {
        self.resets.lock().unwrap().push(reason);
    }
    fn warning(&self, message: String) {
        self.warnings.lock().unwrap().push(message);
    }
    fn log(&self, _: LogLevel, message: String) {
        self.log.lock().unwrap().push(message);
    }
}

/// A runtime that makes progress by itself.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A transfer in one stream without anything special to it.
pub(crate) fn plain(urls: Vec<url::Url>, runtime: &Runtime, sink: &Arc<Ears>) -> Fetch {
    Fetch {
        urls,
        client: http::client(&http::Options::default()).unwrap(),
        access: Access::Open,
        accept: None,
        runtime: runtime.handle().clone(),
        stop: Stop::default(),
        sink: sink.clone(),
        stall_timeout: Duration::from_millis(1500),
        proven_by_digest: false,
        connections: 1,
    }
}

/// Opens a transfer and reads it to its end.
pub(crate) fn drain(fetch: Fetch) -> Result<Vec<u8>, Error> {
    let mut source = fetch.open()?;
    let mut bytes = Vec::new();
    while let Some(chunk) = source.next()? {
        bytes.extend_from_slice(&chunk);
    }
    if let Some(total) = source.total() {
        assert_eq!(total, bytes.len() as u64);
    }
    Ok(bytes)
}

/// Streams bytes onto a disk, with digests where given.
pub(crate) fn install(
    served: Vec<u8>,
    disk: &MemoryDisk,
    of_served: Expected,
    of_image: Expected,
) -> Result<Summary, Error> {
    let source = Box::new(MemorySource::new(served));
    let proof = proof(of_served, of_image);
    image::stream(source, disk, &proof, &Stop::default(), &Ears::default())
}
