//! Members of an archive in their places: below one directory, whatever their names and links say.
//!
//! The directory is the root of every path, as after a chroot: an absolute link, or one with `..`,
//! stays inside. A name with `..` is refused.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nibs_job::Class;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, futimens, makedev,
    mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};

use super::members::{Kind, Member, Members, Trouble};
use crate::Context;
use crate::mount::{FileError, Root};

/// How much of a file is copied at once; holes are made of zeros of a block's length. Bytes.
const COPY: usize = 128 << 10;
const HOLE: usize = 4096;

/// Permissions of directories that no member of the archive describes.
const UNDESCRIBED: Mode = Mode::from_bits_truncate(0o755);

/// Permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;

/// Why a member cannot be put where it belongs.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// It would be elsewhere.
    #[error("its name leads out of the archive; expected one without `..`")]
    Outside,
    /// What it is another name of is not there.
    #[error("it is a hard link to {target:?}, which is not there")]
    NoTarget {
        /// What it is to be.
        target: String,
    },
    /// Its bytes are not as described.
    #[error("{0}")]
    Malformed(String),
    /// Its bytes cannot be read.
    #[error("reading it: {0}")]
    Read(io::Error),
    /// The kernel refused.
    #[error("{doing}: {cause}")]
    Io {
        /// What was being done, in the gerund.
        doing: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

impl EntryError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Outside | Self::NoTarget { .. } | Self::Malformed(_) => Class::InvalidInput,
            Self::Read(_) | Self::Io { .. } => Class::Environment,
        }
    }
}

impl From<Trouble> for EntryError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Malformed(cause) => Self::Malformed(cause),
            Trouble::Io(error) => Self::Read(error),
        }
    }
}

type Result<T> = std::result::Result<T, EntryError>;

fn doing(doing: &'static str) -> impl Fn(Errno) -> EntryError {
    move |errno| EntryError::Io { doing, cause: errno.into() }
}

/// The directory that an archive is extracted into.
pub(super) struct Tree {
    root: Root,
    /// Directories, whose times and permissions are set when nothing more comes into them.
    directories: Vec<(PathBuf, u32, (i64, u32))>,
    /// The directory of the last member, which is most often that of the next.
    last: Option<(PathBuf, OwnedFd)>,
    bytes: u64,
    /// Names of extended attributes that the filesystem does not take, of one file each.
    refused: Vec<String>,
}

impl Tree {
    /// The directory `path` of a filesystem, made if it is not there.
    pub(super) fn open(root: &Root, path: &Path) -> std::result::Result<Self, FileError> {
        let failed = |errno: Errno| FileError::Io {
            operation: "making the directory",
            path: path.to_owned(),
            cause: errno.into(),
        };
        let directory = directory(root, path, Obstacle::Stays).map_err(failed)?;
        let root = root.below(directory);
        Ok(Self { root, directories: Vec::new(), last: None, bytes: 0, refused: Vec::new() })
    }

    /// Puts a member into its place, with its bytes.
    pub(super) fn put(&mut self, member: &Member, bytes: &mut Members<'_>) -> Result<()> {
        let path = inside(&member.name)?;
        let Some(name) = path.file_name() else {
            // The archive's own root.
            self.directories.push((path, member.mode, member.mtime));
            return self.own(member);
        };
        let parent = self.parent(path.parent().unwrap_or(Path::new("")))?;
        if let Kind::Directory = member.kind {
            self.make_directory(&parent, name, member)?;
            self.directories.push((path.clone(), member.mode, member.mtime));
        } else if let Kind::Hardlink(target) = &member.kind {
            self.link(&parent, name, target)?;
        } else {
            remove(&parent, name).map_err(doing("replacing what is there"))?;
            match &member.kind {
                Kind::File { size, extents } => {
                    self.write(&parent, name, member, (*size, extents), bytes)?;
                }
                _ => self.make_special(&parent, name, member)?,
            }
        }
        self.last = Some((path.parent().unwrap_or(Path::new("")).to_owned(), parent));
        Ok(())
    }

    /// Sets what had to wait, and says how many bytes of files there were.
    pub(super) fn finish(self, context: &Context) -> std::result::Result<u64, crate::Error> {
        // What is inside comes after what it is in.
        for (path, mode, mtime) in self.directories.iter().rev() {
            let set = || {
                let directory = self.root.open_directory(path)?;
                if self.root.keeps_owners() {
                    fchmod(&directory, Mode::from_bits_truncate(mode & PERMISSIONS))?;
                }
                let time = TimeSpec::new(mtime.0, mtime.1.into());
                futimens(&directory, &time, &time)
            };
            set().map_err(|errno| FileError::Io {
                operation: "setting time and permissions of",
                path: path.clone(),
                cause: errno.into(),
            })?;
        }
        if !self.refused.is_empty() {
            context.sink.warning(format!(
                "the filesystem takes no extended attributes of some kind, which were left out: {}",
                self.refused.join(", ")
            ));
        }
        Ok(self.bytes)
    }

