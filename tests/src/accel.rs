//! How the host runs a virtual machine: by hardware where that truly works.
//!
//! That `/dev/kvm` opens says little: under nested virtualisation it may be unable to run real
//! mode or firmware, and then fails at the first instruction. So a machine is switched on for a
//! moment, and hardware counts only if its firmware speaks.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::firmware::Firmware;
use crate::process::Daemon;
use crate::qmp::Qmp;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's translation in software.
    Tcg,
}

/// How long firmware has to say anything under hardware virtualisation; it takes about a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at the machine.
const POLL: Duration = Duration::from_millis(20);

impl Accelerator {
    /// The name QEMU knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// What works on this host, tried once in the life of this process.
    pub fn probe(firmware: &Firmware, directory: &Path) -> Self {
        static VERDICT: OnceLock<Accelerator> = OnceLock::new();
        *VERDICT.get_or_init(|| {
            let works =
                Path::new("/dev/kvm").exists() && speaks(firmware, directory).unwrap_or(false);
            if works { Self::Kvm } else { Self::Tcg }
        })
    }
}

/// Whether firmware prints anything under KVM before QEMU gives up on it.
fn speaks(firmware: &Firmware, directory: &Path) -> Result<bool> {
    let [console, socket, log] =
        ["probe-console.log", "probe-qmp.sock", "probe.log"].map(|name| directory.join(name));
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-machine", "q35,accel=kvm", "-m", "128", "-nodefaults", "-display", "none"])
        .args(["-drive".into(), firmware.code_drive()])
        .args(["-serial".into(), format!("file:{}", console.display())])
        .args(["-qmp".into(), format!("unix:{},server=on,wait=off", socket.display())]);
    let mut qemu = Daemon::spawn("QEMU with KVM", &mut command, &log)?;
    let deadline = Instant::now() + PATIENCE;
    while !socket.exists() {
        qemu.check()?;
        thread::sleep(POLL);
    }
    let mut qmp = Qmp::connect(&socket)?;
    while Instant::now() < deadline && qmp.status()? == "running" {
        if console.metadata().is_ok_and(|log| log.len() > 0) {
            return Ok(true);
        }
        thread::sleep(POLL);
    }
    Ok(false)
}
