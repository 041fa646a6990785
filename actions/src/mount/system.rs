//! An installed system as the root of its own programs.
//!
//! ```text
//! /mnt            the system's root filesystem
//! ├── dev proc sys   those of this machine with all that is mounted in them: devpts, efivarfs, …
//! ├── run            empty, in RAM
//! └── etc/resolv.conf   on demand, this machine's
//! ```
//!
//! All of it is mounted in a namespace of its own, so nothing shows up on the machine, nothing
//! survives it, and every process that is in it when work is done can be told by that, and ended.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nibs_job::params::Filesystem;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, statfs};
use nix::unistd::{Pid, chroot, fchdir};

use super::private::{Mounted, in_private_namespace};
use super::{MountError, Root};

/// Where the system's root is mounted. Not over a directory that programs need, so it is made if it
/// is not there.
const POINT: &str = "/mnt";

/// What the system shares with this machine, with all that is mounted below.
const SHARED: [&str; 3] = ["dev", "proc", "sys"];

/// What this machine may lack of that, and where it goes: kind, place, options and magic number
/// (linux/magic.h).
const WANTED: [(&str, &str, &str, FsType); 2] = [
    ("devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=0620", FsType(0x1cd1)),
    ("efivarfs", "sys/firmware/efi/efivars", "", FsType(0xde5e_81e4)),
];

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How long processes that a program left behind may take to end after SIGTERM, and then SIGKILL.
const TERM_PATIENCE: Duration = Duration::from_secs(2);
const KILL_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// An installed system, ready to run its programs. Only for the thread that got it.
#[derive(Debug)]
pub struct System {
    device: PathBuf,
    files: Root,
    root: OwnedFd,
    host: OwnedFd,
    /// Made to mount over, and to be removed again.
    placeholder: Option<PathBuf>,
}

/// Runs `work` with the filesystem on `device` as the root of a system; all is on the disk, and
/// every process of it has ended, when this returns.
pub fn with_system<T, E>(
    device: &Path,
    filesystem: Filesystem,
    work: impl FnOnce(&mut System) -> Result<T, E> + Send,
) -> Result<T, E>
where
    T: Send,
    E: From<MountError> + Send,
{
    in_private_namespace(|| {
        fs::create_dir_all(POINT).map_err(|cause| MountError::Namespace {
            step: "making the directory /mnt to mount over",
            cause,
        })?;
        let mounted = Mounted::new(device, filesystem, MsFlags::empty(), POINT)?;
        let mut system = match System::prepare(device, mounted.root(filesystem)?) {
            Ok(system) => system,
            Err(error) => {
                release_all();
                return mounted.end(Err(error.into()), Ok(()));
            }
        };
        let result = work(&mut system);
        system.end_processes();
        release_all();
        if let Some(placeholder) = &system.placeholder {
            let _ = fs::remove_file(placeholder);
        }
        let synced = system.files.sync();
        // The kernel refuses to unmount while a descriptor is open.
        drop(system);
        mounted.end(result, synced)
    })
}

/// Takes away what is mounted in the system, by us or by its programs, the latest first.
fn release_all() {
    // The thread's own: that of the process shows another namespace.
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let below = format!("{POINT}/");
    // proc_pid_mountinfo(5): the fifth field is the mount point.
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| point.starts_with(&below)) {
        // Whatever is still there keeps the filesystem busy, and is reported with that.
        let _ = umount2(point.replace("\\040", " ").as_str(), MntFlags::MNT_DETACH);
    }
}