    fn parent(&mut self, path: &Path) -> Result<OwnedFd> {
        match self.last.take() {
            Some((last, directory)) if last == path => Ok(directory),
            _ => directory(&self.root, path, Obstacle::Goes)
                .map_err(doing("making the directories above it")),
        }
    }

    fn make_directory(&mut self, parent: &OwnedFd, name: &OsStr, member: &Member) -> Result<()> {
        let path = inside(&member.name)?;
        // A link to a directory does as well: systems have /bin and /lib as links.
        match self.root.open_directory(&path) {
            Ok(_) => {}
            Err(errno) if is_no_directory(errno) => {
                remove(parent, name).map_err(doing("replacing what is there"))?;
                mkdirat(parent, name, UNDESCRIBED).map_err(doing("making the directory"))?;
            }
            Err(errno) => return Err(doing("opening the directory")(errno)),
        }
        self.own(member)
    }

    /// Gives a directory its owner and attributes.
    fn own(&mut self, member: &Member) -> Result<()> {
        let path = inside(&member.name)?;
        let directory = self.root.open_directory(&path).map_err(doing("opening the directory"))?;
        self.set_owner(&directory, member)?;
        self.set_attributes(&directory, member)
    }

    fn write(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        member: &Member,
        (size, extents): (u64, &[(u64, u64)]),
        bytes: &mut Members<'_>,
    ) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let made = openat(parent, name, flags | OFlag::O_CLOEXEC, mode);
        let mut file = File::from(made.map_err(doing("making the file"))?);
        let io = |doing| move |cause| EntryError::Io { doing, cause };
        let mut buffer = vec![0; COPY];
        for (offset, length) in extents {
            file.seek(SeekFrom::Start(*offset)).map_err(io("writing it"))?;
            let mut left = *length;
            while left > 0 {
                let step = &mut buffer[..left.min(COPY as u64) as usize];
                bytes.read_exact(step)?;
                write_sparsely(&mut file, step).map_err(io("writing it"))?;
                left -= step.len() as u64;
            }
        }
        // What ends with a hole ends where it says.
        file.set_len(size).map_err(io("setting its length"))?;
        self.set_owner(&file, member)?;
        if self.root.keeps_owners() {
            let mode = Mode::from_bits_truncate(member.mode & PERMISSIONS);
            fchmod(&file, mode).map_err(doing("setting its permissions"))?;
        }
        // A change of owner takes file capabilities away.
        self.set_attributes(&file, member)?;
        let time = TimeSpec::new(member.mtime.0, member.mtime.1.into());
        futimens(&file, &time, &time).map_err(doing("setting its time"))?;
        self.bytes += size;
        Ok(())
    }

    fn link(&self, parent: &OwnedFd, name: &OsStr, target: &[u8]) -> Result<()> {
        let missing = || EntryError::NoTarget { target: String::from_utf8_lossy(target).into() };
        let path = inside(target)?;
        let of = path.file_name().ok_or_else(missing)?;
        let above = path.parent().unwrap_or(Path::new(""));
        let found = self.root.open_directory(above).and_then(|directory| {
            let found = fstatat(&directory, of, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            Ok((directory, found))
        });
        let (directory, found) = match found {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Err(missing()),
            found => found.map_err(doing("looking at what it is a link to"))?,
        };
        match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // Already one and the same, such as a link to itself, which GNU tar makes of a file that it
            // was told of twice.
            Ok(here) if (here.st_dev, here.st_ino) == (found.st_dev, found.st_ino) => return Ok(()),
            _ => remove(parent, name).map_err(doing("replacing what is there"))?,
        }
        linkat(&directory, of, parent, name, AtFlags::empty()).map_err(doing("linking it"))
    }

    fn make_special(&self, parent: &OwnedFd, name: &OsStr, member: &Member) -> Result<()> {
        let mode = Mode::from_bits_truncate(member.mode & PERMISSIONS);
        let node = |kind, device| {
            mknodat(parent, name, kind, mode, device)?;
            // The process's mask does not count.
            fchmodat(parent, name, mode, FchmodatFlags::FollowSymlink)
        };
        let device = |major: &u32, minor: &u32| makedev((*major).into(), (*minor).into());
        let made = match &member.kind {
            Kind::Symlink(target) => symlinkat(OsStr::from_bytes(target), parent, name),
            Kind::CharDevice(major, minor) => node(SFlag::S_IFCHR, device(major, minor)),
            Kind::BlockDevice(major, minor) => node(SFlag::S_IFBLK, device(major, minor)),
            Kind::Fifo => node(SFlag::S_IFIFO, 0),
            Kind::File { .. } | Kind::Directory | Kind::Hardlink(_) => Ok(()),
        };
        made.map_err(doing("making it"))?;
        if self.root.keeps_owners() {
            let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
            let owned = fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW);
            owned.map_err(doing("setting its owner"))?;
            if !matches!(member.kind, Kind::Symlink(_)) && member.mode & 0o6000 != 0 {
                let set = fchmodat(parent, name, mode, FchmodatFlags::FollowSymlink);
                set.map_err(doing("setting its permissions"))?;
            }
        }
        let time = TimeSpec::new(member.mtime.0, member.mtime.1.into());
        utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(doing("setting its time"))
    }

    fn set_owner(&self, fd: &impl AsFd, member: &Member) -> Result<()> {
        if !self.root.keeps_owners() {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
        fchown(fd, Some(uid), Some(gid)).map_err(doing("setting its owner"))
    }

    fn set_attributes(&mut self, fd: &impl AsFd, member: &Member) -> Result<()> {
        for (name, value) in &member.xattrs {
            let shown = String::from_utf8_lossy(name).into_owned();
            match set_attribute(fd, name, value) {
                Ok(()) => {}
                Err(Errno::EOPNOTSUPP) => {
                    if !self.refused.contains(&shown) {
                        self.refused.push(shown);
                    }
                }
                Err(errno) => return Err(doing("setting its extended attributes")(errno)),
            }
        }
        Ok(())
    }
}

