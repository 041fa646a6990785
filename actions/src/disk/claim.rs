//! Having a disk to oneself for as long as it is written.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use super::{Disk, Error, Result, busy};
use crate::Machine;

/// How long another's short look at the disk (udev probing it) is waited out.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// A disk that nobody else mounts, and that udev leaves alone, for as long as this lives.
#[derive(Debug)]
pub struct Claim {
    disk: Disk,
    file: File,
}

impl Claim {
    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The disk, opened for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Claims a disk: refuses one in use and says by what, opens it exclusively (`O_EXCL` of a block
/// device keeps others from mounting it) and locks it (by which udev knows to leave it alone).
pub fn claim(machine: &Machine, disk: &Disk) -> Result<Claim> {
    if disk.read_only {
        return Err(Error::ReadOnly { path: disk.path.clone() });
    }
    let patience = Instant::now() + PATIENCE;
    let file = loop {
        let uses = busy(machine, disk)?;
        if !uses.is_empty() {
            return Err(Error::Busy { path: disk.path.clone(), uses });
        }
        match open_locked(disk) {
            Ok(file) => break file,
            Err(Error::Claimed { .. }) if Instant::now() < patience => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    };
    Ok(Claim { disk: disk.clone(), file })
}

fn open_locked(disk: &Disk) -> Result<File> {
    let path = &disk.path;
    let claimed = || Error::Claimed { path: path.clone() };
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
        .open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(claimed()),
        opened => opened.map_err(Error::io("opening", path))?,
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(claimed()),
        Err(TryLockError::Error(cause)) => Err(Error::io("locking", path)(cause)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::list::tests::FakeMachine;
    use super::super::open_named;
    use super::*;

    fn fake(attributes: &[(&str, &str)]) -> (FakeMachine, Disk) {
        let fake = FakeMachine::new();
        fake.disk("vda", 1 << 20, attributes);
        fake.write(&fake.machine.proc.join("self/mountinfo"), "");
        let disk = open_named(&fake.machine, Path::new("/dev/vda")).unwrap().unwrap();
        (fake, disk)
    }

    #[test]
    fn a_claimed_disk_cannot_be_claimed_again_until_it_is_let_go() {
        let (fake, disk) = fake(&[]);
        let held = claim(&fake.machine, &disk).unwrap();
        let error = open_locked(&disk).unwrap_err();
        assert!(matches!(error, Error::Claimed { .. }), "{error}");
        drop(held);
        claim(&fake.machine, &disk).unwrap();
    }

    #[test]
    fn a_read_only_disk_is_refused() {
        let (fake, disk) = fake(&[("ro", "1")]);
        let error = claim(&fake.machine, &disk).unwrap_err().to_string();
        assert!(error.contains("read-only"), "{error}");
    }

    #[test]
    fn a_mounted_disk_is_refused_with_its_mount() {
        let (fake, disk) = fake(&[("dev", "252:0")]);
        let line = "23 1 252:0 / /srv rw - ext4 /dev/vda rw";
        fake.write(&fake.machine.proc.join("self/mountinfo"), line);
        let error = claim(&fake.machine, &disk).unwrap_err().to_string();
        assert!(error.contains("vda is in use: vda is mounted at /srv"), "{error}");
    }
}
