//! Stopping what uses a disk, from the outermost in: what is mounted or swapped on the device that
//! is furthest from the disk first, then that device, then the next.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use super::busy::{Users, devices, entries, holder_name};
use super::list::attribute;
use super::{Disk, Error, Result};
use crate::Machine;

/// One thing that is done to have a disk for oneself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A filesystem is unmounted.
    Unmount {
        /// Where it is mounted.
        place: PathBuf,
        /// Kernel name of the device that it is on.
        device: String,
    },
    /// Swap is switched off.
    SwapOff {
        /// Kernel name of the device that it is on.
        device: String,
    },
    /// A device that is stacked on others is stopped.
    Stop {
        /// Its kernel name, and what it is.
        device: String,
    },
    /// Nothing: a device of this kind cannot be stopped from here, and keeps the disk in use.
    Leave {
        /// Its kernel name, and what it is if that is known.
        device: String,
    },
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unmount { place, device } => {
                write!(f, "unmount {}, which is on {device}", place.display())
            }
            Self::SwapOff { device } => write!(f, "switch off swap on {device}"),
            Self::Stop { device } => write!(f, "stop {device}"),
            Self::Leave { device } => {
                write!(f, "leave {device}, which cannot be stopped from here")
            }
        }
    }
}

impl Step {
    /// The same, once it is done.
    pub fn done(&self) -> String {
        match self {
            Self::Unmount { place, device } => {
                format!("unmounted {}, which was on {device}", place.display())
            }
            Self::SwapOff { device } => format!("switched off swap on {device}"),
            Self::Stop { device } => format!("stopped {device}"),
            Self::Leave { device } => format!("left {device}, which cannot be stopped from here"),
        }
    }
}

/// What the kernel is asked for; tests only note it.
trait Kernel {
    fn unmount(&self, place: &Path) -> io::Result<()>;
    fn stop_swap(&self, node: &Path) -> io::Result<()>;
    fn remove_mapping(&self, name: &str) -> io::Result<()>;
    fn stop_array(&self, node: &Path) -> io::Result<()>;
}

/// Stops all that uses a disk, and says each step once it is done. What cannot be stopped is left,
/// and keeps the disk from being claimed.
pub fn release(machine: &Machine, disk: &Disk, say: &mut dyn FnMut(Step)) -> Result<()> {
    let control = machine.dev.join("mapper/control");
    Release { machine, kernel: &Linux { control }, say }.device(&disk.name)
}

/// What [`release`] would do, in order, without doing any of it.
pub fn release_steps(machine: &Machine, disk: &Disk) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut say = |step| {
        // What several partitions are part of is stopped with the first of them.
        if !steps.contains(&step) {
            steps.push(step);
        }
    };
    Release { machine, kernel: &NoKernel, say: &mut say }.device(&disk.name)?;
    Ok(steps)
}

struct Release<'a> {
    machine: &'a Machine,
    kernel: &'a dyn Kernel,
    say: &'a mut dyn FnMut(Step),
}

impl Release<'_> {
    /// Stops what uses a device or its partitions, but not the device.
    fn device(&mut self, name: &str) -> Result<()> {
        for (name, directory) in devices(self.machine, name) {
            for holder in entries(&directory.join("holders")) {
                self.device(&holder)?;
                self.stop(&holder)?;
            }
            let users = Users::read(self.machine)?;
            for place in users.mounts_of(self.machine, &name, &directory).into_iter().rev() {
                self.kernel.unmount(&place).map_err(Error::io("unmounting", &place))?;
                (self.say)(Step::Unmount { place, device: name.clone() });
            }
            if users.is_swap(self.machine, &name) {
                let node = self.machine.dev.join(&name);
                self.kernel.stop_swap(&node).map_err(Error::io("switching off swap on", &node))?;
                (self.say)(Step::SwapOff { device: name });
            }
        }
        Ok(())
    }

    /// Stops a device that is stacked on others.
    fn stop(&mut self, holder: &str) -> Result<()> {
        let directory = self.machine.sysfs.join("class/block").join(holder);
        let node = self.machine.dev.join(holder);
        let device = holder_name(self.machine, holder);
        if let Some(name) = attribute(&directory, "dm/name") {
            self.kernel.remove_mapping(&name).map_err(Error::io("removing", &node))?;
        } else if directory.join("md").exists() {
            self.kernel.stop_array(&node).map_err(Error::io("stopping", &node))?;
        } else {
            (self.say)(Step::Leave { device });
            return Ok(());
        }
        (self.say)(Step::Stop { device });
        Ok(())
    }
}

