//! Files in a directory tree that nobody trusts.
//!
//! Every path is resolved by openat2(2) with the tree as its root, as after a chroot: an absolute
//! link or a `..` in the image stays inside the image.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{Gid, Uid, UnlinkatFlags, syncfs, unlinkat};

use super::FileError;

/// The name under which a file is written before it takes its own. One for all, so that what a
/// killed run left behind is found and removed by the next.
const TEMPORARY: &str = ".nibs-new-file";

/// Permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;

/// Only we may look into a directory until it has the mode it is to have.
const NEW_DIRECTORY: Mode = Mode::S_IRWXU;

/// A directory tree, from its root.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    keeps_owners: bool,
}

/// A file to be written.
#[derive(Clone, Copy)]
pub struct NewFile<'a> {
    /// Absolute path from the root, without `.` or `..`.
    pub path: &'a Path,
    /// Its bytes.
    pub content: &'a [u8],
    /// Its permission bits.
    pub mode: u32,
    /// Permission bits of directories made on the way.
    pub directory_mode: u32,
    /// Owner of the file and of directories made on the way.
    pub uid: u32,
    /// Group of the file and of directories made on the way.
    pub gid: u32,
}

/// Without the content, which may be a secret.
impl std::fmt::Debug for NewFile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes, mode {:04o})", self.path.display(), self.content.len(), self.mode)
    }
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name.
    pub name: OsString,
    /// What it is.
    pub kind: FileKind,
}

/// What a name in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, a device, or what the filesystem does not tell.
    Other,
}

