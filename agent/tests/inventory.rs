//! What the agent says that a machine is made of: of machines made of files, of such with nonsense
//! in the files, and of the one that the tests run on, as other programs see it.
//!
//! A case is a directory below `data/machines`: the files of a machine in `tree`, and the
//! inventory in `expected.json`. Lines of a tree are `path: content`, `path -> target of a link`,
//! or `path:` with the content below it behind tabs; `\xNN` is a byte.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nibs_actions::Machine;
use nibs_agent::facts::inventory;
use nibs_job::Inventory;
use nibs_job::inventory::binary_size;
use proptest::prelude::*;
use serde_json::Value;

/// What is at a path of a machine.
#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>),
    Link(String),
}

type Tree = Vec<(String, Node)>;

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/machines");
    let cases: Vec<_> = fs::read_dir(directory).unwrap().map(|case| case.unwrap().path()).collect();
    assert!(!cases.is_empty());
    cases
}

fn read_tree(case: &Path) -> Tree {
    let mut tree = Tree::new();
    for line in fs::read_to_string(case.join("tree")).unwrap().lines() {
        let last = tree.last_mut().map(|(_, node)| node);
        if let Some(content) = line.strip_prefix('\t') {
            let Some(Node::File(file)) = last else { panic!("{case:?}: {line:?} is of no file") };
            file.extend(unescape(content));
            file.push(b'\n');
        } else if let Some((path, target)) = line.split_once(" -> ") {
            tree.push((path.into(), Node::Link(target.into())));
        } else if let Some((path, content)) = line.split_once(": ").filter(|_| !is_remark(line)) {
            tree.push((path.into(), Node::File([unescape(content), b"\n".into()].concat())));
        } else if let Some(path) = line.strip_suffix(':') {
            tree.push((path.into(), Node::File(Vec::new())));
        } else if let (true, Some(Node::File(file))) = (line.is_empty(), last) {
            file.push(b'\n');
        } else {
            assert!(line.is_empty() || is_remark(line), "{case:?}: {line:?}");
        }
    }
    tree
}

fn is_remark(line: &str) -> bool {
    line.starts_with('#')
}

fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(byte, 16).unwrap());
        bytes.extend(rest.as_bytes());
    }
    bytes
}

fn inventory_of(tree: &Tree) -> Inventory {
    let root = tempfile::tempdir().unwrap();
    for (name, node) in tree {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::File(content) => fs::write(path, content).unwrap(),
            Node::Link(target) => symlink(target, path).unwrap(),
        }
    }
    let at = |name: &str| root.path().join(name);
    inventory(&Machine {
        sysfs: at("sys"),
        dev: at("dev"),
        proc: at("proc"),
        run: at("run"),
        share: at("share"),
        ..Machine::default()
    })
}

#[test]
fn each_machine_is_described_as_tinkerbell_knows_it() {
    for case in cases() {
        let expected = fs::read_to_string(case.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let found = serde_json::to_value(inventory_of(&read_tree(&case))).unwrap();
        let name = case.display();
        assert!(found == expected, "{name}: expected {expected:#}\nfound {found:#}");
    }
}

/// What the kernel does not write, but may.
fn nonsense() -> impl Strategy<Value = Vec<u8>> {
    let text = ["-1", "18446744073709551615", "0xffffffff", "0-3,8", "\0\0", ": : :", "..", "é"];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        prop::sample::select(text.map(|text| text.as_bytes().to_vec()).to_vec()),
        "(processor|flags|E:ID_WWN|C 02|\t| |:|=|[0-9a-f]{1,4}|\n){0,40}".prop_map(Into::into),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_content_of_the_files_is_a_panic(
        case in prop::sample::select(cases()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), nonsense()), 1..40),
    ) {
        let mut tree = read_tree(&case);
        prop_assume!(!tree.is_empty());
        for (index, content) in changes {
            index.get_mut(&mut tree).1 = Node::File(content);
        }
        let found = inventory_of(&tree);
        let json = serde_json::to_string(&found).unwrap();
        prop_assert_eq!(serde_json::from_str::<Inventory>(&json).unwrap(), found);
    }
}

/// What a program prints. None, with a reason printed, where there is no such program.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(program).args(arguments).env("LC_ALL", "C").output() {
        Ok(output) if output.status.success() => Some(String::from_utf8(output.stdout).unwrap()),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            eprintln!("skipped: {program} ended with {}: {}", output.status, why.trim());
            None
        }
        Err(error) => {
            eprintln!("skipped: needs {program}: {error}");
            None
        }
    }
}

#[test]
fn this_machine_has_the_processors_that_lscpu_sees() {
    let Some(table) = output_of("lscpu", &["--parse=CPU,CORE,SOCKET"]) else { return };
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| !is_remark(line))
        .map(|line| line.split(',').collect())
        .collect();
    let different = |column: usize| rows.iter().map(|row| row[column]).collect::<BTreeSet<_>>();
    let cpu = inventory(&Machine::default()).cpu;
    assert_eq!(cpu.total_threads as usize, rows.len());
    assert_eq!(cpu.total_cores as usize, different(1).len());
    assert_eq!(cpu.processors.len(), different(2).len());
    // Elsewhere lscpu has tables of names that no kernel tells.
    if cfg!(target_arch = "x86_64") {
        let page = output_of("lscpu", &[]).unwrap();
        let value = |name: &str| {
            let line = page.lines().find_map(|line| line.trim().strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        assert_eq!(cpu.processors[0].vendor, value("Vendor ID:"));
        assert_eq!(cpu.processors[0].model, value("Model name:"));
        assert_eq!(cpu.processors[0].capabilities.join(" "), value("Flags:"));
    }
}

#[test]
fn this_machine_has_the_disks_that_lsblk_sees() {
    let columns = "NAME,SIZE,PHY-SEC,ROTA";
    let Some(json) = output_of("lsblk", &["-J", "-b", "-d", "-o", columns]) else { return };
    let json: Value = serde_json::from_str(&json).unwrap();
    let kinds = ["sd", "hd", "vd", "nvme", "sr", "xvd", "mmc"];
    let mut expected = Vec::new();
    for disk in json["blockdevices"].as_array().unwrap() {
        let name = disk["name"].as_str().unwrap();
        if kinds.iter().any(|kind| name.starts_with(kind)) {
            let size = |key: &str| binary_size(disk[key].as_u64().unwrap());
            let spins = disk["rota"].as_bool().unwrap();
            expected.push((name.to_owned(), size("size"), size("phy-sec"), spins));
        }
    }
    expected.sort();
    // It leaves out drives without a medium.
    let found: Vec<_> = inventory(&Machine::default())
        .block_devices
        .into_iter()
        .filter(|disk| !disk.size.is_empty())
        .map(|disk| (disk.name, disk.size, disk.physical_block_size, disk.drive_type != "SSD"))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn this_machine_has_the_memory_that_lsmem_and_the_kernel_see() {
    let memory = inventory(&Machine::default()).memory;
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let kibibytes: u64 = meminfo.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(memory.usable, binary_size(kibibytes * 1024));
    let Some(summary) = output_of("lsmem", &["--bytes", "--summary=only"]) else { return };
    let total = summary.lines().find_map(|line| line.strip_prefix("Total online memory:"));
    assert_eq!(memory.total, binary_size(total.unwrap().trim().parse().unwrap()));
}
