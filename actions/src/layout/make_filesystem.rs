//! Empty filesystems, by the programs of the running system; swap space by ourselves.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nibs_job::Class;
use nibs_job::params::{Format, MakeFilesystem};
use uuid::Uuid;

use super::swap;
use crate::process::{self, Named, ProcessError};
use crate::{Context, Done, Error, mount, volume};

/// Where such programs are, whatever the agent was started with.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whose programs they are.
const PLACE: &str = "the system that the agent runs in";

/// A filesystem could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The device cannot be had for oneself.
    #[error(
        "making {format} on {}: {cause}; is it mounted, used as swap or held by LVM or RAID?",
        device.display()
    )]
    Busy {
        /// The device.
        device: PathBuf,
        /// The filesystem.
        format: &'static str,
        /// The kernel's word.
        cause: io::Error,
    },
    /// Writing it failed.
    #[error("making {format} on {}: {cause}", device.display())]
    Write {
        /// The device.
        device: PathBuf,
        /// The filesystem.
        format: &'static str,
        /// What went wrong.
        cause: io::Error,
    },
    /// What is there now is something else.
    #[error(
        "making {format} on {}: its program says that it did, but {} is there", device.display(),
        found.as_deref().unwrap_or("nothing known")
    )]
    Missing {
        /// The device.
        device: PathBuf,
        /// The filesystem.
        format: &'static str,
        /// What libblkid finds.
        found: Option<String>,
    },
}

impl FormatError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        Class::Environment
    }
}

/// Does the action.
pub(crate) fn make_filesystem(params: &MakeFilesystem, context: &Context) -> Result<Done, Error> {
    let device = volume::device(&params.on, context)?;
    make(&device, params, context)?;
    Ok(Done::default())
}

/// Makes the filesystem on a device, and looks whether it is there.
pub(crate) fn make(device: &Path, params: &MakeFilesystem, context: &Context) -> Result<(), Error> {
    let format = params.format.as_str();
    let busy = |cause| FormatError::Busy { device: device.to_owned(), format, cause };
    // Of a block device, only for whom nobody else has mounted it.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_EXCL | libc::O_CLOEXEC)
        .open(device)
        .map_err(busy)?;
    context.info(format!("making {format} on {}", device.display()));
    if params.format == Format::Swap {
        let label = params.label.as_deref().unwrap_or_default();
        make_swap(&mut file, label, context).map_err(|cause| FormatError::Write {
            device: device.to_owned(),
            format,
            cause,
        })?;
    } else {
        // The program wants it for itself.
        drop(file);
        run_program(device, params, context)?;
    }
    let found = mount::probe(device)?.map(|info| info.kind);
    if found.as_deref() != Some(format) {
        return Err(FormatError::Missing { device: device.to_owned(), format, found }.into());
    }
    Ok(())
}

fn make_swap(file: &mut File, label: &str, context: &Context) -> io::Result<()> {
    let mut bytes = [0; 16];
    File::open(context.machine.dev.join("urandom"))?.read_exact(&mut bytes)?;
    let uuid = uuid::Builder::from_random_bytes(bytes).into_uuid();
    make_swap_of(file, label, uuid)
}

fn make_swap_of(file: &mut File, label: &str, uuid: Uuid) -> io::Result<()> {
    let size = file.seek(SeekFrom::End(0))?;
    swap::make(file, size, page_size(), label, uuid)
}

/// Bytes of a page of memory.
fn page_size() -> usize {
    // SAFETY: it takes no pointer, and only asks.
    #[allow(unsafe_code)]
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Whether the program for a format is here.
pub(crate) fn check_program(format: Format) -> Result<(), Error> {
    let Some((program, package)) = program(format) else { return Ok(()) };
    let runs = |file: PathBuf| {
        fs::metadata(file).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
    };
    if PATH.split(':').any(|directory| runs(Path::new(directory).join(program))) {
        return Ok(());
    }
    Err(ProcessError::NotFound {
        program: program.to_owned(),
        place: PLACE.to_owned(),
        remedy: remedy(program, package),
    }
    .into())
}

fn run_program(device: &Path, params: &MakeFilesystem, context: &Context) -> Result<(), Error> {
    let Some((program, package)) = program(params.format) else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments(params)).arg(device).env("PATH", PATH);
    let remedy = remedy(program, package);
    let named = Named { program, place: PLACE, remedy: &remedy };
    Ok(process::run(&mut command, named, Command::spawn, context)?)
}

/// The program that makes a format, and the package of it; `None`: it is made without one.
fn program(format: Format) -> Option<(&'static str, &'static str)> {
    match format {
        Format::Ext2 | Format::Ext3 | Format::Ext4 => Some(("mke2fs", "e2fsprogs")),
        Format::Vfat => Some(("mkfs.fat", "dosfstools")),
        Format::Xfs => Some(("mkfs.xfs", "xfsprogs")),
        Format::Btrfs => Some(("mkfs.btrfs", "btrfs-progs")),
        Format::Swap => None,
    }
}

fn remedy(program: &str, package: &str) -> String {
    format!(
        "add {program} (package {package}) to the initramfs or image that the agent runs in, or \
         install an image that has its filesystems already"
    )
}

fn arguments(params: &MakeFilesystem) -> Vec<OsString> {
    let label_option = if params.format == Format::Vfat { "-n" } else { "-L" };
    let mut arguments: Vec<&str> = params.options.iter().map(String::as_str).collect();
    if let Some(label) = &params.label {
        arguments.extend([label_option, label]);
    }
    // Whatever is there is to go.
    match params.format {
        Format::Ext2 | Format::Ext3 | Format::Ext4 => {
            arguments.extend(["-q", "-F", "-t", params.format.as_str()]);
        }
        Format::Xfs | Format::Btrfs => arguments.push("-f"),
        Format::Vfat | Format::Swap => {}
    }
    arguments.into_iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nibs_job::params::Volume;

    #[test]
    fn options_and_label_go_before_what_is_always_said() {
        let params = |format, label: Option<&str>, options: &[&str]| MakeFilesystem {
            on: Volume::at("/dev/sda1"),
            format,
            label: label.map(str::to_owned),
            options: options.iter().map(ToString::to_string).collect(),
        };
        for (params, expected) in [
            (params(Format::Ext3, Some("root"), &["-m", "1"]), "-m 1 -L root -q -F -t ext3"),
            (params(Format::Vfat, Some("ESP"), &["-F", "32"]), "-F 32 -n ESP"),
            (params(Format::Xfs, None, &[]), "-f"),
        ] {
            let arguments = arguments(&params);
            assert_eq!(arguments.join(std::ffi::OsStr::new(" ")), expected);
        }
    }
}
