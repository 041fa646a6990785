//! `nibs inventory`: what this machine says of itself.

use std::fmt::Write;

use anyhow::Context;
use nibs_job::{DiskFacts, Facts, Firmware, Size};

use super::Exit;
use super::here::Here;

/// `nibs inventory [--json]`
pub(super) fn inventory(json: bool) -> anyhow::Result<Exit> {
    let facts = Here::look(None).facts();
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
    page
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
            ..Facts::default()
        };
        let page = table(&facts);
        for part in [
            "memory       256.0 MiB",
            "UEFI, Secure Boot not enforced",
            "disk         /dev/vda, 4.0 GiB, 512-byte sectors, solid state, serial \"S1\"",
            "interface    eth0, 52:54:00:00:00:01, link, 10.0.0.2/24",
        ] {
            assert!(page.contains(part), "{part:?} is not in\n{page}");
        }
        assert!(!page.contains("vendor"));
    }
}
