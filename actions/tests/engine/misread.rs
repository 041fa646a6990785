//! Disks that say that they have written, and have not: what is read back tells.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use nibs_actions::Stop;
use nibs_actions::image::{self, Error, Proof, Summary, Target};

use super::support::*;

const EXTENT: u64 = 4 << 20;
const IMAGE: usize = 13 << 20;

/// A disk on which some bytes are not what was written, the first times.
struct Forgetful {
    disk: MemoryDisk,
    /// Where, and which of the times that it is written.
    faults: Mutex<Vec<(u64, Range<i32>)>>,
    /// As a disk that has to be read after it is written.
    spins: bool,
    /// Whether anything was written since the last flush.
    dirty: Mutex<bool>,
}

impl Forgetful {
    fn new(faults: &[(u64, Range<i32>)], spins: bool) -> Self {
        let disk = MemoryDisk::with_old_system(IMAGE + (1 << 20));
        Self { disk, faults: Mutex::new(faults.to_vec()), spins, dirty: Mutex::new(false) }
    }

    fn forget(&self, offset: u64, length: u64) -> io::Result<()> {
        *self.dirty.lock().unwrap() = true;
        for (at, times) in &mut *self.faults.lock().unwrap() {
            let sector = *at / 512 * 512;
            if !(offset..offset + length).contains(&sector) {
                continue;
            }
            let is_now = times.contains(&0);
            *times = times.start - 1..times.end - 1;
            if is_now {
                let mut bytes = [0; 512];
                self.disk.read(sector, &mut bytes)?;
                bytes[(*at % 512) as usize] ^= 0x20;
                self.disk.write(sector, &bytes)?;
            }
        }
        Ok(())
    }

    fn stream(&self, served: Vec<u8>, proof: &Proof) -> Result<Summary, Error> {
        let source = Box::new(MemorySource::new(served));
        image::stream(source, self, proof, &Stop::default(), &Ears::default())
    }
}

impl Target for Forgetful {
    fn path(&self) -> &Path {
        self.disk.path()
    }
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn sector_size(&self) -> u32 {
        self.disk.sector_size()
    }
    fn manner(&self) -> &'static str {
        self.disk.manner()
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(offset, bytes)?;
        self.forget(offset, bytes.len() as u64)
    }
    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.zero(offset, length)?;
        self.forget(offset, length)
    }
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        assert!(!(self.spins && *self.dirty.lock().unwrap()), "read before a flush");
        self.disk.read(offset, into)
    }
    fn reads_behind(&self) -> bool {
        !self.spins
    }
    fn flush(&self) -> io::Result<()> {
        *self.dirty.lock().unwrap() = false;
        Ok(())
    }
}

/// Data, then zeros, then data; EFI system partition and backup GPT.
fn image() -> Vec<u8> {
    let mut image = super::support::image(IMAGE);
    image[5 << 20..6 << 20].fill(3);
    image
}

#[test]
fn bytes_that_changed_are_found_named_and_written_once_more() {
    let image = image();
    // In data, in zeros of an extent with data, and in an extent of zeros.
    for (fault, extent) in [(2 << 20, 0), ((6 << 20) + 9, 1), ((9 << 20) + 1234, 2)] {
        for format in ["lz4", "zstd"] {
            for spins in [false, true] {
                let disk = Forgetful::new(&[(fault, 0..1)], spins);
                let all = proof(no_digest(), sha256(&image));
                let error = disk.stream(encode(format, &image), &all).unwrap_err();
                let Error::Misread { ranges, .. } = error else { panic!("{error}") };
                let range = extent * EXTENT..(extent + 1) * EXTENT;
                assert_eq!(ranges, [range], "{format} at {fault}");
                assert!(!disk.disk.has_table());

                let before = disk.disk.log.lock().unwrap().len();
                let rest = Proof { only: Some(ranges.clone()), ..all };
                disk.stream(encode(format, &image), &rest).unwrap();
                assert!(disk.disk.has_table());
                let backup = IMAGE - 33 * 512;
                assert!(disk.disk.bytes()[34 * 512..backup] == image[34 * 512..backup]);
                let log = disk.disk.log.lock().unwrap();
                let elsewhere = log[before..].iter().filter(|done| match done {
                    Done::Write(at, length) | Done::Zero(at, length) => {
                        *length > 1 << 20
                            && !(ranges[0].contains(at) && at + length <= ranges[0].end)
                    }
                    Done::Flush => false,
                });
                assert_eq!(elsewhere.count(), 0, "{log:?}");
            }
        }
    }
}