/// A member's name as a path from the tree's root.
fn inside(name: &[u8]) -> Result<PathBuf> {
    if name.contains(&0) {
        return Err(EntryError::Malformed("its name has a zero in it".into()));
    }
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(EntryError::Outside),
        }
    }
    Ok(path)
}

/// What becomes of something that is where a directory has to be, and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    Stays,
    Goes,
}

/// A directory of the tree, made with those above it where they are not there.
fn directory(root: &Root, path: &Path, obstacle: Obstacle) -> nix::Result<OwnedFd> {
    match root.open_directory(path) {
        Err(errno) if is_no_directory(errno) => {}
        opened => return opened,
    }
    let mut so_far = PathBuf::new();
    let mut directory = root.open_directory(&so_far)?;
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        so_far.push(name);
        directory = match root.open_directory(&so_far) {
            Err(errno) if is_no_directory(errno) => {
                match obstacle {
                    Obstacle::Goes => remove(&directory, name)?,
                    // A link to nothing is there by name, and is no directory.
                    Obstacle::Stays
                        if fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() =>
                    {
                        return Err(Errno::ENOTDIR);
                    }
                    Obstacle::Stays => {}
                }
                mkdirat(&directory, name, UNDESCRIBED)?;
                root.open_directory(&so_far)?
            }
            opened => opened?,
        };
    }
    Ok(directory)
}

/// Whether nothing, or something else, is where a directory was to be opened: a file, or a link that
/// leads to none or nowhere.
fn is_no_directory(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)
}

/// Removes what has a name, if there is something. Directories stay, and are an error.
fn remove(parent: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        removed => removed,
    }
}

/// Writes bytes, and leaves holes where whole blocks of them are zero.
fn write_sparsely(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let is_zero = |block: &&[u8]| block.len() == HOLE && block.iter().all(|byte| *byte == 0);
    let mut rest = bytes;
    while !rest.is_empty() {
        let zeros: usize = rest.chunks(HOLE).take_while(is_zero).map(<[u8]>::len).sum();
        if zeros > 0 {
            file.seek(SeekFrom::Current(zeros as i64))?;
            rest = &rest[zeros..];
        }
        let data: usize = rest.chunks(HOLE).take_while(|it| !is_zero(it)).map(<[u8]>::len).sum();
        file.write_all(&rest[..data])?;
        rest = &rest[data..];
    }
    Ok(())
}

fn set_attribute(fd: &impl AsFd, name: &[u8], value: &[u8]) -> nix::Result<()> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the name ends with a zero, and name, value and descriptor outlive the call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::fsetxattr(
            fd.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    Errno::result(result).map(drop)
}