impl System {
    fn prepare(device: &Path, files: Root) -> Result<Self, MountError> {
        let failed = |what: String| {
            move |errno: Errno| MountError::System {
                device: device.to_owned(),
                what,
                cause: errno.into(),
            }
        };
        let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let open = |path: &str| openat(AT_FDCWD, path, directory, Mode::empty());
        let host = open("/").map_err(failed("opening /".into()))?;
        let root = open(POINT).map_err(failed(format!("opening {POINT}")))?;
        let system = Self { device: device.to_owned(), files, root, host, placeholder: None };
        for name in SHARED {
            let place = system.directory(name)?;
            let (source, flags) = (format!("/{name}"), MsFlags::MS_BIND | MsFlags::MS_REC);
            mount(Some(source.as_str()), &place, None::<&str>, flags, None::<&str>)
                .map_err(failed(format!("binding {source} into it")))?;
        }
        let place = system.directory("run")?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("run"), &place, Some("tmpfs"), flags, Some("mode=0755"))
            .map_err(failed("mounting a tmpfs at /run".into()))?;
        for (kind, place, options, magic) in WANTED {
            let place = Path::new(POINT).join(place);
            // A devtmpfs has no place for terminals until somebody makes it; sysfs lets nobody.
            let _ = fs::create_dir(&place);
            if !place.is_dir() || statfs(&place).is_ok_and(|found| found.filesystem_type() == magic)
            {
                continue;
            }
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
            if let Err(errno) = mount(Some(kind), &place, Some(kind), flags, Some(options)) {
                tracing::warn!("mounting {kind} for the programs of {}: {errno}", device.display());
            }
        }
        Ok(system)
    }

    /// A directory right below the system's root, made if it is not there. Never through a link,
    /// which could lead out of the system.
    fn directory(&self, name: &str) -> Result<PathBuf, MountError> {
        let place = Path::new(POINT).join(name);
        let failed = |what: &str, cause: io::Error| MountError::System {
            device: self.device.clone(),
            what: format!("{what} its /{name}"),
            cause,
        };
        match fs::symlink_metadata(&place) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(failed("looking at", Errno::ENOTDIR.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&place).map_err(|cause| failed("making", cause))?;
            }
            Err(cause) => return Err(failed("looking at", cause)),
        }
        Ok(place)
    }

    /// The files of the system.
    pub fn files(&self) -> &Root {
        &self.files
    }

    /// Starts a program of the system, with the system as its root.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        // Only of this thread: it shares its root with no other since it left the namespace.
        fchdir(&self.root)?;
        chroot(".")?;
        let child = command.spawn();
        fchdir(&self.host)?;
        chroot(".")?;
        child
    }

    /// Has the system's programs resolve names as this machine does, until they have ended.
    pub fn lend_resolv_conf(&mut self) -> Result<(), MountError> {
        let failed = |what: &str, cause: io::Error| MountError::System {
            device: self.device.clone(),
            what: format!("{what} {RESOLV_CONF}"),
            cause,
        };
        let opened = match self.open_resolv_conf() {
            Err(Errno::ENOENT) => {
                self.placeholder = self.make_resolv_conf()?;
                self.open_resolv_conf()
            }
            opened => opened,
        };
        let place = opened.map_err(|errno| failed("opening its", errno.into()))?;
        let place = format!("/proc/self/fd/{}", place.as_raw_fd());
        mount(Some(RESOLV_CONF), place.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| failed("putting this machine's in the place of its", errno.into()))
    }

    /// The file that the system's programs would read, through links but not out of the system.
    fn open_resolv_conf(&self) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
        openat2(&self.root, RESOLV_CONF, how)
    }

    /// Makes an empty file where the system's leads to, and says if that is one on the disk.
    fn make_resolv_conf(&self) -> Result<Option<PathBuf>, MountError> {
        let failed = |cause| MountError::System {
            device: self.device.clone(),
            what: format!("making {RESOLV_CONF}"),
            cause,
        };
        let link = self.directory("etc")?.join("resolv.conf");
        let Ok(target) = fs::read_link(&link) else {
            fs::File::create_new(&link).map_err(failed)?;
            return Ok(Some(link));
        };
        // Such as ../run/systemd/resolve/stub-resolv.conf, which the running system would make.
        let target = absolute(Path::new("/etc"), &target);
        // Its former name is a link to it.
        let below_run = target.strip_prefix("/run").or_else(|_| target.strip_prefix("/var/run"));
        let Ok(below_run) = below_run else {
            let target = target.display();
            return Err(failed(io::Error::other(format!(
                "it is a link to {target}, which is not there"
            ))));
        };
        let file = Path::new(POINT).join("run").join(below_run);
        let parent = file.parent().unwrap_or(Path::new(POINT));
        fs::create_dir_all(parent).and_then(|()| fs::File::create_new(&file)).map_err(failed)?;
        Ok(None)
    }

    /// Ends every process that is still in this thread's mount namespace: what the system's
    /// programs left behind.
    fn end_processes(&self) {
        let Ok(ours) = fs::read_link("/proc/thread-self/ns/mnt") else { return };
        for (signal, patience) in
            [(Signal::SIGTERM, TERM_PATIENCE), (Signal::SIGKILL, KILL_PATIENCE)]
        {
            let deadline = Instant::now() + patience;
            let mut signalled = Vec::new();
            loop {
                let left = processes_in(ours.as_os_str());
                if left.is_empty() {
                    return;
                }
                for pid in left {
                    if !signalled.contains(&pid) {
                        // It may have ended just now.
                        let _ = kill(pid, signal);
                        signalled.push(pid);
                    }
                }
                if Instant::now() >= deadline {
                    break;
                }
                thread::sleep(POLL);
            }
        }
        tracing::warn!("processes of the system on {} do not end", self.device.display());
    }
}

/// All processes in a mount namespace. A zombie is in none any more.
fn processes_in(namespace: &OsStr) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let of = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let found = fs::read_link(entry.path().join("ns/mnt")).ok()?;
        (found.as_os_str() == namespace).then(|| Pid::from_raw(pid))
    };
    processes.filter_map(of).collect()
}

/// Where a link in a directory leads to, as far as its text tells.
fn absolute(directory: &Path, target: &Path) -> PathBuf {
    let mut path = PathBuf::new();
    for component in directory.join(target).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    Path::new("/").join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_followed_from_its_directory_and_not_above_the_root() {
        for (target, to) in [
            ("../run/a/b", "/run/a/b"),
            ("/run/x", "/run/x"),
            ("../../../run/x", "/run/x"),
            ("other", "/etc/other"),
        ] {
            assert_eq!(absolute(Path::new("/etc"), Path::new(target)), Path::new(to), "{target}");
        }
    }
}