#[test]
fn a_disk_that_never_keeps_a_byte_fails_with_its_place() {
    let image = image();
    let disk = Forgetful::new(&[(2 << 20, 0..9), ((5 << 20) + 7, 0..9)], false);
    let all = proof(no_digest(), no_digest());
    let text = disk.stream(encode("gzip", &image), &all).unwrap_err().to_string();
    assert!(
        text.contains("reading back /dev/memory") && text.contains("bytes 0 to 8388607"),
        "{text}"
    );
    let both = 0..2 * EXTENT;
    let only = Some(vec![both.clone()]);
    let error = disk.stream(encode("gzip", &image), &Proof { only, ..all }).unwrap_err();
    assert!(matches!(&error, Error::Misread { ranges, .. } if *ranges == [both]), "{error}");
    assert!(!disk.disk.has_table());
}

#[test]
fn what_is_held_back_is_read_back_too_and_written_once_more_like_all_else() {
    let image = image();
    let esp = (0..IMAGE).step_by(512).find(|at| image[*at..].starts_with(BOOT_SECTOR)).unwrap();
    let all = proof(no_digest(), no_digest());
    let again = |disk: &Forgetful, error: &Error| {
        let Error::Misread { ranges, .. } = error else { panic!("{error}") };
        assert!(!disk.disk.has_table(), "{ranges:?}");
        let only = Some(ranges.clone());
        disk.stream(encode("xz", &image), &Proof { only, ..all.clone() })
    };
    for fault in [600, 2000, esp as u64 + 3, (IMAGE + (1 << 20) - 100) as u64] {
        // The places are cleared first.
        let once = Forgetful::new(&[(fault, 1..2)], false);
        let error = once.stream(encode("xz", &image), &all).unwrap_err();
        again(&once, &error).unwrap();
        let table = gpt::GptConfig::new()
            .only_valid_headers(true)
            .open_from_device(io::Cursor::new(once.disk.bytes()))
            .unwrap();
        assert_eq!(table.partitions().len(), 2);

        let always = Forgetful::new(&[(fault, 1..99)], false);
        let error = always.stream(encode("xz", &image), &all).unwrap_err();
        let error = again(&always, &error).unwrap_err();
        assert!(matches!(error, Error::Misread { .. }), "{error}");
        assert!(!always.disk.has_table(), "{fault}");
    }
}

#[test]
fn what_is_cleared_is_read_back_before_anything_is_written() {
    let image = image();
    let all = proof(no_digest(), no_digest());
    for fault in [600, (IMAGE + (1 << 20) - 100) as u64] {
        let once = Forgetful::new(&[(fault, 0..1)], false);
        once.stream(encode("lz4", &image), &all).unwrap();

        let always = Forgetful::new(&[(fault, 0..99)], false);
        let error = always.stream(encode("lz4", &image), &all).unwrap_err();
        assert!(matches!(error, Error::Disk { doing: "clearing", .. }), "{error}");
        let log = always.disk.log.lock().unwrap();
        let writes =
            log.iter().filter(|done| matches!(done, Done::Write(_, length) if *length > 512));
        assert_eq!(writes.count(), 0, "{log:?}");
    }
}

#[test]
fn nothing_is_read_back_if_that_is_not_asked_for() {
    let image = image();
    let disk = Forgetful::new(&[((5 << 20) + 7, 0..1)], false);
    disk.stream(encode("lz4", &image), &Proof::default()).unwrap();
    assert_eq!(disk.disk.bytes()[(5 << 20) + 7], 3 ^ 0x20);
}
