//! Swap space (the kernel's include/linux/swap.h, `union swap_header`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use uuid::Uuid;

/// Where the header is in the first page, and what it says.
const HEADER: usize = 1024;
const VERSION: u32 = 1;
const UUID: usize = HEADER + 12;
const LABEL: usize = UUID + 16;
const LABEL_LENGTH: usize = 16;

/// What the first page ends with.
const MAGIC: &[u8; 10] = b"SWAPSPACE2";

/// How much before and behind the header is cleared, so that no former filesystem is found.
const CLEARED: usize = 1 << 20;

/// The least pages that the kernel takes.
const MIN_PAGES: u64 = 10;

/// Makes a device of `size` bytes swap space for a kernel with pages of `page` bytes.
pub(super) fn make(
    device: &File,
    size: u64,
    page: usize,
    label: &str,
    uuid: Uuid,
) -> io::Result<()> {
    let pages = size / page as u64;
    if pages < MIN_PAGES {
        return Err(io::Error::other(format!("{size} bytes are too few for swap space")));
    }
    if label.len() >= LABEL_LENGTH {
        let most = LABEL_LENGTH - 1;
        return Err(io::Error::other(format!("the label is longer than {most} bytes")));
    }
    // The kernel counts no further.
    let last = u32::try_from(pages - 1).unwrap_or(u32::MAX);
    let mut start = vec![0; CLEARED.min(usize::try_from(size).unwrap_or(CLEARED)).max(page)];
    start[HEADER..][..4].copy_from_slice(&VERSION.to_ne_bytes());
    start[HEADER + 4..][..4].copy_from_slice(&last.to_ne_bytes());
    start[UUID..LABEL].copy_from_slice(uuid.as_bytes());
    start[LABEL..][..label.len()].copy_from_slice(label.as_bytes());
    start[page - MAGIC.len()..page].copy_from_slice(MAGIC);
    device.write_all_at(&start, 0)?;
    device.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_small_or_named_too_long_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let error = make(&file, 9 * 4096, 4096, "", Uuid::nil()).unwrap_err().to_string();
        assert!(error.contains("too few"), "{error}");
        let label = "sixteen-letters!";
        let error = make(&file, 1 << 20, 4096, label, Uuid::nil()).unwrap_err().to_string();
        assert!(error.contains("longer than 15"), "{error}");
    }

    #[test]
    fn libblkid_takes_it_for_swap_with_its_label() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4 << 20).unwrap();
        make(file.as_file(), 4 << 20, 4096, "paging", Uuid::from_u128(7)).unwrap();
        let found = crate::mount::probe(file.path()).unwrap().unwrap();
        assert_eq!((found.kind.as_str(), found.label.as_deref()), ("swap", Some("paging")));
    }
}
