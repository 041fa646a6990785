//! A virtual UEFI machine: one QEMU process from power-on to power-off, through all its reboots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::accel::Accelerator;
use crate::console::Console;
use crate::drive::{self, Drive};
use crate::firmware::Firmware;
use crate::keyboard::Keyboard;
use crate::nvram::Nvram;
use crate::process::Daemon;
use crate::qmp::{Qmp, Work};

/// Place of the network card on the root bus; the NVRAM names it.
const NETWORK_SLOT: u8 = 3;
/// Place of the disk on the root bus.
const DISK_SLOT: u8 = 4;

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// Memory, in MiB.
    pub memory: u32,
    /// Processors.
    pub processors: u32,
    /// The disk.
    pub disk: Drive,
    /// Address of the network card.
    pub mac: [u8; 6],
    /// What runs it.
    pub accelerator: Accelerator,
    /// How it starts.
    pub start: Start,
}

/// How a machine starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// By its UEFI firmware: from the network at first, then as its NVRAM says.
    Firmware,
    /// Without firmware or network: a kernel put into its memory. It goes off where it would
    /// restart.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// Its initramfs.
        initramfs: PathBuf,
        /// Its command line.
        parameters: String,
    },
}

impl Hardware {
    /// The network card's address, lower case with colons: the name by which the control plane
    /// knows the machine.
    pub fn id(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }
}

/// A machine that is switched on. Dropped, it loses its power.
#[derive(Debug)]
pub struct Machine {
    /// Its serial console.
    pub console: Console,
    qemu: Daemon,
    qmp: Qmp,
    powered_on: Instant,
    directory: PathBuf,
}

impl Machine {
    /// Switches a machine on, its network card on `tap`. Its files are in `directory`: `disk.img`,
    /// which stays if it is there, and `nvram.fd`, `console.log`, `console.sock`, `qmp.sock`,
    /// `qemu.log`.
    pub fn power_on(
        hardware: &Hardware,
        firmware: &Firmware,
        tap: &str,
        directory: &Path,
    ) -> Result<Self> {
        let file = |name: &str| directory.join(name);
        // What a machine before it left there is not this one's.
        for stale in ["console.log", "console.sock", "qmp.sock"] {
            let _ = fs::remove_file(file(stale));
        }
        let [log, console, qmp] = ["console.log", "console.sock", "qmp.sock"]
            .map(|name| file(name).display().to_string());
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-display", "none", "-vga", "none"])
            .args(["-machine".into(), format!("q35,accel={}", hardware.accelerator.name())])
            .args(["-m".into(), hardware.memory.to_string()])
            .args(["-smp".into(), hardware.processors.to_string()])
            .args(["-cpu", "max"])
            .args(["-netdev".into(), format!("tap,id=net,ifname={tap},script=no,downscript=no")])
            // No option ROM: QEMU's own iPXE in it would take the place of the firmware's PXE.
            .args([
                "-device".into(),
                format!(
                    "virtio-net-pci,netdev=net,addr={NETWORK_SLOT:#x},romfile=,mac={}",
                    hardware.id()
                ),
            ])
            .args(["-blockdev".into(), hardware.disk.blockdev(directory)?])
            .args([
                "-device".into(),
                format!("virtio-blk-pci,drive={},addr={DISK_SLOT:#x},serial=lab-disk", drive::NODE),
            ])
            .args(["-device", "virtio-rng-pci"])
            .args([
                "-chardev".into(),
                format!("socket,id=serial,path={console},server=on,wait=off,logfile={log}"),
            ])
            .args(["-serial", "chardev:serial"])
            .args(["-qmp".into(), format!("unix:{qmp},server=on,wait=off")]);
        match &hardware.start {
            Start::Firmware => {
                let nvram = file("nvram.fd");
                firmware.write_nvram(&nvram, NETWORK_SLOT, hardware.mac)?;
                command.args(firmware.arguments());
                command.args(["-drive".into(), firmware.code_drive()]).args([
                    "-drive".into(),
                    format!("if=pflash,format=raw,unit=1,file={}", nvram.display()),
                ]);
            }
            Start::Kernel { kernel, initramfs, parameters } => {
                command
                    .args(["-kernel".as_ref(), kernel.as_os_str()])
                    .args(["-initrd".as_ref(), initramfs.as_os_str()])
                    .args(["-append", parameters, "-no-reboot"]);
            }
        }

        let powered_on = Instant::now();
        let console = Console::follow(&file("console.log"));
        let mut qemu = Daemon::spawn("QEMU", &mut command, &file("qemu.log"))?;
        let qmp = Qmp::connect(&file("qmp.sock")).or_else(|error| {
            qemu.check()?;
            Err(error)
        })?;
        Ok(Self { console, qemu, qmp, powered_on, directory: directory.to_owned() })
    }

    /// How long it has been on.
    pub fn uptime(&self) -> Duration {
        self.powered_on.elapsed()
    }

    /// Fails if QEMU has ended.
    pub fn check(&mut self) -> Result<()> {
        self.qemu.check()
    }

    /// QEMU's process id, as this process sees it.
    pub fn process(&self) -> u32 {
        self.qemu.id()
    }

    /// How often the machine was reset since it was switched on.
    pub fn resets(&mut self) -> Result<usize> {
        self.qmp.resets()
    }

    /// What its disk has been asked for since it was switched on, and has done.
    pub fn disk_work(&mut self) -> Result<Work> {
        self.qmp.disk_work(drive::NODE)
    }

    /// Takes its power away: QEMU is killed at once. What it had handed to the host is there.
    pub fn cut_power(&mut self) -> Result<()> {
        self.qemu.kill().map(drop)
    }

    /// A keyboard on its console. One at a time, `nibs-lab console` included.
    pub fn keyboard(&self) -> Result<Keyboard> {
        Keyboard::connect(&self.directory.join("console.sock"))
    }

    /// What its NVRAM holds now.
    pub fn nvram(&self) -> Result<Nvram> {
        let path = self.directory.join("nvram.fd");
        Nvram::parse(fs::read(&path).with_context(|| format!("reading {}", path.display()))?)
    }

    /// Waits until QEMU ends.
    pub fn wait(&mut self, timeout: Duration) -> Result<()> {
        self.qemu.wait(timeout).map(drop)
    }
}
