//! What a disk holds and how it would be written, seen through a file that cannot write to it.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::buffer::Buffer;
use super::{Error, Result, layout, stale};

/// Enough for direct I/O of any disk to say whether it takes any. Bytes.
const SAMPLE: usize = 4096;

/// What a disk holds and how it would be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// Names of the signatures in its first and last MiB.
    pub(crate) signatures: Vec<&'static str>,
    /// Whether it takes direct I/O.
    pub(crate) direct: bool,
}

/// Looks at a disk, or a file that stands for one, of `size` bytes.
pub(crate) fn look(path: &Path, size: u64) -> Result<Look> {
    let failed = |cause| Error::File { doing: "opening", path: path.to_owned(), cause };
    let file = File::open(path).map_err(failed)?;
    let (head, tail) = layout::ends(size);
    let signatures = stale::recognised(&read(&file, &head), &read(&file, &tail), size);
    Ok(Look { signatures, direct: takes_direct(path) })
}

/// Nothing where it cannot be read, since it is to be written anyway.
fn read(file: &File, range: &Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    match file.read_exact_at(&mut bytes, range.start) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

fn takes_direct(path: &Path) -> bool {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    let sampled = opened.and_then(|file| file.read_at(&mut Buffer::new().whole()[..SAMPLE], 0));
    // Of other errors, writing will tell.
    !matches!(sampled, Err(error) if error.kind() == io::ErrorKind::InvalidInput)
}

#[cfg(test)]
mod tests {
    use super::super::{Device, Target};
    use super::*;

    #[test]
    fn a_disk_is_recognised_and_left_as_it_was() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![0x55; 3 << 20];
        bytes[..4].copy_from_slice(b"XFSB");
        bytes[(3 << 20) - 512..][..8].copy_from_slice(b"EFI PART");
        std::fs::write(file.path(), &bytes).unwrap();
        let found = look(file.path(), 3 << 20).unwrap();
        assert_eq!(found.signatures, ["XFS", "backup GPT"]);
        let device = Device::open(file.path(), 3 << 20, 512).unwrap();
        assert_eq!(found.direct, device.manner().contains("O_DIRECT"));
        assert!(std::fs::read(file.path()).unwrap() == bytes);
    }

    #[test]
    fn a_disk_that_cannot_be_opened_is_named() {
        let error = look(Path::new("/nowhere/disk"), 1 << 20).unwrap_err().to_string();
        assert!(error.starts_with("opening /nowhere/disk"), "{error}");
    }
}
