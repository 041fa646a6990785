//! What can go wrong on the way into another kernel.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nibs_job::Class;

use super::GrubError;
use crate::Machine;

/// A kernel could not be found or loaded.
#[derive(Debug, thiserror::Error)]
pub enum KexecError {
    /// No configuration of GRUB is there.
    #[error(
        "looking for the kernel to start: no kernel is named, and none of {looked} is in this \
         filesystem; name the kernel, or the filesystem that holds /boot"
    )]
    NoGrubConfig {
        /// The paths.
        looked: String,
    },
    /// GRUB's configuration does not tell.
    #[error("reading {}: {cause}", path.display())]
    Grub {
        /// The configuration.
        path: PathBuf,
        /// What is wrong with it.
        cause: GrubError,
    },
    /// The kernel that runs did not take it.
    #[error("loading the kernel {} (kexec_file_load): {cause}; {hint}", path.display())]
    Load {
        /// The new kernel.
        path: PathBuf,
        /// The running kernel's word.
        cause: io::Error,
        /// What that means.
        hint: String,
    },
}

impl KexecError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        Class::Environment
    }

    pub(super) fn load(path: &Path, cause: io::Error, machine: &Machine) -> Self {
        Self::Load { path: path.to_owned(), hint: hint(&cause, machine), cause }
    }
}

fn hint(cause: &io::Error, machine: &Machine) -> String {
    match cause.raw_os_error() {
        Some(libc::ENOSYS | libc::EOPNOTSUPP) => {
            "the running kernel is built without CONFIG_KEXEC_FILE; reboot instead".to_owned()
        }
        Some(libc::EPERM | libc::EACCES) => refused(machine),
        Some(libc::ENOKEY | libc::EKEYREJECTED | libc::EBADMSG | libc::ENODATA) => {
            "the running kernel takes only kernels with a signature that it trusts, as under Secure \
             Boot; reboot instead"
                .to_owned()
        }
        Some(libc::ENOEXEC | libc::EINVAL) => {
            "expected a kernel image for this architecture (on aarch64 one that is not compressed)"
                .to_owned()
        }
        Some(libc::EBUSY) => "another process is loading a kernel; try again".to_owned(),
        Some(libc::ENOMEM | libc::EADDRNOTAVAIL) => {
            "no room for kernel and initramfs in memory".to_owned()
        }
        _ => "reboot instead if it cannot be helped".to_owned(),
    }
}

/// Why loading is not permitted, as far as the kernel shows.
fn refused(machine: &Machine) -> String {
    let lockdown = machine.sysfs.join("kernel/security/lockdown");
    let lockdown = fs::read_to_string(lockdown).unwrap_or_default();
    let disabled = machine.proc.join("sys/kernel/kexec_load_disabled");
    let disabled = fs::read_to_string(disabled).unwrap_or_default();
    if ["[integrity]", "[confidentiality]"].iter().any(|mode| lockdown.contains(mode)) {
        let mode = lockdown.trim();
        return format!(
            "the running kernel is locked down ({mode}), as under Secure Boot; reboot instead"
        );
    }
    if disabled.trim() == "1" {
        return "it is switched off until the next boot (kernel.kexec_load_disabled is 1); reboot \
                instead"
            .to_owned();
    }
    "the process lacks CAP_SYS_BOOT, or the running kernel is locked down; run the agent as root, a \
     container of it privileged"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errno: i32, machine: &Machine) -> String {
        let cause = io::Error::from_raw_os_error(errno);
        KexecError::load(Path::new("/boot/vmlinuz"), cause, machine).to_string()
    }

    #[test]
    fn a_refusal_says_what_the_kernel_shows_of_its_reason() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine {
            sysfs: root.path().join("sys"),
            proc: root.path().join("proc"),
            ..Machine::default()
        };
        assert!(told(libc::EPERM, &machine).contains("lacks CAP_SYS_BOOT"));
        fs::create_dir_all(machine.proc.join("sys/kernel")).unwrap();
        fs::write(machine.proc.join("sys/kernel/kexec_load_disabled"), "1\n").unwrap();
        assert!(told(libc::EPERM, &machine).contains("kexec_load_disabled is 1"));
        fs::create_dir_all(machine.sysfs.join("kernel/security")).unwrap();
        let lockdown = machine.sysfs.join("kernel/security/lockdown");
        fs::write(lockdown, "none [integrity] confidentiality\n").unwrap();
        assert!(told(libc::EPERM, &machine).contains("locked down (none [integrity]"));
    }

    #[test]
    fn what_the_kernel_says_is_put_in_words() {
        let machine = Machine::default();
        for (errno, words) in [
            (libc::ENOSYS, "without CONFIG_KEXEC_FILE"),
            (libc::ENOEXEC, "expected a kernel image for this architecture"),
            (libc::EKEYREJECTED, "a signature that it trusts"),
            (libc::EBUSY, "another process"),
        ] {
            let told = told(errno, &machine);
            assert!(told.starts_with("loading the kernel /boot/vmlinuz (kexec_file_load): "));
            assert!(told.contains(words), "{told}");
        }
    }
}
