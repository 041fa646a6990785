//! What this machine is made of, by the rules of Tinkerbell's agent (`jaypipes/ghw` 0.25), so that
//! a server's rules match whichever agent runs.
//!
//! Where that agent needs a program or a daemon which an initramfs does not have, the kernel is
//! asked itself. Nothing here fails: what cannot be read is [`UNKNOWN`] or empty, and what the
//! kernel or the firmware says is never trusted to be well-formed.

mod block;
mod cpu;
mod firmware;
mod memory;
mod network;
mod pci;
mod pci_ids;

use std::fs;
use std::path::Path;

use nibs_actions::Machine;
use nibs_job::Inventory;
use nibs_job::inventory::UNKNOWN;

/// Looks at all of the machine.
pub fn inventory(machine: &Machine) -> Inventory {
    let sys = &machine.sysfs;
    let (pci_devices, gpu_devices) = pci::devices(machine);
    let firmware = firmware::Told::by(sys);
    Inventory {
        cpu: cpu::cpu(machine),
        memory: memory::memory(machine),
        block_devices: block::devices(machine),
        network_interfaces: network::interfaces(sys),
        pci_devices,
        gpu_devices,
        chassis: firmware.chassis(),
        bios: firmware.bios(),
        baseboard: firmware.baseboard(),
        product: firmware.product(),
    }
}

/// A file's text, without spaces and zeros around it. May be empty.
fn text(file: &Path) -> Option<String> {
    let text = fs::read(file).ok()?;
    let text = String::from_utf8_lossy(&text);
    Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
}

/// A file that holds a decimal number.
fn number<T: std::str::FromStr>(file: &Path) -> Option<T> {
    text(file)?.parse().ok()
}

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| UNKNOWN.to_owned())
}

/// Names in a directory, sorted; none if there is no such directory.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The numbers in names such as `cpu12`, in order.
fn numbered(directory: &Path, prefix: &str) -> Vec<u32> {
    let names = names(directory);
    let mut numbers: Vec<_> = names
        .iter()
        .filter_map(|name| name.strip_prefix(prefix))
        .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|number| number.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}
