//! What the firmware says of the machine: by DMI (SMBIOS), else in the DeviceTree.

use std::path::{Path, PathBuf};

use nibs_job::inventory::{Baseboard, Bios, Chassis, Product, UNKNOWN};

use super::{or_unknown, text};

/// In which way the machine's firmware tells what it is.
#[derive(Debug)]
pub(super) enum Told {
    /// Files of `/sys/class/dmi/id`, where nobody else says more.
    Dmi(PathBuf),
    /// Properties of the root node, as most ARM and RISC-V boards have them.
    DeviceTree(PathBuf),
}

impl Told {
    pub(super) fn by(sys: &Path) -> Self {
        let dmi = sys.join("class/dmi/id");
        let tree = sys.join("firmware/devicetree/base");
        if !dmi.exists() && tree.exists() { Self::DeviceTree(tree) } else { Self::Dmi(dmi) }
    }

    pub(super) fn chassis(&self) -> Chassis {
        match self {
            Self::Dmi(dmi) => Chassis {
                serial: value(dmi, "chassis_serial"),
                vendor: value(dmi, "chassis_vendor"),
            },
            Self::DeviceTree(tree) => {
                Chassis { serial: value(tree, "serial-number"), vendor: vendor(tree) }
            }
        }
    }

    pub(super) fn bios(&self) -> Bios {
        match self {
            Self::Dmi(dmi) => Bios {
                vendor: value(dmi, "bios_vendor"),
                version: value(dmi, "bios_version"),
                release_date: value(dmi, "bios_date"),
            },
            Self::DeviceTree(tree) => {
                // The only boot loader that leaves its version there.
                let version = text(&tree.join("chosen/u-boot,version"));
                let vendor = if version.is_some() { "U-Boot" } else { UNKNOWN };
                Bios {
                    vendor: vendor.to_owned(),
                    version: or_unknown(version),
                    release_date: UNKNOWN.to_owned(),
                }
            }
        }
    }

    pub(super) fn baseboard(&self) -> Baseboard {
        match self {
            Self::Dmi(dmi) => Baseboard {
                vendor: value(dmi, "board_vendor"),
                product: value(dmi, "board_name"),
                version: value(dmi, "board_version"),
                serial_number: value(dmi, "board_serial"),
            },
            Self::DeviceTree(tree) => Baseboard {
                vendor: vendor(tree),
                product: value(tree, "model"),
                version: UNKNOWN.to_owned(),
                serial_number: value(tree, "serial-number"),
            },
        }
    }

    pub(super) fn product(&self) -> Product {
        match self {
            Self::Dmi(dmi) => Product {
                name: value(dmi, "product_name"),
                vendor: value(dmi, "sys_vendor"),
                serial_number: value(dmi, "product_serial"),
            },
            Self::DeviceTree(tree) => Product {
                name: value(tree, "model"),
                vendor: vendor(tree),
                serial_number: value(tree, "serial-number"),
            },
        }
    }
}

fn value(directory: &Path, file: &str) -> String {
    or_unknown(text(&directory.join(file)))
}

/// `raspberrypi` of `raspberrypi,4-model-b`, the first that the board is compatible with.
fn vendor(tree: &Path) -> String {
    let compatible = text(&tree.join("compatible")).unwrap_or_default();
    let vendor = compatible.split(['\0', ',']).next().unwrap_or_default().trim().to_owned();
    or_unknown(Some(vendor).filter(|vendor| !vendor.is_empty()))
}
