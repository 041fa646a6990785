//! The initramfs: the agent as `/init`, CA roots, mount points, and nothing else.
//!
//! A newc cpio archive (Linux `Documentation/driver-api/early-userspace/buffer-format.rst`) in one
//! zstd frame. Entries are sorted, owned by root and dated 0, so equal inputs give equal bytes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cpio::newc;

use crate::output::Output;

/// Strongest level without a window that kernels refuse (8 MiB is their least).
const ZSTD_LEVEL: i32 = 19;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Major and minor of `/dev/console` (Linux `Documentation/admin-guide/devices.txt`). The kernel
/// opens it for PID 1 before devtmpfs is mounted.
const CONSOLE: (u32, u32) = (5, 1);

/// Those of `/dev/null`. Where the kernel has no console, Rust's runtime opens it for PID 1 before
/// `main`, and aborts if it cannot: the kernel would panic.
const NULL: (u32, u32) = (1, 3);

struct Entry<'a> {
    name: &'a str,
    mode: u32,
    device: (u32, u32),
    data: &'a [u8],
}

const fn directory(name: &str, permissions: u32) -> Entry<'_> {
    Entry { name, mode: DIRECTORY | permissions, device: (0, 0), data: &[] }
}

const fn file<'a>(name: &'a str, permissions: u32, data: &'a [u8]) -> Entry<'a> {
    Entry { name, mode: REGULAR | permissions, device: (0, 0), data }
}

/// The initramfs that holds the program `agent` and the PEM bundle `ca`.
pub fn build(agent: &[u8], ca: &[u8]) -> Result<Vec<u8>> {
    // Sorted, and each directory before what is in it.
    let entries = [
        directory("dev", 0o755),
        Entry { name: "dev/console", mode: CHARACTER_DEVICE | 0o600, device: CONSOLE, data: &[] },
        Entry { name: "dev/null", mode: CHARACTER_DEVICE | 0o666, device: NULL, data: &[] },
        directory("etc", 0o755),
        directory("etc/ssl", 0o755),
        directory("etc/ssl/certs", 0o755),
        file("etc/ssl/certs/ca-certificates.crt", 0o644, ca),
        file("init", 0o755, agent),
        directory("mnt", 0o755),
        directory("proc", 0o555),
        directory("run", 0o755),
        directory("sys", 0o555),
        directory("tmp", 0o1777),
    ];
    let mut archive = Vec::new();
    for (inode, entry) in (1..).zip(&entries) {
        append(&mut archive, inode, entry).with_context(|| format!("packing /{}", entry.name))?;
    }
    newc::trailer(&mut archive).context("closing the archive")?;
    zstd::bulk::compress(&archive, ZSTD_LEVEL).context("compressing the archive")
}

fn append(archive: &mut Vec<u8>, inode: u32, entry: &Entry<'_>) -> Result<()> {
    let size = u32::try_from(entry.data.len()).context("newc holds files below 4 GiB")?;
    let links = if entry.mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
    let header = newc::Builder::new(entry.name)
        .ino(inode)
        .mode(entry.mode)
        .nlink(links)
        .rdev_major(entry.device.0)
        .rdev_minor(entry.device.1);
    let mut writer = header.write(archive, size);
    std::io::Write::write_all(&mut writer, entry.data)?;
    writer.finish()?;
    Ok(())
}

/// Writes to `out` the initramfs of the files `agent` and `ca`.
pub fn write(agent: &Path, ca: &Path, out: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let initramfs = build(&read(agent)?, &read(ca)?)?;
    let output = Output::new(out)?;
    let made = output.scratch("initramfs");
    fs::write(&made, initramfs).with_context(|| format!("writing {}", made.display()))?;
    output.finish(&made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn unpack(initramfs: &[u8]) -> Vec<(newc::Entry, Vec<u8>)> {
        let archive = zstd::decode_all(initramfs).unwrap();
        let mut rest = archive.as_slice();
        let mut entries = Vec::new();
        loop {
            let mut reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return entries;
            }
            let mut data = Vec::new();
            reader.read_to_end(&mut data).unwrap();
            entries.push((reader.entry().clone(), data));
            rest = reader.finish().unwrap();
        }
    }

    #[test]
    fn it_holds_the_agent_the_roots_and_the_mount_points_only() {
        let initramfs = build(b"agent", b"roots").unwrap();
        let entries = unpack(&initramfs);
        let listing: Vec<_> = entries
            .iter()
            .map(|(entry, data)| format!("{:06o} {} {}", entry.mode(), entry.name(), data.len()))
            .collect();
        assert_eq!(
            listing,
            [
                "040755 dev 0",
                "020600 dev/console 0",
                "020666 dev/null 0",
                "040755 etc 0",
                "040755 etc/ssl 0",
                "040755 etc/ssl/certs 0",
                "100644 etc/ssl/certs/ca-certificates.crt 5",
                "100755 init 5",
                "040755 mnt 0",
                "040555 proc 0",
                "040755 run 0",
                "040555 sys 0",
                "041777 tmp 0",
            ]
        );
        let data = |name| &entries.iter().find(|(entry, _)| entry.name() == name).unwrap().1;
        assert_eq!(data("init"), b"agent");
        assert_eq!(data("etc/ssl/certs/ca-certificates.crt"), b"roots");
        for (entry, _) in &entries {
            assert_eq!((entry.uid(), entry.gid(), entry.mtime()), (0, 0, 0), "{}", entry.name());
        }
        let devices: Vec<_> =
            entries[1..3].iter().map(|(e, _)| (e.rdev_major(), e.rdev_minor())).collect();
        assert_eq!(devices, [(5, 1), (1, 3)]);
    }

    #[test]
    fn entries_are_sorted_and_inodes_differ() {
        let entries = unpack(&build(b"", b"").unwrap());
        assert!(entries.is_sorted_by(|a, b| a.0.name() < b.0.name()));
        assert!(entries.is_sorted_by(|a, b| a.0.ino() < b.0.ino()));
    }

    #[test]
    fn two_builds_are_byte_identical() {
        let agent: Vec<u8> = (0..1_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        assert_eq!(build(&agent, b"roots").unwrap(), build(&agent, b"roots").unwrap());
    }

    #[test]
    fn a_missing_agent_is_named_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("initramfs");
        let error = write(&dir.path().join("nibs"), Path::new("/dev/null"), &out).unwrap_err();
        assert!(error.to_string().ends_with("/nibs"), "{error}");
        assert!(!out.exists());
    }
}
