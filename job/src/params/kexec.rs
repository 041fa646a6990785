//! `kexec`: the kernel of an installed system, started without the firmware.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Volume;
use crate::Span;

/// Starts the kernel of an installed system, without the firmware: the last action of a job, done
/// once its report is acknowledged.
///
/// Which kernel, with which initramfs and command line, is told here or read from the system's
/// `grub.cfg`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    expecting = "a table with root"
)]
pub struct Kexec {
    /// The filesystem that holds the kernel: the system's root, or its `/boot`.
    pub root: Volume,
    /// The kernel, a path in that filesystem. Default: that of the entry which GRUB would start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<PathBuf>,
    /// Its initramfs, one archive or several in their order. Needs `kernel`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initrds: Vec<PathBuf>,
    /// Its command line. Default: that of the entry which GRUB would start; none with `kernel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// GRUB's configuration, a path in that filesystem. Default: the first that is there of
    /// `/boot/grub/grub.cfg`, `/boot/grub2/grub.cfg`, `/grub/grub.cfg` and `/grub2/grub.cfg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grub_config: Option<PathBuf>,
    /// How long to wait once the report is acknowledged. Default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
}

impl Kexec {
    /// The one that GRUB would start.
    pub fn of(root: Volume) -> Self {
        Self {
            root,
            kernel: None,
            initrds: Vec::new(),
            command_line: None,
            grub_config: None,
            delay: None,
        }
    }

    fn checked(self) -> Result<Self, String> {
        if self.kernel.is_none() && !self.initrds.is_empty() {
            return Err("initrds belong to kernel, which is missing".into());
        }
        if self.kernel.is_some() && self.grub_config.is_some() {
            return Err("has both kernel and grub-config; expected one of them".into());
        }
        if self.command_line.as_ref().is_some_and(|line| line.contains('\0')) {
            return Err("command-line: has a NUL, which no kernel can be given".into());
        }
        Ok(self)
    }
}

checked_on_decode!(Kexec);
