//! The kernel's view of the firmware's variables: one file each (Documentation/filesystems/efivarfs.rst).
//!
//! A file's first four bytes are the attributes. One `write` sets the whole variable: the kernel
//! passes each on to the firmware as it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::variables::{Attributes, Variable, VariableError, Variables, vendor};

const ATTRIBUTES_SIZE: usize = 4;

/// `FS_IMMUTABLE_FL` of linux/fs.h: the kernel sets it on every variable it does not know, lest
/// `rm -rf` brick a machine.
const IMMUTABLE: libc::c_long = 0x10;

/// Variables in a mounted efivarfs.
#[derive(Debug)]
pub struct Efivarfs {
    root: PathBuf,
}

impl Efivarfs {
    /// The store mounted at `root`; `None` if there is none: the machine was not booted by UEFI,
    /// its runtime services are off, or efivarfs is not mounted.
    pub fn open(root: &Path) -> Option<Self> {
        let mut entries = fs::read_dir(root).ok()?;
        entries.next().map(|_| Self { root: root.to_owned() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.join(file_name(name))
    }
}

impl Variables for Efivarfs {
    fn read(&self, name: &str) -> Result<Option<Variable>, VariableError> {
        let failed = |e| VariableError::new("reading", name, e);
        let bytes = match fs::read(self.file(name)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        match bytes.split_first_chunk::<ATTRIBUTES_SIZE>() {
            Some((attributes, data)) => Ok(Some(Variable {
                attributes: Attributes(u32::from_le_bytes(*attributes)),
                data: data.to_owned(),
            })),
            // A file that was made but whose write the firmware refused.
            None if bytes.is_empty() => Ok(None),
            None => Err(failed(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn write(&mut self, name: &str, variable: &Variable) -> Result<(), VariableError> {
        let path = self.file(name);
        let existed = path.exists();
        write_whole(&path, variable).map_err(|e| {
            if !existed {
                // The file alone, without a variable behind it, is worth no second error.
                let _ = self.delete(name);
            }
            VariableError::new("writing", name, e)
        })
    }

    fn delete(&mut self, name: &str) -> Result<(), VariableError> {
        let path = self.file(name);
        let removed = File::open(&path)
            .and_then(|file| clear_immutable(&file))
            .and_then(|()| fs::remove_file(&path));
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(VariableError::new("removing", name, e))
            }
            _ => Ok(()),
        }
    }

    fn list(&self) -> Result<Vec<String>, VariableError> {
        let failed = |e| VariableError::new("listing", "*", e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let found = entry.map_err(failed)?.file_name();
            let name = found.to_str().and_then(|found| found.split_once('-')).map(|(name, _)| name);
            names.extend(name.filter(|name| *found == *file_name(name)).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }
}

fn file_name(name: &str) -> String {
    format!("{name}-{}", vendor(name))
}

fn write_whole(path: &Path, variable: &Variable) -> io::Result<()> {
    if let Ok(file) = File::open(path) {
        clear_immutable(&file)?;
    }
    let mut bytes = variable.attributes.0.to_le_bytes().to_vec();
    bytes.extend_from_slice(&variable.data);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path)?;
    match file.write(&bytes)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

mod ioctl {
    //! `FS_IOC_GETFLAGS` and `FS_IOC_SETFLAGS` of linux/fs.h.
    #![allow(missing_docs)]
    nix::ioctl_read!(get_flags, b'f', 1, libc::c_long);
    nix::ioctl_write_ptr!(set_flags, b'f', 2, libc::c_long);
}

fn clear_immutable(file: &File) -> io::Result<()> {
    let mut flags: libc::c_long = 0;
    // SAFETY: the kernel writes one int through a pointer to a long that lives long enough.
    #[allow(unsafe_code)]
    let read = unsafe { ioctl::get_flags(file.as_raw_fd(), &raw mut flags) };
    // A filesystem without these flags has nothing to clear.
    if read.is_err() || flags & IMMUTABLE == 0 {
        return Ok(());
    }
    flags &= !IMMUTABLE;
    // SAFETY: the kernel reads one int through a pointer to a long that lives long enough.
    #[allow(unsafe_code)]
    unsafe { ioctl::set_flags(file.as_raw_fd(), &raw const flags) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::efi::GLOBAL_VENDOR;

    fn store() -> (tempfile::TempDir, Efivarfs) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(format!("Lang-{GLOBAL_VENDOR}")), [7, 0, 0, 0, b'e'])
            .unwrap();
        let store = Efivarfs::open(directory.path()).unwrap();
        (directory, store)
    }

    #[test]
    fn a_variable_is_a_file_that_begins_with_its_attributes() {
        let (directory, mut store) = store();
        let order = Variable { attributes: Attributes::BOOT_VARIABLE, data: vec![1, 0, 0, 0] };
        store.write("BootOrder", &order).unwrap();
        let file = directory.path().join("BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c");
        assert_eq!(fs::read(file).unwrap(), [7, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(store.read("BootOrder").unwrap(), Some(order));
        assert_eq!(store.list().unwrap(), ["BootOrder", "Lang"]);
        store.delete("BootOrder").unwrap();
        store.delete("BootOrder").unwrap();
        assert_eq!(store.read("BootOrder").unwrap(), None);
    }

    #[test]
    fn a_signature_database_is_of_a_vendor_of_its_own() {
        let (directory, mut store) = store();
        let db = Variable { attributes: Attributes::AUTHENTICATED, data: vec![9] };
        store.write("db", &db).unwrap();
        let file = directory.path().join("db-d719b2cb-3d3a-4596-a3bc-dad00e67656f");
        assert_eq!(fs::read(file).unwrap(), [0x27, 0, 0, 0, 9]);
        fs::write(directory.path().join(format!("dbx-{GLOBAL_VENDOR}")), [7, 0, 0, 0]).unwrap();
        assert_eq!(store.read("dbx").unwrap(), None);
        assert_eq!(store.list().unwrap(), ["Lang", "db"]);
    }

    #[test]
    fn other_vendors_and_foreign_files_are_not_listed() {
        let (directory, store) = store();
        fs::write(directory.path().join("Boot0000-00000000-0000-0000-0000-000000000000"), "")
            .unwrap();
        fs::write(directory.path().join("odd"), "").unwrap();
        assert_eq!(store.list().unwrap(), ["Lang"]);
    }

    #[test]
    fn an_empty_file_is_no_variable_and_a_cut_one_is_an_error() {
        let (directory, store) = store();
        fs::write(directory.path().join(format!("Empty-{GLOBAL_VENDOR}")), "").unwrap();
        fs::write(directory.path().join(format!("Cut-{GLOBAL_VENDOR}")), [7, 0]).unwrap();
        assert_eq!(store.read("Empty").unwrap(), None);
        assert!(store.read("Cut").is_err());
    }

    #[test]
    fn a_directory_that_is_absent_or_empty_is_no_store() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Efivarfs::open(directory.path()).is_none());
        assert!(Efivarfs::open(&directory.path().join("absent")).is_none());
    }
}
