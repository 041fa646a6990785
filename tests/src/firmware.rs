//! What a machine has before it has anything: Debian's OVMF and iPXE, and an NVRAM that says
//! network first.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::nvram::{Nvram, network_entry};

/// Number of the network's boot entry.
const NETWORK_ENTRY: u16 = 1;

/// Files of the firmware, where Debian's packages `ovmf` and `ipxe` put them.
#[derive(Debug, Clone)]
pub struct Firmware {
    /// OVMF's program.
    pub code: PathBuf,
    /// OVMF's empty variable store.
    pub variables: PathBuf,
    /// iPXE as an EFI program that uses the firmware's own network driver.
    pub ipxe: PathBuf,
    /// Whether its variables can be written through system management mode only, without which
    /// OVMF knows no Secure Boot.
    pub guards_variables: bool,
}

impl Default for Firmware {
    fn default() -> Self {
        Self {
            code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
            variables: "/usr/share/OVMF/OVMF_VARS_4M.fd".into(),
            ipxe: "/usr/lib/ipxe/snponly.efi".into(),
            guards_variables: false,
        }
    }
}

impl Firmware {
    /// OVMF with Secure Boot, and no keys yet: in Setup Mode.
    pub fn in_setup_mode() -> Self {
        Self {
            code: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd".into(),
            guards_variables: true,
            ..Self::default()
        }
    }

    /// All its files.
    pub fn files(&self) -> [&Path; 3] {
        [&self.code, &self.variables, &self.ipxe]
    }

    /// The program, as a drive of QEMU's.
    pub(crate) fn code_drive(&self) -> String {
        format!("if=pflash,format=raw,unit=0,readonly=on,file={}", self.code.display())
    }

    /// What QEMU has to be told besides its drives.
    pub(crate) fn arguments(&self) -> &'static [&'static str] {
        match self.guards_variables {
            true => &["-global", "driver=cfi.pflash01,property=secure,value=on"],
            false => &[],
        }
    }

    /// Writes the NVRAM of a new machine whose network card is device `slot` and has the address
    /// `mac`: it knows the network only, and OVMF puts the disks it finds behind it.
    ///
    /// Not QEMU's `bootindex`: from that, OVMF makes the boot order anew at every start, so that
    /// what an installer says of it would never count.
    pub fn write_nvram(&self, path: &Path, slot: u8, mac: [u8; 6]) -> Result<()> {
        let template = fs::read(&self.variables)
            .with_context(|| format!("reading {}", self.variables.display()))?;
        let mut nvram = Nvram::parse(template)
            .with_context(|| format!("reading {}", self.variables.display()))?;
        nvram.add(&format!("Boot{NETWORK_ENTRY:04X}"), &network_entry(slot, mac))?;
        nvram.add("BootOrder", &NETWORK_ENTRY.to_le_bytes())?;
        // No wait for a key that nobody will press.
        nvram.add("Timeout", &0u16.to_le_bytes())?;
        fs::write(path, nvram.bytes()).with_context(|| format!("writing {}", path.display()))
    }
}
