//! The inventory of a machine as a message of tink-agent's protocol.

use nibs_job::{Inventory, inventory};

use super::proto::{
    AgentAttributes, Baseboard, Bios, Block, Chassis, Cpu, Gpu, Memory, Network, Pci, Processor,
    Product,
};

impl From<Inventory> for AgentAttributes {
    fn from(machine: Inventory) -> Self {
        let Inventory { cpu, memory, chassis, bios, baseboard, product, .. } = machine;
        Self {
            cpu: Some(Cpu {
                total_cores: Some(cpu.total_cores),
                total_threads: Some(cpu.total_threads),
                processors: cpu.processors.into_iter().map(Processor::from).collect(),
            }),
            memory: Some(Memory { total: Some(memory.total), usable: Some(memory.usable) }),
            block: machine.block_devices.into_iter().filter_map(block).collect(),
            network: machine.network_interfaces.into_iter().map(Network::from).collect(),
            pci: machine.pci_devices.into_iter().map(Pci::from).collect(),
            gpu: machine.gpu_devices.into_iter().map(Gpu::from).collect(),
            chassis: Some(Chassis { serial: Some(chassis.serial), vendor: Some(chassis.vendor) }),
            bios: Some(Bios {
                vendor: Some(bios.vendor),
                version: Some(bios.version),
                release_date: Some(bios.release_date),
            }),
            baseboard: Some(Baseboard {
                vendor: Some(baseboard.vendor),
                product: Some(baseboard.product),
                version: Some(baseboard.version),
                serial_number: Some(baseboard.serial_number),
            }),
            product: Some(Product {
                name: Some(product.name),
                vendor: Some(product.vendor),
                serial_number: Some(product.serial_number),
            }),
        }
    }
}

/// None without a name: a server that discovers machines ends itself at a size without one.
fn block(device: inventory::BlockDevice) -> Option<Block> {
    Some(Block {
        name: Some(Some(device.name).filter(|name| !name.is_empty())?),
        controller_type: Some(device.controller_type),
        drive_type: Some(device.drive_type),
        // It takes what has a size for a disk of the machine, which an empty drive is not.
        size: Some(device.size).filter(|size| !size.is_empty()),
        physical_block_size: Some(device.physical_block_size),
        vendor: Some(device.vendor),
        model: Some(device.model),
        wwn: Some(device.wwn),
        serial_number: Some(device.serial_number),
    })
}

impl From<inventory::Processor> for Processor {
    fn from(processor: inventory::Processor) -> Self {
        Self {
            id: Some(processor.id),
            cores: Some(processor.cores),
            threads: Some(processor.threads),
            vendor: Some(processor.vendor),
            model: Some(processor.model),
            capabilities: processor.capabilities,
        }
    }
}

impl From<inventory::NetworkInterface> for Network {
    fn from(interface: inventory::NetworkInterface) -> Self {
        Self {
            name: Some(interface.name),
            mac: Some(interface.mac),
            speed: Some(interface.speed),
            enabled_capabilities: interface.enabled_capabilities,
        }
    }
}

impl From<inventory::PciDevice> for Pci {
    fn from(device: inventory::PciDevice) -> Self {
        let inventory::PciDevice { vendor, product, class, driver } = device;
        Self { vendor: Some(vendor), product: Some(product), class: Some(class), driver }
    }
}