/// Is asked, and does nothing.
struct NoKernel;

impl Kernel for NoKernel {
    fn unmount(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn stop_swap(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_mapping(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn stop_array(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

struct Linux {
    /// Device mapper's own node.
    control: PathBuf,
}

impl Kernel for Linux {
    fn unmount(&self, place: &Path) -> io::Result<()> {
        Ok(umount2(place, MntFlags::UMOUNT_NOFOLLOW)?)
    }

    fn stop_swap(&self, node: &Path) -> io::Result<()> {
        let path = CString::new(node.as_os_str().as_bytes())?;
        // SAFETY: swapoff only reads the path, which ends in a zero byte and outlives the call.
        #[allow(unsafe_code)]
        let result = unsafe { libc::swapoff(path.as_ptr()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn remove_mapping(&self, name: &str) -> io::Result<()> {
        let control = File::options().read(true).write(true).open(&self.control)?;
        let mut request = MapperRequest::named(name)?;
        // SAFETY: the structure has the kernel's layout, says its own size, and outlives the call.
        #[allow(unsafe_code)]
        unsafe { mapper_remove(control.as_raw_fd(), &raw mut request) }?;
        Ok(())
    }

    fn stop_array(&self, node: &Path) -> io::Result<()> {
        let array = File::open(node)?;
        // SAFETY: STOP_ARRAY takes no argument, and the file is open for the length of the call.
        #[allow(unsafe_code)]
        unsafe { md_stop(array.as_raw_fd()) }?;
        Ok(())
    }
}

/// `struct dm_ioctl` of linux/dm-ioctl.h.
#[repr(C)]
#[derive(Debug)]
struct MapperRequest {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

impl MapperRequest {
    /// A request for the mapping of a name, of the oldest version that has all that is asked for.
    fn named(name: &str) -> io::Result<Self> {
        let mut request = Self {
            version: [4, 0, 0],
            data_size: size_of::<Self>() as u32,
            data_start: 0,
            target_count: 0,
            open_count: 0,
            flags: 0,
            event: 0,
            padding: 0,
            device: 0,
            name: [0; 128],
            uuid: [0; 129],
            data: [0; 7],
        };
        // The last byte stays zero.
        let place = request.name[..127].get_mut(..name.len()).ok_or(io::ErrorKind::InvalidInput)?;
        place.copy_from_slice(name.as_bytes());
        Ok(request)
    }
}

nix::ioctl_readwrite!(mapper_remove, 0xfd, 4, MapperRequest);
nix::ioctl_none!(md_stop, 9, 0x32);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;

    use super::super::list::tests::FakeMachine;
    use super::*;

    /// Does as the kernel would in a fake sysfs, and notes it.
    struct Fake<'a> {
        machine: &'a Machine,
        notes: RefCell<Vec<String>>,
        refuses: bool,
    }

    impl Fake<'_> {
        fn note(&self, note: String) -> io::Result<()> {
            if self.refuses {
                return Err(io::Error::from_raw_os_error(libc::EBUSY));
            }
            self.notes.borrow_mut().push(note);
            Ok(())
        }

        /// Takes a device out of all places where it holds others.
        fn forget(&self, holder: &str) {
            let class = self.machine.sysfs.join("class/block");
            for entry in fs::read_dir(&class).unwrap() {
                let _ = fs::remove_file(entry.unwrap().path().join("holders").join(holder));
            }
        }
    }

    impl Kernel for Fake<'_> {
        fn unmount(&self, place: &Path) -> io::Result<()> {
            self.note(format!("umount {}", place.display()))
        }
        fn stop_swap(&self, node: &Path) -> io::Result<()> {
            self.note(format!("swapoff {}", node.file_name().unwrap().display()))
        }
        fn remove_mapping(&self, name: &str) -> io::Result<()> {
            self.forget(if name == "vg-root" { "dm-0" } else { "dm-1" });
            self.note(format!("dmsetup remove {name}"))
        }
        fn stop_array(&self, node: &Path) -> io::Result<()> {
            self.forget("md0");
            self.note(format!("mdadm --stop {}", node.file_name().unwrap().display()))
        }
    }

    /// A filesystem and swap on LVM on an array of two partitions, and a filesystem beside it.
    fn stacked() -> FakeMachine {
        let fake = FakeMachine::new();
        fake.disk("vda", 1 << 30, &[("dev", "252:0")]);
        for number in 1..=3 {
            fake.partition("vda", number, &format!("252:{number}"));
        }
        let class = fake.machine.sysfs.join("class/block");
        for part in ["vda1", "vda2"] {
            fake.write(&class.join(part).join("holders/md0"), "");
        }
        fake.write(&class.join("md0/md/level"), "raid1");
        for (mapping, name, number) in [("dm-0", "vg-root", "253:0"), ("dm-1", "vg-swap", "253:1")]
        {
            fake.write(&class.join("md0/holders").join(mapping), "");
            fake.write(&class.join(mapping).join("dm/name"), name);
            fake.write(&class.join(mapping).join("dm/uuid"), "LVM-x");
            fake.write(&class.join(mapping).join("dev"), number);
        }
        let mounts = "1 0 253:0 / /mnt rw - ext4 /dev/mapper/vg-root rw\n\
                      2 1 253:0 /sub /mnt/sub rw - ext4 /dev/mapper/vg-root rw\n\
                      3 1 252:3 / /srv rw - xfs /dev/vda3 rw";
        fake.write(&fake.machine.proc.join("self/mountinfo"), mounts);
        let swap = fake.machine.dev.join("dm-1");
        let swaps =
            format!("Filename Type Size Used Priority\n{} partition 1 0 -2", swap.display());
        fake.write(&fake.machine.proc.join("swaps"), &swaps);
        fake
    }

    fn run(fake: &FakeMachine, refuses: bool) -> (Result<()>, Vec<String>, Vec<Step>) {
        let kernel = Fake { machine: &fake.machine, notes: RefCell::default(), refuses };
        let mut said = Vec::new();
        let mut say = |step| said.push(step);
        let mut release = Release { machine: &fake.machine, kernel: &kernel, say: &mut say };
        let result = release.device("vda");
        (result, kernel.notes.into_inner(), said)
    }

    #[test]
    fn all_is_stopped_from_the_outermost_in() {
        let (result, notes, said) = run(&stacked(), false);
        result.unwrap();
        assert_eq!(
            notes,
            [
                "umount /mnt/sub",
                "umount /mnt",
                "dmsetup remove vg-root",
                "swapoff dm-1",
                "dmsetup remove vg-swap",
                "mdadm --stop md0",
                "umount /srv",
            ]
        );
        assert_eq!(said.len(), notes.len());
        assert!(said.contains(&Step::Stop { device: "dm-0 (LVM vg-root)".into() }), "{said:?}");
    }

    #[test]
    fn the_same_steps_are_told_without_doing_any() {
        let fake = stacked();
        let disk = Disk { name: "vda".into(), ..Disk::default() };
        let told = release_steps(&fake.machine, &disk).unwrap();
        assert_eq!(release_steps(&fake.machine, &disk).unwrap(), told);
        let (result, _, said) = run(&fake, false);
        result.unwrap();
        assert_eq!(told, said);
        let text: Vec<String> = told.iter().map(Step::to_string).collect();
        assert_eq!(text[0], "unmount /mnt/sub, which is on dm-0");
        assert_eq!(text[3], "switch off swap on dm-1");
        assert_eq!(said[0].done(), "unmounted /mnt/sub, which was on dm-0");
    }

    #[test]
    fn what_cannot_be_stopped_is_left_and_named() {
        let fake = stacked();
        fake.write(&fake.machine.sysfs.join("class/block/vda3/holders/bcache0"), "");
        let (result, _, said) = run(&fake, false);
        result.unwrap();
        let left = said.iter().filter(|step| matches!(step, Step::Leave { .. }));
        assert_eq!(left.collect::<Vec<_>>(), [&Step::Leave { device: "bcache0".into() }]);
    }

    #[test]
    fn what_the_kernel_refuses_is_named() {
        let (result, _, said) = run(&stacked(), true);
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with("unmounting /mnt/sub: ") && said.is_empty(), "{error}");
    }

    #[test]
    fn a_request_has_the_layout_of_the_kernel() {
        assert_eq!(size_of::<MapperRequest>(), 312);
        assert_eq!(MapperRequest::named("vg-root").unwrap().name[..8], *b"vg-root\0");
        assert!(MapperRequest::named(&"x".repeat(128)).is_err());
    }

    #[test]
    fn without_device_mapper_its_node_is_missed() {
        let linux = Linux { control: "/nowhere/control".into() };
        let error = linux.remove_mapping("vg-root").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
