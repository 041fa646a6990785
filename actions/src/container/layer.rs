//! A layer's files, into the root directory of the thread (OCI Image Specification 1.1, "Image Layer
//! Filesystem Changeset").
//!
//! The thread is in a chroot, so paths and links of the archive mean what they will mean to the
//! program, and none leads out. A layer comes after those below it: what it has replaces what is
//! there, and its whiteouts remove it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, BufRead, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use tar::{Archive, Entry, EntryType};

use crate::Stop;

/// Removes what has the rest of the name in the layers below.
const WHITEOUT: &str = ".wh.";
/// Removes all that the layers below have in the directory.
const OPAQUE: &str = ".wh..wh..opq";
/// Names with this were AUFS's own.
const AUFS: &str = ".wh..wh.";

/// Extended attributes in PAX headers, as GNU tar and all builders of images write them.
const XATTR: &str = "SCHILY.xattr.";

/// Most bytes of memory that a zstd frame may make its decoder keep, as a power of two: what
/// `zstd --ultra -22` makes, and what the format wants every decoder to take.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Why a layer could not be unpacked.
#[derive(Debug)]
pub(super) enum LayerError {
    /// There is no room for it.
    Full,
    /// It is damaged, or a file of it cannot be made. In words.
    Wrong(String),
}

/// Fails to read once the work has to end. A few bytes of a layer may become many, so that what
/// comes in tells too late.
struct Heeding<'a, R> {
    inner: R,
    stop: &'a Stop,
}

impl<R: Read> Read for Heeding<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.check().map_err(io::Error::other)?;
        self.inner.read(buffer)
    }
}

/// Unpacks a layer, plain or compressed by gzip or zstd; its first bytes tell which. Returns what is
/// not as in the layer, one sentence each. Fails, in whatever words, once `stop` says so.
pub(super) fn unpack(
    mut layer: impl BufRead,
    is_lowest: bool,
    stop: &Stop,
) -> Result<Vec<String>, LayerError> {
    let start = layer.fill_buf().map_err(|error| LayerError::Wrong(error.to_string()))?;
    let reader: Box<dyn Read + '_> = match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(&mut layer)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&mut layer)
                .map_err(|error| LayerError::Wrong(error.to_string()))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG)
                .map_err(|error| LayerError::Wrong(error.to_string()))?;
            Box::new(decoder)
        }
        _ => Box::new(&mut layer),
    };
    let mut archive = Archive::new(Heeding { inner: reader, stop });
    let mut unpacker = Unpacker::new(is_lowest, stop);
    let damaged = |error: io::Error| LayerError::Wrong(format!("reading its archive: {error}"));
    for entry in archive.entries().map_err(damaged)? {
        unpacker.add(&mut entry.map_err(damaged)?)?;
    }
    // The decoder's own check is behind the archive's end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damaged)?;
    // Last, since whatever is made in a directory changes its time.
    for (directory, seconds) in unpacker.directories.iter().rev() {
        // A directory that a whiteout removed again has none.
        let _ = set_time(directory, *seconds);
    }
    Ok(unpacker.degraded)
}

struct Unpacker<'a> {
    stop: &'a Stop,
    /// What this layer has made, which its own whiteouts spare; not kept for the lowest layer,
    /// where whiteouts have nothing to remove.
    made: Option<HashSet<PathBuf>>,
    /// Directories and their times.
    directories: Vec<(PathBuf, u64)>,
    degraded: Vec<String>,
}

impl<'a> Unpacker<'a> {
    fn new(is_lowest: bool, stop: &'a Stop) -> Self {
        let made = (!is_lowest).then(HashSet::new);
        Self { stop, made, directories: Vec::new(), degraded: Vec::new() }
    }

