//! The initramfs of the virtual machine: Debian's programs in a cpio archive that changes rarely,
//! and behind it another with what is ours, which the kernel unpacks over it (Linux
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use cpio::newc;

/// Where the agent is in the machine.
pub(super) const AGENT: &str = "/nibs";

/// Archives start at multiples of this, bytes.
const ALIGNMENT: u64 = 4;
/// Modes of a program and of a character device that its owner may read and write.
const PROGRAM: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;
/// The kernel opens it for process 1 before devtmpfs is mounted. Major and minor.
const CONSOLE: (u32, u32) = (5, 1);
/// Rust's runtime opens it before `main`, should there be no console.
const NULL: (u32, u32) = (1, 3);

/// Makes the initramfs from the archive of Debian's programs: with the agent, and with this program
/// as process 1.
pub(super) fn make(base: &Path, agent: &Path, to: &Path) -> Result<()> {
    let this = std::env::current_exe().context("finding this program")?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let ours = archive(&[(AGENT, &read(agent)?), ("/init", &read(&this)?)])?;
    let mut base_file = File::open(base).with_context(|| format!("opening {}", base.display()))?;
    let mut write = || {
        let mut file = File::create(to)?;
        let length = io::copy(&mut base_file, &mut file)?;
        file.set_len(length.next_multiple_of(ALIGNMENT))?;
        let mut file = File::options().append(true).open(to)?;
        file.write_all(&ours)
    };
    write().with_context(|| format!("writing {}", to.display()))
}

/// An archive of these programs, and of the devices that are needed first.
fn archive(programs: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (name, (major, minor)) in [("dev/console", CONSOLE), ("dev/null", NULL)] {
        let header = newc::Builder::new(name).mode(DEVICE).rdev_major(major).rdev_minor(minor);
        header.write(&mut archive, 0).finish().context("packing a device")?;
    }
    for (inode, (name, content)) in (1..).zip(programs) {
        let size = u32::try_from(content.len()).context("newc holds files below 4 GiB")?;
        let header = newc::Builder::new(name.trim_start_matches('/')).ino(inode).mode(PROGRAM);
        let mut writer = header.write(&mut archive, size);
        writer.write_all(content).and_then(|()| writer.finish().map(drop)).context("packing")?;
    }
    newc::trailer(&mut archive).context("closing the archive")?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_comes_behind_debians_at_a_multiple_of_four() {
        let directory = tempfile::tempdir().unwrap();
        let [base, agent, to] = ["base", "agent", "to"].map(|name| directory.path().join(name));
        fs::write(&base, b"12345").unwrap();
        fs::write(&agent, b"the agent").unwrap();
        make(&base, &agent, &to).unwrap();
        let made = fs::read(&to).unwrap();
        assert_eq!(&made[..8], b"12345\0\0\0");
        let mut rest = &made[8..];
        let mut found = Vec::new();
        loop {
            let reader = newc::Reader::new(rest).unwrap();
            let entry = reader.entry();
            if entry.is_trailer() {
                break;
            }
            found.push((entry.name().to_owned(), entry.mode(), entry.rdev_minor()));
            rest = reader.finish().unwrap();
        }
        let entry = |name: &str, mode, minor| (name.to_owned(), mode, minor);
        let expected = [
            entry("dev/console", DEVICE, 1),
            entry("dev/null", DEVICE, 3),
            entry("nibs", PROGRAM, 0),
            entry("init", PROGRAM, 0),
        ];
        assert_eq!(found, expected);
    }
}
