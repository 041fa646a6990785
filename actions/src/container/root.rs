//! The root directory of a container, in a mount namespace of the calling thread.
//!
//! Once [`Root::enter`] has put the thread into a chroot there, every path means what it will mean
//! to the program. What of the machine is still needed was opened before, and is named by its
//! descriptor: from the working directory `/proc/self/fd`, which stays outside, the number of one is
//! a path that mount(2) takes.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nibs_job::params::{ContainerVolume, Filesystem, VolumeSource};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{chdir, chroot, fchdir};

use super::error::{Error, Result};
use super::room::Room;
use crate::{Machine, Sink, mount as filesystems};

/// Below the machine's `run`: where roots are mounted, and named volumes are.
const ROOTS: &str = "nibs/containers";
const VOLUMES: &str = "nibs/volumes";

/// Where an image is unpacked.
#[derive(Debug, Clone)]
pub(super) enum Store {
    /// In memory.
    Memory,
    /// Below a directory that is there.
    Directory(PathBuf),
    /// In the filesystem of a device.
    Device(PathBuf, Filesystem),
}

impl Store {
    /// What a path that an action names is.
    pub(super) fn of(scratch: Option<&Path>, machine: &Machine) -> Result<Self> {
        let Some(path) = scratch else { return Ok(Self::Memory) };
        let path = machine.device(path);
        let wrong = |cause| Error::Prepare {
            step: format!("looking at the scratch place {}", path.display()),
            cause,
        };
        let found = path.metadata().map_err(wrong)?;
        if found.is_dir() {
            return Ok(Self::Directory(path));
        }
        if !found.file_type().is_block_device() {
            return Err(wrong(io::Error::other("expected a directory or a block device")));
        }
        match filesystems::mountable(&path, None) {
            Ok(Filesystem::Vfat) => Err(wrong(io::Error::other(
                "expected ext4 or xfs, found vfat, which has no owners",
            ))),
            Ok(filesystem) => Ok(Self::Device(path, filesystem)),
            Err(error) => Err(wrong(io::Error::other(error))),
        }
    }
}

/// How long the kernel is given to let a device go after the last of its mounts.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// A directory on the machine for the root of one container; gone with the value.
#[derive(Debug)]
pub(super) struct Place {
    /// Where the root is mounted.
    point: PathBuf,
    store: Store,
    /// The root's own directory in the store.
    folder: String,
    /// Whether the store is a device that nobody else uses.
    exclusive: bool,
}

impl Place {
    pub(super) fn new(machine: &Machine, name: &str, store: Store) -> Result<Self> {
        // Should the same action run twice on one machine, each has its own.
        let point = machine.run.join(ROOTS).join(format!("{name}.{}", std::process::id()));
        fs::create_dir_all(&point).map_err(prepare(format!("making {}", point.display())))?;
        let exclusive = matches!(&store, Store::Device(device, _) if is_free(device));
        Ok(Self { point, store, folder: format!("nibs-container-{name}"), exclusive })
    }

    /// Mounts the store over the mount point, and the root's directory over that. The thread has to
    /// be in a mount namespace of its own.
    fn mount(&self, machine: &Machine) -> Result<Room> {
        let store = match &self.store {
            Store::Memory => {
                let room = Room::look(machine, None)?;
                let options = format!("mode=0755,size={}", room.free.max(1 << 20));
                let flags = MsFlags::empty();
                mount(Some("nibs"), &self.point, Some("tmpfs"), flags, Some(&*options))
                    .map_err(prepare("mounting a root in memory"))?;
                return Ok(room);
            }
            Store::Directory(directory) => directory,
            Store::Device(device, filesystem) => {
                mount_device(device, *filesystem, &self.point)?;
                &self.point
            }
        };
        let root = store.join(&self.folder);
        // Of a run that was killed, and in the way of this one.
        remove(&root).map_err(prepare(format!("removing {}", root.display())))?;
        let room = Room::look(machine, Some(store))?;
        fs::create_dir(&root).map_err(prepare(format!("making {}", root.display())))?;
        let none = None::<&str>;
        mount(Some(&root), &self.point, none, MsFlags::MS_BIND, none)
            .map_err(prepare(format!("binding {}", root.display())))?;
        Ok(room)
    }

