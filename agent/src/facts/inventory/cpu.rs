//! Processors: which there are from sysfs, what they are from `/proc/cpuinfo`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nibs_actions::Machine;
use nibs_job::inventory::{Cpu, Processor};

use super::{number, numbered, text};

/// ARM Limited as `CPU implementer` has it (Arm ARM, MIDR_EL1).
const ARM: &str = "0x41";

/// Keys of `/proc/cpuinfo` that hold the model: x86, ARM, MIPS, LoongArch, RISC-V.
const MODEL: [&str; 5] = ["model name", "Processor", "cpu model", "Model Name", "uarch"];

/// Keys that hold the vendor; RISC-V has only its instruction set.
const VENDOR: [&str; 2] = ["vendor_id", "isa"];

/// Keys that hold what a processor can do: x86, ARM.
const CAPABILITIES: [&str; 2] = ["flags", "Features"];

/// What `/proc/cpuinfo` says of one logical processor.
type Told = HashMap<String, String>;

pub(super) fn cpu(machine: &Machine) -> Cpu {
    let directory = machine.sysfs.join("devices/system/cpu");
    let told = told(&text(&machine.proc.join("cpuinfo")).unwrap_or_default());
    let mut packages = BTreeMap::<u32, (Processor, BTreeSet<Option<u32>>)>::new();
    for logical in numbered(&directory, "cpu") {
        let directory = directory.join(format!("cpu{logical}"));
        // The one that booted often has no such file: it cannot be switched off.
        if text(&directory.join("online")).is_some_and(|online| online == "0") {
            continue;
        }
        let topology = |file: &str| number(&directory.join("topology").join(file));
        let id = topology("physical_package_id").unwrap_or_default();
        let (processor, cores) = packages
            .entry(id)
            .or_insert_with(|| (described(id, told.get(&logical)), BTreeSet::new()));
        processor.threads += 1;
        cores.insert(topology("core_id"));
    }
    let processors: Vec<_> = packages
        .into_values()
        .map(|(processor, cores)| Processor {
            cores: cores.len().try_into().unwrap_or(u32::MAX),
            ..processor
        })
        .collect();
    Cpu {
        total_cores: processors.iter().map(|processor| processor.cores).sum(),
        total_threads: processors.iter().map(|processor| processor.threads).sum(),
        processors,
    }
}

fn described(id: u32, told: Option<&Told>) -> Processor {
    let first = |keys: &[&str]| {
        let told = |key: &&str| told?.get(*key).filter(|value| !value.is_empty());
        keys.iter().find_map(told).cloned()
    };
    let arm = || first(&["CPU implementer"]).filter(|id| id == ARM).map(|_| "ARM".to_owned());
    let capabilities = first(&CAPABILITIES).unwrap_or_default();
    Processor {
        id,
        vendor: first(&VENDOR).or_else(arm).unwrap_or_default(),
        model: first(&MODEL).unwrap_or_default(),
        capabilities: capabilities.split_whitespace().map(str::to_owned).collect(),
        ..Processor::default()
    }
}

/// Paragraphs of `key : value`, one for each logical processor.
fn told(cpuinfo: &str) -> HashMap<u32, Told> {
    let paragraph = |paragraph: &str| {
        let told: Told = paragraph
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .collect();
        Some((told.get("processor")?.parse().ok()?, told))
    };
    cpuinfo.split("\n\n").filter_map(paragraph).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_architecture_names_its_processors_in_its_own_words() {
        for (cpuinfo, vendor, model, capabilities) in [
            (
                "vendor_id: AuthenticAMD\nmodel name: EPYC\nflags: fpu  vme",
                "AuthenticAMD",
                "EPYC",
                2,
            ),
            ("CPU implementer: 0x41\nFeatures: fp asimd aes", "ARM", "", 3),
            ("CPU implementer: 0x48", "", "", 0),
            ("Processor: ARMv7 rev 4\nCPU implementer: 0x41", "ARM", "ARMv7 rev 4", 0),
            ("isa: rv64imafdc\nuarch: sifive,u74", "rv64imafdc", "sifive,u74", 0),
            ("vendor_id:\nmodel name", "", "", 0),
        ] {
            let told = told(&format!("processor: 7\n{cpuinfo}\n\nHardware: board\n"));
            assert_eq!(told.keys().collect::<Vec<_>>(), [&7], "{cpuinfo}");
            let found = described(1, told.get(&7));
            assert_eq!((found.id, &*found.vendor, &*found.model), (1, vendor, model), "{cpuinfo}");
            assert_eq!(found.capabilities.len(), capabilities, "{cpuinfo}");
        }
    }
}
