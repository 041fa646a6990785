//! Everything around a machine: wire, boot services and control plane, in one directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::accel::Accelerator;
use crate::artefacts::Artefacts;
use crate::control::ControlPlane;
use crate::dnsmasq;
use crate::firmware::Firmware;
use crate::machine::{Hardware, Machine};
use crate::network::Network;
use crate::process::Daemon;

/// A lab that is up. One at a time in a network namespace.
#[derive(Debug)]
pub struct Rack {
    /// The control plane.
    pub control: ControlPlane,
    /// What runs its machines.
    pub accelerator: Accelerator,
    firmware: Firmware,
    network: Network,
    dnsmasq: Daemon,
    directory: PathBuf,
}

impl Rack {
    /// Sets the lab up in `directory`, which is emptied first. To be called inside the namespace.
    pub fn set_up(artefacts: &Artefacts, directory: &Path) -> Result<Self> {
        Self::set_up_with(Firmware::default(), artefacts, directory)
    }

    /// The same, for machines with this firmware.
    pub fn set_up_with(
        firmware: Firmware,
        artefacts: &Artefacts,
        directory: &Path,
    ) -> Result<Self> {
        Self::set_up_booting(&ControlPlane::boot_script(), firmware, artefacts, directory)
    }

    /// The same, with iPXE getting its script from this URL.
    pub fn set_up_booting(
        boot_script: &str,
        firmware: Firmware,
        artefacts: &Artefacts,
        directory: &Path,
    ) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory)
                .with_context(|| format!("emptying {}", directory.display()))?;
        }
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let network = Network::create()?;
        Ok(Self {
            control: ControlPlane::start(artefacts, directory)?,
            accelerator: Accelerator::probe(&firmware, directory),
            dnsmasq: dnsmasq::start(directory, &firmware, boot_script)?,
            firmware,
            network,
            directory: directory.to_owned(),
        })
    }

    /// Switches a machine on; its files are in the lab's directory, and a disk that is there stays.
    pub fn power_on(&mut self, hardware: &Hardware) -> Result<Machine> {
        let tap = self.network.add_tap()?;
        Machine::power_on(hardware, &self.firmware, &tap, &self.directory)
    }

    /// Fails if one of its services has ended.
    pub fn check(&mut self) -> Result<()> {
        self.dnsmasq.check()?;
        self.control.check()
    }
}