    /// Removes what is on the scratch place. The namespace with its mounts has to be gone: seen from
    /// here, there never were any.
    fn clear(&self) -> Result<()> {
        let root = match &self.store {
            Store::Memory => return Ok(()),
            Store::Directory(directory) => directory.join(&self.folder),
            Store::Device(device, filesystem) => {
                return thread::scope(|scope| {
                    let clear = || {
                        enter_namespace(CloneFlags::empty())?;
                        mount_device(device, *filesystem, &self.point)?;
                        let root = self.point.join(&self.folder);
                        remove(&root).map_err(prepare(format!("removing {}", root.display())))
                    };
                    let thread = scope.spawn(clear);
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                });
            }
        };
        remove(&root).map_err(prepare(format!("removing {}", root.display())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            tracing::warn!("{error}");
        }
        if let Store::Device(device, _) = &self.store
            && self.exclusive
            && !is_let_go(device)
        {
            let device = device.display();
            tracing::warn!("{device} is still in use, {RELEASE_TIMEOUT:?} after its container");
        }
        if let Err(error) = fs::remove_dir(&self.point) {
            tracing::warn!("removing {}: {error}", self.point.display());
        }
    }
}

/// The root of a container, which the thread is in.
#[derive(Debug)]
pub(super) struct Root {
    /// The machine's root directory, and its `/proc/self/fd`.
    machine: OwnedFd,
    descriptors: OwnedFd,
    dev: OwnedFd,
    sys: OwnedFd,
    volumes: Vec<(ContainerVolume, OwnedFd)>,
    /// Its mount namespace, as `/proc/PID/ns/mnt` reads.
    namespace: PathBuf,
    /// `/etc/resolv.conf` and `/etc/hosts` of the machine, where it has them.
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Root {
    /// Puts the calling thread, for good, into a new mount namespace and a new, empty root there.
    pub(super) fn enter(
        place: &Place,
        volumes: &[ContainerVolume],
        machine: &Machine,
        also: CloneFlags,
    ) -> Result<(Self, Room)> {
        enter_namespace(also)?;
        // What runs in a container expects no other.
        umask(Mode::from_bits_truncate(0o022));
        let opened = |path: &Path| {
            let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
            open(path, flags, Mode::empty()).map_err(prepare(format!("opening {}", path.display())))
        };
        // Before the new root is there, from where none of them can be named any more.
        let volumes = volumes.iter().map(|volume| Ok((volume.clone(), source(volume, machine)?)));
        let volumes = volumes.collect::<Result<_>>()?;
        let file = |name: &'static str| Some((name, fs::read(name).ok()?));
        let this = Self {
            machine: opened(Path::new("/"))?,
            descriptors: opened(&machine.proc.join("self/fd"))?,
            dev: opened(&machine.dev)?,
            sys: opened(&machine.sysfs)?,
            volumes,
            namespace: fs::read_link(machine.proc.join("thread-self/ns/mnt"))
                .map_err(prepare("looking at its mount namespace"))?,
            files: ["/etc/resolv.conf", "/etc/hosts"].into_iter().filter_map(file).collect(),
        };
        let room = place.mount(machine)?;
        chroot(&place.point).map_err(prepare("entering its root"))?;
        chdir("/").map_err(prepare("entering its root"))?;
        Ok((this, room))
    }

    /// Its mount namespace, as `/proc/PID/ns/mnt` reads.
    pub(super) fn namespace(&self) -> &Path {
        &self.namespace
    }

    /// Makes the unpacked image a place to run programs in.
    pub(super) fn furnish(&self, sink: &dyn Sink) -> Result<()> {
        for directory in ["/dev", "/proc", "/sys", "/etc"] {
            fs::create_dir_all(directory).map_err(prepare(format!("making {directory}")))?;
        }
        self.bind(&self.dev, Path::new("/dev")).map_err(prepare("binding /dev"))?;
        self.bind(&self.sys, Path::new("/sys")).map_err(prepare("binding /sys"))?;
        for (name, content) in &self.files {
            // The image may have a link there, to what systemd would make.
            remove(Path::new(name)).map_err(prepare(format!("removing its {name}")))?;
            fs::write(name, content).map_err(prepare(format!("writing its {name}")))?;
        }
        for (volume, source) in &self.volumes {
            let failed = |step| {
                move |cause: io::Error| Error::Volume { volume: volume.to_string(), step, cause }
            };
            mount_point(source, &volume.destination)
                .map_err(failed("making its destination in the container"))?;
            self.bind(source, &volume.destination).map_err(failed("mounting it"))?;
            if !volume.read_only {
                continue;
            }
            let whole = make_read_only(&volume.destination);
            if !whole.map_err(failed("making it read-only"))? {
                sink.warning(format!(
                    "this kernel is older than 5.12: of the volume {volume} what is mounted below \
                     can be written"
                ));
            }
        }
        // To where programs look for the root of a namespace. Not pivot_root(2), which cannot leave
        // an initramfs.
        self.named(&self.machine, |machine| {
            mount(Some("/"), machine, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        })
        .map_err(prepare("moving its root"))?;
        chdir("/").map_err(prepare("entering its root"))
    }

    fn bind(&self, source: &OwnedFd, to: &Path) -> io::Result<()> {
        let none = None::<&str>;
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        self.named(source, |source| mount(Some(source), to, none, bind, none))
    }

    /// Calls with a path to what is open, which is good for this one call.
    fn named(
        &self,
        descriptor: &OwnedFd,
        call: impl FnOnce(&str) -> nix::Result<()>,
    ) -> io::Result<()> {
        fchdir(&self.descriptors)?;
        let result = call(&descriptor.as_raw_fd().to_string());
        chdir("/")?;
        Ok(result?)
    }
}

/// Puts the calling thread into a mount namespace of its own, whose mounts nobody else sees.
fn enter_namespace(also: CloneFlags) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | also)
        .map_err(prepare("making its namespaces, which needs root (CAP_SYS_ADMIN)"))?;
    // Not private: what the machine mounts meanwhile may be seen inside of volumes.
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)
        .map_err(prepare("keeping its mounts to itself"))
}

