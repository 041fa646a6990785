//! Runs the programs of other packages: in a fixed environment, and with their last words in the
//! error when they fail.

use std::env;
use std::ffi::OsString;
use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::EPOCH;

/// Lines of a failed program's stderr that go into the error.
const LAST_LINES: usize = 8;

/// A program and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
}

pub(crate) const APT_GET: Tool = Tool { program: "apt-get", package: "apt" };
pub(crate) const DEBUGFS: Tool = Tool { program: "debugfs", package: "e2fsprogs" };
pub(crate) const GRUB_MKIMAGE: Tool = Tool { program: "grub-mkimage", package: "grub-common" };
pub(crate) const LZ4: Tool = Tool { program: "lz4", package: "lz4" };
pub(crate) const MCOPY: Tool = Tool { program: "mcopy", package: "mtools" };
pub(crate) const MKE2FS: Tool = Tool { program: "mke2fs", package: "e2fsprogs" };
pub(crate) const MKFS_VFAT: Tool = Tool { program: "mkfs.vfat", package: "dosfstools" };
pub(crate) const MMDEBSTRAP: Tool = Tool { program: "mmdebstrap", package: "mmdebstrap" };
pub(crate) const SH: Tool = Tool { program: "sh", package: "dash" };
pub(crate) const UNSHARE: Tool = Tool { program: "unshare", package: "util-linux" };
pub(crate) const ZSTD: Tool = Tool { program: "zstd", package: "zstd" };

impl Tool {
    /// A command of this tool whose output does not depend on locale, time zone or time.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(self.program);
        command
            // Debian leaves the sbin directories out of an ordinary user's path.
            .env("PATH", path_with_sbin())
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
            .env("E2FSPROGS_FAKE_TIME", EPOCH.to_string())
            // The images have no geometry, which mtools would complain about.
            .env("MTOOLS_SKIP_CHECK", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs `command`, made by [`Tool::command`], and returns what it wrote to stdout.
    pub(crate) fn run(self, command: &mut Command) -> Result<Vec<u8>> {
        let output = match command.output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!(
                    "running {}: not found; install Debian's package {}",
                    self.program,
                    self.package
                )
            }
            output => output.with_context(|| format!("running {}", self.program))?,
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
            bail!("running {command:?}: {}\n  {last}", output.status);
        }
        Ok(output.stdout)
    }
}

fn path_with_sbin() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_its_status_and_its_last_lines_only() {
        let mut command = SH.command();
        command.args(["-c", "seq 1 20 >&2; exit 7"]);
        let error = SH.run(&mut command).unwrap_err().to_string();
        assert!(error.contains("seq 1 20"), "{error}");
        assert!(error.contains("exit status: 7"), "{error}");
        assert!(error.ends_with("13\n  14\n  15\n  16\n  17\n  18\n  19\n  20"), "{error}");
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let tool = Tool { program: "no-such-program-here", package: "some-package" };
        let error = tool.run(&mut tool.command()).unwrap_err().to_string();
        assert_eq!(
            error,
            "running no-such-program-here: not found; install Debian's package some-package"
        );
    }
}