impl Root {
    /// The tree below `path`. `keeps_owners` says whether its filesystem stores owners and modes.
    pub fn open(path: &Path, keeps_owners: bool) -> io::Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = openat(AT_FDCWD, path, flags, Mode::empty())?;
        Ok(Self { directory, keeps_owners })
    }

    /// The tree below one of its directories.
    pub(crate) fn below(&self, directory: OwnedFd) -> Self {
        Self { directory, keeps_owners: self.keeps_owners }
    }

    /// Whether the filesystem stores owners and modes.
    pub(crate) fn keeps_owners(&self) -> bool {
        self.keeps_owners
    }

    /// A directory; the root by an empty path.
    pub(crate) fn open_directory(&self, path: &Path) -> nix::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        self.open_beneath(path, OFlag::O_DIRECTORY)
    }

    /// Waits until all that was written is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        Ok(syncfs(&self.directory)?)
    }

    /// Bytes that are free for those who are not the superuser.
    pub fn free(&self) -> io::Result<u64> {
        let room = fstatvfs(&self.directory)?;
        Ok(room.blocks_available() * room.fragment_size())
    }

    /// Opens the file `path` for reading.
    pub fn open_file(&self, path: &Path) -> Result<File, FileError> {
        self.open_beneath(path, OFlag::O_RDONLY).map(File::from).map_err(|errno| FileError::Io {
            operation: "opening",
            path: path.to_owned(),
            cause: errno.into(),
        })
    }

    /// Reads the regular file `path`, at most `limit` bytes of it.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
        let failed =
            |cause: io::Error| FileError::Io { operation: "reading", path: path.to_owned(), cause };
        let file =
            File::from(self.open_beneath(path, OFlag::O_RDONLY).map_err(|e| failed(e.into()))?);
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// What is in the directory `path`, by name.
    pub fn list(&self, path: &Path) -> Result<Vec<DirectoryEntry>, FileError> {
        let failed = |errno: Errno| FileError::Io {
            operation: "listing",
            path: path.to_owned(),
            cause: errno.into(),
        };
        let fd = self.open_beneath(path, OFlag::O_DIRECTORY).map_err(failed)?;
        let mut entries = Vec::new();
        for entry in Dir::from_fd(fd).map_err(failed)?.iter() {
            let entry = entry.map_err(failed)?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_owned());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                Some(Type::File) => FileKind::File,
                Some(Type::Directory) => FileKind::Directory,
                _ => FileKind::Other,
            };
            entries.push(DirectoryEntry { name, kind });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Writes a file, making directories on the way: at every moment the path holds either what
    /// it held before or all of the new content.
    pub fn write(&self, file: &NewFile<'_>) -> Result<(), FileError> {
        let (parent, name) = split(file)?;
        let directory = self.make_directories(parent, file)?;
        match fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
                // A link itself is replaced, never what it leads to.
                SFlag::S_IFREG | SFlag::S_IFLNK => {}
                SFlag::S_IFDIR => return Err(FileError::IsDirectory { path: file.path.into() }),
                _ => return Err(FileError::IsSpecial { path: file.path.into() }),
            },
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(self.failure("looking at", file, errno.into())),
        }
        remove_temporary(&directory)
            .map_err(|e| self.failure("tidying up beside", file, e.into()))?;
        self.write_temporary(&directory, file)
            .and_then(|()| Ok(renameat(&directory, TEMPORARY, &directory, name)?))
            .and_then(|()| Ok(nix::unistd::fsync(&directory)?))
            .map_err(|error| {
                // The first error is the one to report; the next run removes it too.
                let _ = remove_temporary(&directory);
                self.failure("writing", file, error)
            })
    }

    /// Compares a file with what was to be written.
    pub fn verify(&self, file: &NewFile<'_>) -> Result<(), FileError> {
        let failed = |e| self.failure("reading back", file, e);
        let fd = self.open_beneath(file.path, OFlag::O_RDONLY | OFlag::O_NOFOLLOW);
        let mut on_disk = File::from(fd.map_err(|e| failed(e.into()))?);
        let metadata = on_disk.metadata().map_err(failed)?;
        let differs = |what| Err(FileError::Differs { path: file.path.to_owned(), what });
        if metadata.len() != file.content.len() as u64 {
            return differs("lengths");
        }
        let mut bytes = Vec::with_capacity(file.content.len());
        on_disk.read_to_end(&mut bytes).map_err(failed)?;
        if bytes != file.content {
            return differs("bytes");
        }
        if self.keeps_owners {
            if metadata.mode() & PERMISSIONS != file.mode {
                return differs("permissions");
            }
            if (metadata.uid(), metadata.gid()) != (file.uid, file.gid) {
                return differs("owners");
            }
        }
        Ok(())
    }

    fn open_beneath(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        // Not to wait for the other end of a pipe that an image has in a file's place.
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        openat2(&self.directory, path, OpenHow::new().flags(flags).resolve(resolve))
    }

    fn make_directories(&self, parent: &Path, file: &NewFile<'_>) -> Result<OwnedFd, FileError> {
        let failed = |errno: Errno| self.failure("making directories for", file, errno.into());
        let mut path = PathBuf::from("/");
        let mut directory = self.open_beneath(&path, OFlag::O_DIRECTORY).map_err(failed)?;
        for component in parent.components() {
            let Component::Normal(name) = component else { continue };
            path.push(name);
            directory = match self.open_beneath(&path, OFlag::O_DIRECTORY) {
                Ok(directory) => directory,
                Err(Errno::ENOENT) => match mkdirat(&directory, name, NEW_DIRECTORY) {
                    Ok(()) => {
                        let made = self.open_beneath(&path, OFlag::O_DIRECTORY).map_err(failed)?;
                        self.set_owner_and_mode(&made, file, file.directory_mode)
                            .map_err(failed)?;
                        made
                    }
                    Err(Errno::EEXIST) => {
                        return Err(FileError::DanglingLink { path: file.path.into(), link: path });
                    }
                    Err(errno) => return Err(failed(errno)),
                },
                Err(Errno::ENOTDIR) => {
                    return Err(FileError::NoDirectory { path: file.path.into(), parent: path });
                }
                Err(errno) => return Err(failed(errno)),
            };
        }
        Ok(directory)
    }

    fn write_temporary(&self, directory: &OwnedFd, file: &NewFile<'_>) -> io::Result<()> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let mut temporary = File::from(openat(directory, TEMPORARY, flags, mode)?);
        temporary.write_all(file.content)?;
        self.set_owner_and_mode(&temporary, file, file.mode)?;
        temporary.sync_all()
    }

    fn set_owner_and_mode(&self, fd: &impl AsFd, file: &NewFile<'_>, mode: u32) -> nix::Result<()> {
        if !self.keeps_owners {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(file.uid), Gid::from_raw(file.gid));
        // The owner first: the kernel clears set-user-id bits when it changes.
        nix::unistd::fchown(fd, Some(uid), Some(gid))?;
        nix::sys::stat::fchmod(fd, Mode::from_bits_truncate(mode))
    }

    fn failure(&self, operation: &'static str, file: &NewFile<'_>, cause: io::Error) -> FileError {
        let path = file.path.to_owned();
        match (cause.raw_os_error(), fstatvfs(&self.directory)) {
            (Some(libc::ENOSPC), Ok(room)) => FileError::Full {
                path,
                needed: file.content.len() as u64,
                free: room.blocks_free() * room.fragment_size(),
                free_inodes: room.files_free(),
            },
            _ => FileError::Io { operation, path, cause },
        }
    }
}

fn split<'a>(file: &NewFile<'a>) -> Result<(&'a Path, &'a OsStr), FileError> {
    match (file.path.parent(), file.path.file_name()) {
        (Some(parent), Some(name)) if !name.as_bytes().contains(&0) => Ok((parent, name)),
        _ => Err(FileError::IsDirectory { path: file.path.into() }),
    }
}

fn remove_temporary(directory: &OwnedFd) -> nix::Result<()> {
    match unlinkat(directory, TEMPORARY, UnlinkatFlags::NoRemoveDir) {
        Err(errno) if errno != Errno::ENOENT => Err(errno),
        _ => Ok(()),
    }
}