fn mount_device(device: &Path, filesystem: Filesystem, point: &Path) -> Result<()> {
    mount(Some(device), point, Some(filesystem.as_str()), MsFlags::empty(), None::<&str>)
        .map_err(prepare(format!("mounting {}", device.display())))
}

/// Waits until a device is free again: the mounts of a namespace go a little after its last thread,
/// and the next action may want to write the whole disk.
fn is_let_go(device: &Path) -> bool {
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    while !is_free(device) {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

/// Whether no filesystem has claimed a device (open(2), O_EXCL).
fn is_free(device: &Path) -> bool {
    open(device, OFlag::O_RDONLY | OFlag::O_EXCL | OFlag::O_CLOEXEC, Mode::empty()).is_ok()
}

/// Opens what of the machine a volume is; where nothing is, a directory is made.
fn source(volume: &ContainerVolume, machine: &Machine) -> Result<OwnedFd> {
    let path = match &volume.source {
        VolumeSource::Path(path) => path.clone(),
        VolumeSource::Named(name) => machine.run.join(VOLUMES).join(name),
    };
    let failed =
        |step| move |cause: io::Error| Error::Volume { volume: volume.to_string(), step, cause };
    if path.symlink_metadata().is_err() {
        fs::create_dir_all(&path).map_err(failed("making its source"))?;
    }
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    open(&path, flags, Mode::empty()).map_err(|errno| failed("opening its source")(errno.into()))
}

/// Makes a mount and all below it read-only; where the kernel cannot, the one alone. Tells which.
fn make_read_only(point: &Path) -> io::Result<bool> {
    let path = CString::new(point.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: mount_setattr(2) reads the path up to its NUL and as many bytes of the attributes as it
    // is told, both of which outlive the call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(true),
        Err(Errno::ENOSYS) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(None::<&str>, point, None::<&str>, flags, None::<&str>)?;
            Ok(false)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Makes something of the kind of `source` to mount it over.
fn mount_point(source: &OwnedFd, point: &Path) -> io::Result<()> {
    let kind = SFlag::from_bits_truncate(fstat(source)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR {
        return fs::create_dir_all(point);
    }
    if point.exists() {
        return Ok(());
    }
    if let Some(parent) = point.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::File::create_new(point).map(drop)
}

/// Removes what is at a path, if anything is.
fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn prepare<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Error {
    let step = step.into();
    move |cause| Error::Prepare { step, cause: cause.into() }
}
