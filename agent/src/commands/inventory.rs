//! `nibs inventory`: what this machine says of itself.

use std::fmt::Write;

use anyhow::Context;
use nibs_job::inventory::{Baseboard, Inventory, PciDevice, UNKNOWN};
use nibs_job::{DiskFacts, Facts, Firmware, Size};

use super::Exit;
use super::here::Here;

/// `nibs inventory [--json]`
pub(super) fn inventory(json: bool) -> anyhow::Result<Exit> {
    let facts = Here::look(None).facts_and_inventory();
    if json {
        let text = serde_json::to_string_pretty(&facts).context("writing the inventory as JSON")?;
        println!("{text}");
    } else {
        print!("{}", table(&facts));
    }
    Ok(Exit::Done)
}

/// A page for people; what is not known is not there.
fn table(facts: &Facts) -> String {
    let mut page = String::new();
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // What firmware says must not command the terminal.
            let value = value.replace(char::is_control, "?");
            // Writing to a string does not fail.
            let _ = writeln!(page, "{name:<12} {value}");
        }
    };
    row("architecture", Some(facts.architecture.clone()));
    row("processors", Some(facts.processors.to_string()));
    row("memory", Some(Size(facts.memory).to_string()));
    row("firmware", Some(firmware(facts)));
    row("vendor", facts.vendor.clone());
    row("product", facts.product.clone());
    row("serial", facts.serial.clone());
    row("uuid", facts.uuid.clone());
    for disk in &facts.disks {
        row("disk", Some(disk_in_words(disk)));
    }
    for interface in &facts.interfaces {
        let link = if interface.carrier { "link" } else { "no link" };
        let mut words = vec![interface.name.clone(), interface.mac.clone(), link.into()];
        words.extend(interface.addresses.iter().cloned());
        row("interface", Some(words.join(", ")));
    }
    for (name, value) in facts.inventory.iter().flat_map(parts) {
        row(name, value);
    }
    page
}

/// What the inventory says beyond what jobs and machines are matched by.
fn parts(inventory: &Inventory) -> Vec<(&'static str, Option<String>)> {
    let Inventory { cpu, memory, chassis, bios, baseboard, .. } = inventory;
    let mut rows = Vec::new();
    for processor in &cpu.processors {
        let counts = format!("{} cores, {} threads", processor.cores, processor.threads);
        rows.push(("cpu", known(&[&processor.vendor, &processor.model, &counts])));
    }
    rows.push(("total memory", known(&[&memory.total])));
    rows.push(("chassis", known(&[&chassis.vendor, &chassis.serial])));
    rows.push(("bios", known(&[&bios.vendor, &bios.version, &bios.release_date])));
    let Baseboard { vendor, product, version, serial_number } = baseboard;
    rows.push(("baseboard", known(&[vendor, product, version, serial_number])));
    let device = |device: &PciDevice| {
        let driver = device.driver.as_ref().map(|driver| format!("driver {driver}"));
        known(&[&device.class, &device.vendor, &device.product, &driver.unwrap_or_default()])
    };
    rows.extend(inventory.gpu_devices.iter().map(|gpu| ("gpu", device(gpu))));
    rows.extend(inventory.pci_devices.iter().map(|pci| ("pci", device(pci))));
    rows
}

/// Those words that say something.
fn known(words: &[&str]) -> Option<String> {
    let says = |word: &&str| !word.is_empty() && *word != UNKNOWN;
    let words: Vec<&str> = words.iter().copied().filter(says).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// A disk by all that a job may choose it by.
pub(super) fn disk_in_words(disk: &DiskFacts) -> String {
    let mut words = vec![disk.path.clone(), Size(disk.size).to_string()];
    words.push(format!("{}-byte sectors", disk.sector_size));
    words.push(if disk.rotational { "spinning".into() } else { "solid state".into() });
    words.extend(disk.removable.then(|| "removable".into()));
    words.extend(disk.model.as_ref().map(|model| format!("model {model:?}")));
    words.extend(disk.serial.as_ref().map(|serial| format!("serial {serial:?}")));
    words.extend(disk.wwn.as_ref().map(|wwn| format!("wwn {wwn}")));
    words.join(", ")
}

fn firmware(facts: &Facts) -> String {
    let kind = match facts.firmware {
        Firmware::Uefi => "UEFI",
        Firmware::Bios => "BIOS",
        Firmware::Unknown => "unknown",
    };
    let secure_boot = match facts.secure_boot {
        Some(true) => ", Secure Boot enforced",
        Some(false) => ", Secure Boot not enforced",
        None => "",
    };
    format!("{kind}{secure_boot}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nibs_job::InterfaceFacts;
    use nibs_job::inventory::{Bios, Chassis, Cpu, Processor};

    #[test]
    fn the_page_shows_what_a_job_selects_by() {
        let facts = Facts {
            architecture: "x86_64".into(),
            memory: 256 << 20,
            firmware: Firmware::Uefi,
            secure_boot: Some(false),
            disks: vec![DiskFacts {
                path: "/dev/vda".into(),
                size: 4 << 30,
                sector_size: 512,
                serial: Some("S1".into()),
                ..DiskFacts::default()
            }],
            interfaces: vec![InterfaceFacts {
                name: "eth0".into(),
                mac: "52:54:00:00:00:01".into(),
                carrier: true,
                addresses: vec!["10.0.0.2/24".into()],
            }],
            inventory: Some(Inventory {
                cpu: Cpu {
                    processors: vec![Processor {
                        cores: 2,
                        threads: 4,
                        model: "Fast\u{1b}[2J One".into(),
                        ..Processor::default()
                    }],
                    ..Cpu::default()
                },
                chassis: Chassis { serial: UNKNOWN.into(), vendor: UNKNOWN.into() },
                bios: Bios {
                    vendor: "Maker".into(),
                    version: UNKNOWN.into(),
                    release_date: "01/02/2026".into(),
                },
                pci_devices: vec![PciDevice {
                    vendor: "0x1af4".into(),
                    product: "0x1000".into(),
                    class: "0x02".into(),
                    driver: Some("virtio-pci".into()),
                }],
                ..Inventory::default()
            }),
            ..Facts::default()
        };
        let page = table(&facts);
        for part in [
            "memory       256.0 MiB",
            "UEFI, Secure Boot not enforced",
            "disk         /dev/vda, 4.0 GiB, 512-byte sectors, solid state, serial \"S1\"",
            "interface    eth0, 52:54:00:00:00:01, link, 10.0.0.2/24",
            "cpu          Fast?[2J One, 2 cores, 4 threads",
            "bios         Maker, 01/02/2026",
            "pci          0x02, 0x1af4, 0x1000, driver virtio-pci",
        ] {
            assert!(page.contains(part), "{part:?} is not in\n{page}");
        }
        for absent in ["vendor", "chassis", "baseboard", UNKNOWN] {
            assert!(!page.contains(absent), "{absent:?} is in\n{page}");
        }
    }
}