    fn add(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), LayerError> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = inside(&entry.path_bytes())?;
        let failed = |cause: io::Error| match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LayerError::Full,
            _ => LayerError::Wrong(format!("making {}: {cause}", path.display())),
        };
        let name = path.file_name().unwrap_or_default().as_bytes();
        if let Some(removed) = name.strip_prefix(WHITEOUT.as_bytes()) {
            let directory = path.parent().unwrap_or(&path);
            return match name {
                _ if name == OPAQUE.as_bytes() => self.clear(directory),
                _ if name.starts_with(AUFS.as_bytes()) => Ok(()),
                _ => self.remove(&directory.join(OsStr::from_bytes(removed))),
            }
            .map_err(failed);
        }
        if path == Path::new("/") {
            return self.dress(entry, &path).map_err(failed);
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        self.make(entry, kind, &path).map_err(failed)?;
        if let Some(made) = &mut self.made {
            // Above one that is known, all are.
            let _ = path.ancestors().all(|ancestor| made.insert(ancestor.to_owned()));
        }
        Ok(())
    }

    fn make(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        kind: EntryType,
        path: &Path,
    ) -> io::Result<()> {
        let is_directory = |path: &Path| path.symlink_metadata().map(|found| found.is_dir());
        match is_directory(path) {
            Ok(true) if kind == EntryType::Directory => return self.dress(entry, path),
            Ok(true) => fs::remove_dir_all(path)?,
            Ok(false) => fs::remove_file(path)?,
            Err(_) => {}
        }
        let mode = Mode::from_bits_truncate(entry.header().mode()?);
        let device = |entry: &Entry<'_, _>| -> io::Result<u64> {
            let header = entry.header();
            let (major, minor) = (header.device_major()?, header.device_minor()?);
            Ok(makedev(major.unwrap_or(0).into(), minor.unwrap_or(0).into()))
        };
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                // The holes of a sparse file are in no reader below.
                let mut content = Heeding { inner: entry.by_ref(), stop: self.stop };
                io::copy(&mut content, &mut fs::File::create_new(path)?)?;
            }
            EntryType::Directory => fs::create_dir(path)?,
            EntryType::Symlink => symlink(target(entry)?, path)?,
            EntryType::Link => {
                // A file that is there already, with all that belongs to it.
                let original = inside(target(entry)?.as_os_str().as_bytes());
                let original =
                    original.map_err(|_| io::Error::other("it links out of the image"))?;
                return fs::hard_link(original, path);
            }
            EntryType::Char => mknod(path, SFlag::S_IFCHR, mode, device(entry)?)?,
            EntryType::Block => mknod(path, SFlag::S_IFBLK, mode, device(entry)?)?,
            EntryType::Fifo => mknod(path, SFlag::S_IFIFO, mode, 0)?,
            other => {
                return Err(io::Error::other(format!("entries of type {other:?} are not known")));
            }
        }
        self.dress(entry, path)
    }

    /// Owner, mode, attributes and time. In this order: a new owner takes set-user-id bits and
    /// capabilities away.
    fn dress(&mut self, entry: &mut Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
        let (uid, gid) = (entry.header().uid()?, entry.header().gid()?);
        let id = |id: u64| u32::try_from(id).map_err(|_| io::Error::other("its owner is no id"));
        lchown(path, Some(id(uid)?), Some(id(gid)?))?;
        let kind = entry.header().entry_type();
        let mode = entry.header().mode()?;
        if kind != EntryType::Symlink {
            fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))?;
        }
        for extension in entry.pax_extensions()?.into_iter().flatten() {
            let extension = extension?;
            let name = extension.key().ok().and_then(|key| key.strip_prefix(XATTR));
            let Some(name) = name else { continue };
            match xattr::set(path, name, extension.value_bytes()) {
                Ok(()) => {}
                // Of a filesystem that does not keep them.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.degraded.push(format!("{} is without its {name}", path.display()));
                }
                Err(error) => return Err(error),
            }
        }
        let seconds = entry.header().mtime()?;
        if kind == EntryType::Directory {
            self.directories.push((path.to_owned(), seconds));
            return Ok(());
        }
        set_time(path, seconds)
    }

    /// Removes what the layers below have at a path.
    fn remove(&self, path: &Path) -> io::Result<()> {
        let Ok(found) = path.symlink_metadata() else { return Ok(()) };
        match &self.made {
            None => return Ok(()),
            Some(made) if made.contains(path) => {
                return if found.is_dir() { self.clear(path) } else { Ok(()) };
            }
            Some(_) => {}
        }
        if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    }

    /// Removes what the layers below have in a directory.
    fn clear(&self, directory: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            self.remove(&entry?.path())?;
        }
        Ok(())
    }
}

/// A path of the archive as one from the root. What climbs is refused: no builder makes it.
fn inside(path: &[u8]) -> Result<PathBuf, LayerError> {
    let mut absolute = PathBuf::from("/");
    for part in Path::new(OsStr::from_bytes(path)).components() {
        match part {
            Component::Normal(part) => absolute.push(part),
            Component::ParentDir => {
                let path = String::from_utf8_lossy(path);
                return Err(LayerError::Wrong(format!("{path:?} leads out of the image")));
            }
            _ => {}
        }
    }
    Ok(absolute)
}

fn target(entry: &Entry<'_, impl Read>) -> io::Result<PathBuf> {
    let target = entry.link_name_bytes().filter(|target| !target.is_empty());
    let target = target.ok_or_else(|| io::Error::other("it is a link to nothing"))?;
    Ok(OsStr::from_bytes(&target).into())
}

fn set_time(path: &Path, seconds: u64) -> io::Result<()> {
    let time = TimeSpec::new(i64::try_from(seconds).unwrap_or(i64::MAX), 0);
    Ok(utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}
