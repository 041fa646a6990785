//! A mount that nobody else sees and that cannot outlive its use.
//!
//! A thread of its own enters a new mount namespace and mounts there, over a directory that exists
//! anyway: no mount point has to be made, so none can be left behind, and should the process be
//! killed the kernel drops the namespace with the mount in it.

use std::io;
use std::panic;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nibs_job::params::Filesystem;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::{MountError, Root};

/// Directories to mount over, the first that exists; one is there in every Linux root.
const MOUNT_POINTS: [&str; 4] = ["/mnt", "/run", "/tmp", "/dev"];

/// How often a busy filesystem is tried, and how long in between, before it is detached.
const UNMOUNT_ATTEMPTS: u32 = 20;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(100);

/// What is to be done with a mounted filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only reading; the journal of a filesystem that was not unmounted is still replayed.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    fn flags(self) -> MsFlags {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        match self {
            Self::ReadOnly => flags | MsFlags::MS_RDONLY,
            Self::ReadWrite => flags,
        }
    }
}

/// Runs `work` with the filesystem on `device` mounted; all is on the disk when this returns `Ok`.
///
/// An error of `work` goes before one of unmounting, which is then only logged.
pub fn with_mounted<T, E>(
    device: &Path,
    filesystem: Filesystem,
    access: Access,
    work: impl FnOnce(&Root) -> Result<T, E> + Send,
) -> Result<T, E>
where
    T: Send,
    E: From<MountError> + Send,
{
    in_private_namespace(|| {
        let mounted = Mounted::new(device, filesystem, access.flags(), first_mount_point()?)?;
        let root = mounted.root(filesystem)?;
        let result = work(&root);
        let synced = match access {
            Access::ReadWrite => root.sync(),
            Access::ReadOnly => Ok(()),
        };
        // The kernel refuses to unmount while a descriptor is open.
        drop(root);
        mounted.end(result, synced)
    })
}

/// Runs `work` on a thread of its own, whose mounts nobody else sees.
pub(super) fn in_private_namespace<T, E>(work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E>
where
    T: Send,
    E: From<MountError> + Send,
{
    let run = || {
        enter_private_namespace()?;
        work()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("mount".into()).spawn_scoped(scope, run);
        let thread =
            thread.map_err(|cause| MountError::Namespace { step: "starting a thread", cause })?;
        thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

fn enter_private_namespace() -> Result<(), MountError> {
    let failed = |step| move |e: Errno| MountError::Namespace { step, cause: e.into() };
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("leaving the shared one"))?;
    // Without this a mount here would show up in the namespace this one was copied from.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(failed("making its mounts private"))
}

/// A mounted filesystem; unmounts when dropped, at worst lazily.
pub(super) struct Mounted {
    device: PathBuf,
    point: Option<&'static str>,
}

fn first_mount_point() -> Result<&'static str, MountError> {
    let point = MOUNT_POINTS.into_iter().find(|point| Path::new(point).is_dir());
    point.ok_or_else(|| MountError::Namespace {
        step: "looking for a directory to mount over, such as /mnt",
        cause: io::ErrorKind::NotFound.into(),
    })
}

impl Mounted {
    pub(super) fn new(
        device: &Path,
        filesystem: Filesystem,
        flags: MsFlags,
        point: &'static str,
    ) -> Result<Self, MountError> {
        let options = match filesystem {
            // File names in a job are UTF-8; the kernel's default for FAT is Latin-1.
            Filesystem::Vfat => Some("utf8=1"),
            Filesystem::Ext4 | Filesystem::Xfs | Filesystem::Btrfs => None,
        };
        let name = filesystem.as_str();
        match mount(Some(device), point, Some(name), flags, options) {
            Ok(()) => Ok(Self { device: device.to_owned(), point: Some(point) }),
            Err(Errno::ENODEV) => {
                Err(MountError::NoDriver { device: device.to_owned(), filesystem: name })
            }
            Err(errno) => Err(MountError::Mount {
                device: device.to_owned(),
                filesystem: name,
                cause: errno.into(),
            }),
        }
    }

    pub(super) fn root(&self, filesystem: Filesystem) -> Result<Root, MountError> {
        let keeps_owners = filesystem != Filesystem::Vfat;
        let point = self.point.unwrap_or(MOUNT_POINTS[0]);
        Root::open(Path::new(point), keeps_owners).map_err(|cause| MountError::Mount {
            device: self.device.clone(),
            filesystem: filesystem.as_str(),
            cause,
        })
    }

    /// Unmounts after work with that result: its error goes before one of syncing or unmounting.
    pub(super) fn end<T, E: From<MountError>>(
        self,
        result: Result<T, E>,
        synced: io::Result<()>,
    ) -> Result<T, E> {
        let unmounted = synced.map_err(|cause| self.failure(cause)).and(self.unmount());
        match (result, unmounted) {
            (Ok(value), unmounted) => unmounted.map(|()| value).map_err(E::from),
            (Err(error), unmounted) => {
                if let Err(second) = unmounted {
                    tracing::warn!("{second}");
                }
                Err(error)
            }
        }
    }

    fn failure(&self, cause: io::Error) -> MountError {
        MountError::Unmount { device: self.device.clone(), cause }
    }

    fn unmount(mut self) -> Result<(), MountError> {
        self.release().map_err(|errno| self.failure(errno.into()))
    }

    /// Unmounts once; a filesystem that stays busy is detached, and reported all the same.
    fn release(&mut self) -> Result<(), Errno> {
        let Some(point) = self.point.take() else { return Ok(()) };
        let mut result = umount2(point, MntFlags::UMOUNT_NOFOLLOW);
        for _ in 1..UNMOUNT_ATTEMPTS {
            if result != Err(Errno::EBUSY) {
                break;
            }
            thread::sleep(UNMOUNT_PAUSE);
            result = umount2(point, MntFlags::UMOUNT_NOFOLLOW);
        }
        if result.is_err() {
            umount2(point, MntFlags::MNT_DETACH)?;
        }
        result
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(errno) = self.release() {
            tracing::warn!("{}", self.failure(errno.into()));
        }
    }
}
