//! Block devices with hardware behind them.

use nibs_actions::Machine;
use nibs_actions::disk::udev_identity;
use nibs_job::inventory::{BlockDevice, binary_size};

use super::{names, number, or_unknown, text};

/// The kernel counts a block device's size in these, whatever its sectors are.
const KERNEL_SECTOR: u64 = 512;

/// Which controller and which drive is behind a name, by how it starts. All other kinds (loop, dm,
/// md, zram) are no hardware.
const KINDS: [(&str, &str, &str); 7] = [
    ("sd", "SCSI", HDD),
    ("hd", "IDE", HDD),
    ("vd", "virtio", HDD),
    ("nvme", "NVMe", SSD),
    ("sr", "SCSI", "ODD"),
    ("xvd", "SCSI", HDD),
    ("mmc", "MMC", SSD),
];
const HDD: &str = "HDD";
const SSD: &str = "SSD";

pub(super) fn devices(machine: &Machine) -> Vec<BlockDevice> {
    let names = names(&machine.sysfs.join("block"));
    names.into_iter().filter_map(|name| device(machine, name)).collect()
}

fn device(machine: &Machine, name: String) -> Option<BlockDevice> {
    let (_, controller, kind) = KINDS.iter().find(|(prefix, ..)| name.starts_with(prefix))?;
    let directory = machine.sysfs.join("block").join(&name);
    // A path to a namespace of a multipath NVMe subsystem: it has no node to install to.
    if text(&directory.join("hidden")).is_some_and(|hidden| hidden == "1") {
        return None;
    }
    let size = |file: &str| number(&directory.join(file)).unwrap_or(0_u64);
    let spins = number(&directory.join("queue/rotational")) == Some(1);
    let identity = udev_identity(machine, &name);
    Some(BlockDevice {
        controller_type: (*controller).to_owned(),
        drive_type: if *kind == HDD && !spins { SSD } else { kind }.to_owned(),
        size: binary_size(size("size").saturating_mul(KERNEL_SECTOR)),
        physical_block_size: binary_size(size("queue/physical_block_size")),
        vendor: or_unknown(identity.vendor),
        model: or_unknown(identity.model),
        wwn: or_unknown(identity.wwn),
        serial_number: or_unknown(identity.serial),
        name,
    })
}
