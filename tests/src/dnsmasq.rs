//! DHCP and TFTP as in a data centre: the firmware's PXE gets iPXE, and iPXE gets the boot script.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::firmware::Firmware;
use crate::network::{BRIDGE, FIRST_LEASE, LAST_LEASE};
use crate::process::Daemon;

/// What the firmware loads over TFTP.
const BOOT_FILE: &str = "snponly.efi";

/// Starts dnsmasq; `boot_script` is the URL that iPXE gets. Its log is `directory/dnsmasq.log`.
pub fn start(directory: &Path, firmware: &Firmware, boot_script: &str) -> Result<Daemon> {
    let root = directory.join("tftp");
    fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
    fs::copy(&firmware.ipxe, root.join(BOOT_FILE))
        .with_context(|| format!("copying {}", firmware.ipxe.display()))?;

    let mut command = Command::new("dnsmasq");
    command
        .args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--log-dhcp"])
        .args([format!("--interface={BRIDGE}"), "--bind-interfaces".into()])
        .arg(format!("--dhcp-leasefile={}", directory.join("leases").display()))
        .arg(format!("--dhcp-range={FIRST_LEASE},{LAST_LEASE},1h"))
        // Router advertisements, since iPXE asks for one and waits 16 seconds for the answer.
        .args(["--enable-ra".into(), format!("--dhcp-range=::,constructor:{BRIDGE},ra-only")])
        .args(["--enable-tftp".into(), format!("--tftp-root={}", root.display())])
        // Client architectures (RFC 4578 and its errata): 7 and 9 are both 64-bit x86 UEFI.
        .args(["--dhcp-match=set:efi,option:client-arch,7"])
        .args(["--dhcp-match=set:efi,option:client-arch,9"])
        .args(["--dhcp-userclass=set:ipxe,iPXE"])
        // iPXE's `no-pxedhcp`: there is no proxy DHCP server to wait for, which takes 3 seconds.
        .args(["--dhcp-option=tag:ipxe,encap:175,176,1b"])
        .arg(format!("--dhcp-boot=tag:efi,tag:!ipxe,{BOOT_FILE}"))
        .arg(format!("--dhcp-boot=tag:ipxe,{boot_script}"));
    Daemon::spawn("dnsmasq", &mut command, &directory.join("dnsmasq.log"))
}
