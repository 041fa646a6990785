//! The file systems of the kernel, where programs look for them.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC, TMPFS_MAGIC, statfs};

/// Of `devpts` and `efivarfs` (linux/magic.h).
const DEVPTS_SUPER_MAGIC: FsType = FsType(0x1cd1);
const EFIVARFS_MAGIC: FsType = FsType(0xde5e_81e4);

/// Links that udev would make in `/dev`.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

struct Mount {
    kind: &'static str,
    place: &'static str,
    flags: MsFlags,
    options: &'static str,
    magic: FsType,
    /// Mounted only if this is there.
    needs: &'static str,
}

const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

fn mounts() -> [Mount; 7] {
    let mount = |kind, place, flags, options, magic| Mount {
        kind,
        place,
        flags,
        options,
        magic,
        needs: "/",
    };
    let efi = mount("efivarfs", "/sys/firmware/efi/efivars", SAFE, "", EFIVARFS_MAGIC);
    let no_suid = MsFlags::MS_NOSUID;
    let run = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
    [
        mount("proc", "/proc", SAFE, "", PROC_SUPER_MAGIC),
        mount("sysfs", "/sys", SAFE, "", SYSFS_MAGIC),
        mount("devtmpfs", "/dev", no_suid, "mode=0755", TMPFS_MAGIC),
        mount("devpts", "/dev/pts", no_suid, "mode=0620,ptmxmode=0666", DEVPTS_SUPER_MAGIC),
        mount("tmpfs", "/run", run, "mode=0755", TMPFS_MAGIC),
        mount("tmpfs", "/tmp", run, "mode=1777", TMPFS_MAGIC),
        Mount { needs: "/sys/firmware/efi", ..efi },
    ]
}

/// Mounts them all. What cannot be mounted is a warning; what is mounted already stays.
pub(super) fn mount_all() -> Vec<String> {
    let mut warnings = Vec::new();
    for Mount { kind, place, flags, options, magic, needs } in mounts() {
        if !Path::new(needs).exists() || is_mounted(place, magic) {
            continue;
        }
        // Where the folder belongs to the kernel this fails, and the mount says why.
        let _ = fs::create_dir_all(place);
        match mount(Some(kind), place, Some(kind), flags, Some(options)) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(e) => warnings.push(format!("mounting {kind} at {place}: {}", e.desc())),
        }
    }
    for (target, link) in LINKS {
        // Only for convenience, and there already if the kernel came from another init.
        let _ = symlink(target, link);
    }
    warnings
}

/// Whether a place shows this kind of file system as its own root, as one that is mounted does.
fn is_mounted(place: &str, magic: FsType) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let place = Path::new(place);
    let is_own_root = device(place) != place.parent().and_then(device);
    is_own_root && statfs(place).is_ok_and(|found| found.filesystem_type() == magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_is_seen() {
        assert!(is_mounted("/proc", PROC_SUPER_MAGIC));
        assert!(!is_mounted("/proc/self", PROC_SUPER_MAGIC), "a folder of a file system");
        assert!(!is_mounted("/proc", SYSFS_MAGIC));
        assert!(!is_mounted("/nowhere", PROC_SUPER_MAGIC));
    }

    #[test]
    fn a_place_comes_after_the_one_that_it_lies_in() {
        let places = mounts().map(|mount| mount.place);
        for (at, place) in places.iter().enumerate() {
            let within = places.iter().rposition(|p| place.starts_with(p) && p != place);
            assert!(within.is_none_or(|outer| outer < at), "{place}");
        }
    }
}
