//! What filesystem a device holds.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use blkid::prober::{ProbeState, Prober};
use nibs_job::params::Filesystem;

use super::MountError;

/// How long the kernel may take to make a partition's node. Without udev it is there at once;
/// slow controllers and loop devices rescan first.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);
const NODE_POLL: Duration = Duration::from_millis(50);

/// What libblkid knows of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemInfo {
    /// Type as libblkid names it: `ext4`, `vfat`, `swap`, `crypto_LUKS`, …
    pub kind: String,
    /// Label, if it has one that is UTF-8.
    pub label: Option<String>,
}

/// Type and label of what is on `device`; `None` if nothing known is.
pub fn probe(device: &Path) -> Result<Option<FilesystemInfo>, MountError> {
    let failed = |cause| MountError::Probe { device: device.to_owned(), cause };
    let prober = Prober::new_from_filename(device).map_err(failed)?;
    match prober.do_safe_probe().map_err(failed)? {
        ProbeState::Ambivalent => Err(MountError::Ambiguous { device: device.to_owned() }),
        ProbeState::NothingDetected | ProbeState::Done => Ok(None),
        ProbeState::Success => {
            let value = |name| prober.lookup_value(name).ok();
            Ok(value("TYPE").map(|kind| FilesystemInfo { kind, label: value("LABEL") }))
        }
    }
}

/// The driver for what is on `device`, which has to be `wanted` if that is given.
pub fn mountable(device: &Path, wanted: Option<Filesystem>) -> Result<Filesystem, MountError> {
    let found = probe(device)?.map(|info| info.kind);
    let filesystem = match found.as_deref() {
        Some("ext2" | "ext3" | "ext4") => Some(Filesystem::Ext4),
        Some("vfat") => Some(Filesystem::Vfat),
        Some("xfs") => Some(Filesystem::Xfs),
        Some("btrfs") => Some(Filesystem::Btrfs),
        _ => None,
    };
    match filesystem {
        Some(filesystem) if wanted.is_none_or(|wanted| wanted == filesystem) => Ok(filesystem),
        _ => Err(MountError::WrongFilesystem {
            device: device.to_owned(),
            expected: wanted.map_or("ext4, vfat, xfs or btrfs", Filesystem::as_str),
            found,
        }),
    }
}

/// Waits until `device` is a block device.
pub fn wait_for_node(device: &Path) -> Result<(), MountError> {
    wait_until(device, NODE_TIMEOUT)
}

fn wait_until(device: &Path, timeout: Duration) -> Result<(), MountError> {
    let deadline = Instant::now() + timeout;
    let is_there =
        || device.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device());
    while !is_there() {
        if Instant::now() >= deadline {
            return Err(MountError::NoNode { device: device.to_owned(), waited: timeout });
        }
        thread::sleep(NODE_POLL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_never_comes_is_an_error_that_names_it() {
        let error = wait_until(Path::new("/dev/null"), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("/dev/null"), "{error}");
    }

    #[test]
    fn nothing_known_is_no_filesystem_to_mount() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        assert_eq!(probe(file.path()).unwrap(), None);
        let error = mountable(file.path(), None).unwrap_err().to_string();
        assert!(
            error.ends_with("expected ext4, vfat, xfs or btrfs, found no filesystem"),
            "{error}"
        );
        assert!(matches!(probe(Path::new("/absent")), Err(MountError::Probe { .. })));
    }
}
