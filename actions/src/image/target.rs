//! Where an image goes: a disk, or a file that stands for one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl, posix_fadvise};

use super::buffer::Buffer;
use super::{Error, Result};

/// Without direct I/O, how much may be in the page cache before it is flushed: so that neither
/// memory nor the last flush grows with the image. Bytes.
const DIRTY_MAX: u64 = 64 << 20;

/// Where an image goes. Offsets and lengths are bytes, in whole sectors. Several threads write and
/// read at once, never the same bytes.
pub trait Target: Sync {
    /// What errors call it.
    fn path(&self) -> &Path;
    /// How many bytes it takes.
    fn size(&self) -> u64;
    /// Logical sector size.
    fn sector_size(&self) -> u32;
    /// How it is written, for the log.
    fn manner(&self) -> &'static str;
    /// Writes all bytes.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes a range read as zeros, whatever was there before.
    fn zero(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Reads from the medium, past every cache of this machine.
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Whether it may be read while it is still written to, before a flush: it bypasses the page
    /// cache, and has no heads to move.
    fn reads_behind(&self) -> bool;
    /// Waits until all that was written survives a loss of power.
    fn flush(&self) -> io::Result<()>;
}

/// A block device, or a regular file of a disk's size.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
    size: u64,
    sector_size: u32,
    is_block: bool,
    /// Whether it spins.
    rotational: bool,
    direct: AtomicBool,
    can_zero: AtomicBool,
    dirty: AtomicU64,
}

impl Device {
    /// Opens a disk for writing, past the page cache if it can be. `size` and `sector_size` are
    /// its own. Whoever calls keeps others away from it.
    pub fn open(path: &Path, size: u64, sector_size: u32) -> Result<Self> {
        let open = |flags| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        let (opened, direct) = match open(libc::O_DIRECT) {
            // A filesystem or driver without direct I/O.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => (open(0), false),
            opened => (opened, true),
        };
        let failed = |cause| Error::File { doing: "opening", path: path.to_owned(), cause };
        let file = opened.map_err(failed)?;
        let is_block = file.metadata().map_err(failed)?.file_type().is_block_device();
        Ok(Self {
            file,
            path: path.to_owned(),
            size,
            sector_size,
            is_block,
            rotational: false,
            direct: AtomicBool::new(direct),
            can_zero: AtomicBool::new(true),
            dirty: AtomicU64::new(0),
        })
    }

    /// Says that it spins: reading between writes would make it seek.
    pub fn rotational(self, rotational: bool) -> Self {
        Self { rotational, ..self }
    }

    fn zero_by_kernel(&self, offset: u64, length: u64) -> nix::Result<()> {
        if self.is_block {
            let range = [offset, length];
            // SAFETY: BLKZEROOUT reads two u64, and the array outlives the call.
            #[allow(unsafe_code)]
            unsafe { blkzeroout(self.file.as_raw_fd(), &raw const range) }.map(|_| ())
        } else {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            fallocate(&self.file, flags, signed(offset), signed(length))
        }
    }

    fn zero_by_writing(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut zeros = Buffer::new();
        zeros.set_filled(usize::try_from(length).unwrap_or(usize::MAX));
        let step = zeros.filled().len() as u64;
        let mut at = offset;
        while at < offset + length {
            let here = step.min(offset + length - at);
            self.write(at, &zeros.filled()[..here as usize])?;
            at += here;
        }
        Ok(())
    }

    /// Goes on through the page cache.
    fn give_up_direct(&self) -> io::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(&self.file, FcntlArg::F_GETFL)?);
        fcntl(&self.file, FcntlArg::F_SETFL(flags - OFlag::O_DIRECT))?;
        self.direct.store(false, Ordering::Relaxed);
        Ok(())
    }
}

nix::ioctl_write_ptr_bad!(blkzeroout, 0x127f, [u64; 2]);

impl Target for Device {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn sector_size(&self) -> u32 {
        self.sector_size
    }

    fn manner(&self) -> &'static str {
        match self.direct.load(Ordering::Relaxed) {
            true => "directly (O_DIRECT)",
            false => "through the page cache, since it takes no direct I/O",
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let direct = self.direct.load(Ordering::Relaxed);
        match self.file.write_all_at(bytes, offset) {
            // The device wants more alignment than its sectors, or than it said. Another thread
            // may have given up by now: what counts is how this write was tried.
            Err(error) if direct && error.kind() == io::ErrorKind::InvalidInput => {
                self.give_up_direct()?;
                self.file.write_all_at(bytes, offset)?;
            }
            written => written?,
        }
        if !self.direct.load(Ordering::Relaxed) {
            let length = bytes.len() as u64;
            let dirty = self.dirty.fetch_add(length, Ordering::Relaxed) + length;
            if dirty >= DIRTY_MAX {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        if self.can_zero.load(Ordering::Relaxed) {
            if self.zero_by_kernel(offset, length).is_ok() {
                return Ok(());
            }
            // Whatever the reason, writing zeros is as good; a dead disk will say so there.
            self.can_zero.store(false, Ordering::Relaxed);
        }
        self.zero_by_writing(offset, length)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if self.direct.load(Ordering::Relaxed) {
            self.file.read_exact_at(into, offset)?;
            // A writer may have given up in the meantime: then this came from the cache, or not.
            if self.direct.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        // Only what is clean leaves the cache.
        if self.dirty.load(Ordering::Relaxed) > 0 {
            self.flush()?;
        }
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let length = signed(into.len() as u64);
        posix_fadvise(&self.file, signed(offset), length, POSIX_FADV_DONTNEED)?;
        self.file.read_exact_at(into, offset)
    }

    fn reads_behind(&self) -> bool {
        self.direct.load(Ordering::Relaxed) && !self.rotational
    }

    fn flush(&self) -> io::Result<()> {
        self.dirty.store(0, Ordering::Relaxed);
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: usize) -> (tempfile::NamedTempFile, Device) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![0xaa; size]).unwrap();
        let device = Device::open(file.path(), size as u64, 512).unwrap();
        (file, device)
    }

    #[test]
    fn zeroed_ranges_are_zero_whichever_way() {
        for by_kernel in [true, false] {
            let (file, device) = file(9 << 20);
            device.can_zero.store(by_kernel, Ordering::Relaxed);
            device.zero(512, 8 << 20).unwrap();
            device.flush().unwrap();
            let bytes = std::fs::read(file.path()).unwrap();
            assert!(bytes[..512].iter().all(|byte| *byte == 0xaa));
            assert!(bytes[512..512 + (8 << 20)].iter().all(|byte| *byte == 0));
            assert!(bytes[512 + (8 << 20)..].iter().all(|byte| *byte == 0xaa));
        }
    }

    #[test]
    fn a_write_that_is_not_aligned_for_direct_io_still_arrives() {
        let (file, device) = file(1 << 20);
        device.write(512, &[1; 700]).unwrap();
        device.flush().unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!((bytes[511], bytes[512], bytes[1211], bytes[1212]), (0xaa, 1, 1, 0xaa));
        if !device.direct.load(Ordering::Relaxed) {
            assert!(device.manner().contains("page cache"));
        }
    }

    #[test]
    fn a_target_that_cannot_be_opened_is_named() {
        let error = Device::open(Path::new("/nowhere/disk"), 1, 512).unwrap_err().to_string();
        assert!(error.starts_with("opening /nowhere/disk"), "{error}");
    }
}
