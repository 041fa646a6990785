//! `kexec`: the kernel of an installed system, started without the firmware.
//!
//! - [`grub`]: which kernel GRUB would start, and how.
//! - [`boot_loader_spec`]: the entries of the Boot Loader Specification, where GRUB shows those.
//! - [`load`]: the system call kexec_file_load.
//!
//! The kernel is loaded at once, so that one that cannot be started fails the action. The jump
//! itself is a [`PowerChange`], made once the report is acknowledged.

mod boot_loader_spec;
mod error;
mod grub;
mod load;

use std::fs::File;
use std::path::{Path, PathBuf};

use nibs_job::params::Kexec;

pub use self::error::KexecError;
pub use self::grub::GrubError;
use crate::mount::{self, Access, FileError, Root};
use crate::{Context, Done, Error, PowerChange, power, volume};

/// Where GRUB's configuration is: with `/boot` in the filesystem, and of a `/boot` of its own.
const GRUB_CONFIGS: [&str; 4] =
    ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/grub/grub.cfg", "/grub2/grub.cfg"];

/// The most that is read of a configuration: those of machines with many kernels have some 30 KiB.
const MAX_CONFIG: u64 = 4 << 20;

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Entry {
    title: String,
    kernel: PathBuf,
    initrds: Vec<PathBuf>,
    command_line: String,
}

/// Does the action.
pub(crate) fn run(params: &Kexec, context: &Context) -> Result<Done, Error> {
    if let Some(reason) = power::restarts_instead(&context.machine.proc)? {
        let done = power::run(&PowerChange::Reboot, params.delay, context)?;
        return Ok(Done { degraded: vec![reason], ..done });
    }
    let (device, filesystem) = volume::filesystem(&params.root, context)?;
    mount::with_mounted(&device, filesystem, Access::ReadOnly, |root| {
        context.check()?;
        let entry = chosen(params, root)?;
        let kernel = open(root, &entry.kernel)?;
        let initrds = entry.initrds.iter().map(|path| open(root, path));
        let initrds = initrds.collect::<Result<Vec<_>, _>>()?;
        context.info(format!("loading the kernel of {}: {entry}", device.display()));
        load::load(&kernel, initrds, &entry.command_line)
            .map_err(|cause| KexecError::load(&entry.kernel, cause, &context.machine))?;
        Ok::<(), Error>(())
    })?;
    power::run(&PowerChange::Kexec, params.delay, context)
}

/// Without the command line, which may hold secrets.
impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.title.is_empty() {
            write!(f, "entry {:?}, ", self.title)?;
        }
        write!(f, "kernel {}", self.kernel.display())?;
        for path in &self.initrds {
            write!(f, ", initramfs {}", path.display())?;
        }
        Ok(())
    }
}

fn chosen(params: &Kexec, root: &Root) -> Result<Entry, Error> {
    let mut entry = match &params.kernel {
        Some(kernel) => {
            Entry { kernel: kernel.clone(), initrds: params.initrds.clone(), ..Entry::default() }
        }
        None => from_grub(params.grub_config.as_deref(), root)?,
    };
    if let Some(line) = &params.command_line {
        entry.command_line.clone_from(line);
    }
    Ok(entry)
}

/// What GRUB would start.
fn from_grub(config: Option<&Path>, root: &Root) -> Result<Entry, Error> {
    let path = match config {
        Some(path) => Path::new("/").join(path),
        None => GRUB_CONFIGS
            .iter()
            .map(PathBuf::from)
            .find(|path| root.open_file(path).is_ok())
            .ok_or(KexecError::NoGrubConfig { looked: GRUB_CONFIGS.join(", ") })?,
    };
    let text = root.read(&path, MAX_CONFIG)?;
    let text = String::from_utf8_lossy(&text);
    let environment = root.read(&path.with_file_name("grubenv"), MAX_CONFIG).unwrap_or_default();
    let environment = grub::environment(&String::from_utf8_lossy(&environment));
    let specification = || boot_loader_spec::read(root);
    grub::default_entry(&text, &environment, &specification)
        .map_err(|cause| KexecError::Grub { path, cause }.into())
}

/// Opens a file by the path that GRUB has for it, which lacks `/boot` where that is a filesystem of
/// its own.
fn open(root: &Root, path: &Path) -> Result<File, FileError> {
    let path = Path::new("/").join(path);
    let other = match path.strip_prefix("/boot") {
        Ok(below) => Path::new("/").join(below),
        Err(_) => Path::new("/boot").join(path.strip_prefix("/").unwrap_or(&path)),
    };
    let first = root.open_file(&path);
    match first {
        Err(error) => root.open_file(&other).map_err(|_| error),
        opened => opened,
    }
}