impl From<inventory::PciDevice> for Gpu {
    fn from(device: inventory::PciDevice) -> Self {
        let inventory::PciDevice { vendor, product, class, driver } = device;
        Self { vendor: Some(vendor), product: Some(product), class: Some(class), driver }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use std::fs;
    use std::path::PathBuf;

    /// The machine of the inventory's own tests that has something of everything.
    fn server() -> Inventory {
        let file = "tests/data/machines/server/expected.json";
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn all_that_is_known_of_a_machine_is_told() {
        let machine = server();
        let told = AgentAttributes::from(machine.clone());
        assert_eq!(told.block.len(), machine.block_devices.len());
        assert_eq!(told.network.len(), machine.network_interfaces.len());
        assert_eq!(told.pci.len(), machine.pci_devices.len());
        assert_eq!(told.gpu.len(), machine.gpu_devices.len());
        // Every text of the inventory is in the message, whatever field it is in.
        let message = format!("{told:?}");
        let mut texts = Vec::new();
        collect(&serde_json::to_value(&machine).unwrap(), &mut texts);
        assert!(texts.len() > 50, "{} texts", texts.len());
        for text in texts {
            assert!(message.contains(&format!("{text:?}")), "{text:?}");
        }
        let (theirs, ours) = (&machine.block_devices[0], &told.block[0]);
        assert_eq!(ours.wwn.as_ref(), Some(&theirs.wwn));
        assert_eq!(ours.serial_number.as_ref(), Some(&theirs.serial_number));
        assert_eq!(ours.size.as_ref(), Some(&theirs.size));
    }

    fn collect(value: &serde_json::Value, texts: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => texts.push(text.clone()),
            serde_json::Value::Array(values) => values.iter().for_each(|v| collect(v, texts)),
            serde_json::Value::Object(fields) => fields.values().for_each(|v| collect(v, texts)),
            _ => {}
        }
    }

    #[test]
    fn a_size_goes_with_a_name_and_an_empty_drive_has_none() {
        let device = |name: &str, size: &str| inventory::BlockDevice {
            name: name.into(),
            size: size.into(),
            ..Default::default()
        };
        let block_devices = vec![device("sda", "1GB"), device("", "1GB"), device("sr0", "")];
        let told = AgentAttributes::from(Inventory { block_devices, ..Inventory::default() });
        let shown: Vec<_> =
            told.block.iter().map(|b| (b.name.as_deref(), b.size.as_deref())).collect();
        assert_eq!(shown, [(Some("sda"), Some("1GB")), (Some("sr0"), None)]);
    }

    /// A field of a message: its number and, behind its length, what it holds (wire type 2).
    fn field(number: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
        let content = content.as_ref();
        assert!(number < 16 && content.len() < 128, "one byte each");
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }

    /// A number (wire type 0).
    fn number(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    /// Fields of text, numbered from 1.
    fn texts(texts: &[&str]) -> Vec<u8> {
        (1..).zip(texts).flat_map(|(number, text)| field(number, text)).collect()
    }

    /// The inventory in JSON whose values are the names of their fields.
    fn named() -> Inventory {
        let device = |kind: &str| {
            serde_json::json!([{
                "vendor": format!("{kind}-vendor"), "product": format!("{kind}-product"),
                "class": format!("{kind}-class"), "driver": format!("{kind}-driver"),
            }])
        };
        serde_json::from_value(serde_json::json!({
            "cpu": {"totalCores": 1, "totalThreads": 2, "processors": [{
                "id": 3, "cores": 4, "threads": 5, "vendor": "cpu-vendor", "model": "cpu-model",
                "capabilities": ["cap-1", "cap-2"],
            }]},
            "memory": {"total": "total", "usable": "usable"},
            "blockDevices": [{
                "name": "name", "controllerType": "controller", "driveType": "drive",
                "size": "size", "physicalBlockSize": "physical", "vendor": "vendor",
                "model": "model", "wwn": "wwn", "serialNumber": "serial",
            }],
            "networkInterfaces": [{
                "name": "net-name", "mac": "mac", "speed": "speed",
                "enabledCapabilities": ["on-1", "on-2"],
            }],
            "pciDevices": device("pci"),
            "gpuDevices": device("gpu"),
            "chassis": {"serial": "serial", "vendor": "vendor"},
            "bios": {"vendor": "bios-vendor", "version": "version", "releaseDate": "date"},
            "baseboard": {
                "vendor": "b-vendor", "product": "b-product", "version": "b-version",
                "serialNumber": "b-serial",
            },
            "product": {"name": "p-name", "vendor": "p-vendor", "serialNumber": "p-serial"},
        }))
        .unwrap()
    }

    /// The numbers are written here by hand from `pkg/proto/get_action_request.proto` of
    /// Tinkerbell's repository, so that neither our `.proto` nor the mapping can be wrong unseen.
    #[test]
    fn every_attribute_is_in_its_field() {
        let told = AgentAttributes::from(named());
        let chassis = told.chassis.clone().unwrap().encode_to_vec();
        assert_eq!(chassis, b"\x0a\x06serial\x12\x06vendor");
        let processor = [
            [number(1, 3), number(2, 4), number(3, 5)].concat(),
            [field(4, "cpu-vendor"), field(5, "cpu-model")].concat(),
            [field(6, "cap-1"), field(6, "cap-2")].concat(),
        ];
        let cpu = [number(1, 1), number(2, 2), field(3, processor.concat())].concat();
        let block = ["name", "controller", "drive", "size", "physical", "vendor", "model", "wwn"];
        let block = [texts(&block), field(9, "serial")].concat();
        let network =
            [texts(&["net-name", "mac", "speed"]), field(4, "on-1"), field(4, "on-2")].concat();
        let pci = texts(&["pci-vendor", "pci-product", "pci-class", "pci-driver"]);
        let gpu = texts(&["gpu-vendor", "gpu-product", "gpu-class", "gpu-driver"]);
        let baseboard = texts(&["b-vendor", "b-product", "b-version", "b-serial"]);
        let expected = [
            field(1, cpu),
            field(2, texts(&["total", "usable"])),
            field(3, block),
            field(4, network),
            field(5, pci),
            field(6, gpu),
            field(7, texts(&["serial", "vendor"])),
            field(8, texts(&["bios-vendor", "version", "date"])),
            field(9, baseboard),
            field(10, texts(&["p-name", "p-vendor", "p-serial"])),
        ];
        assert_eq!(told.encode_to_vec(), expected.concat());
    }
}
