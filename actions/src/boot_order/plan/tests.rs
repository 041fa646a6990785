//! Policies over the boot variables of a store in memory.

use uuid::uuid;

use super::*;
use crate::efi::{DevicePath, HardDrive, MemoryVariables, Node};

const OURS: HardDrive = HardDrive {
    number: 1,
    start: 2048,
    size: 81920,
    guid: uuid!("11111111-2222-3333-4444-555555555555"),
};
const OTHER: HardDrive = HardDrive { guid: uuid!("aaaaaaaa-0000-0000-0000-000000000001"), ..OURS };
const GONE: HardDrive = HardDrive { guid: uuid!("dddddddd-0000-0000-0000-000000000001"), ..OURS };
const SHIM: &str = r"\EFI\debian\shimx64.efi";

const PCI: (u8, u8) = (1, 1);
const USB: (u8, u8) = (3, 5);
const MAC: (u8, u8) = (3, 0x0b);
const IPV4: (u8, u8) = (3, 0x0c);

fn node((kind, subtype): (u8, u8)) -> Node {
    Node { kind, subtype, data: vec![0; 2] }
}

fn option(label: &str, nodes: Vec<Node>) -> LoadOption {
    let mut option = disk(label, OURS, "");
    option.path = DevicePath { nodes };
    option
}

fn disk(label: &str, partition: HardDrive, file: &str) -> LoadOption {
    LoadOption::new(label, partition, file, Vec::new())
}

fn network(label: &str) -> LoadOption {
    option(label, vec![node(PCI), node(MAC), node(IPV4)])
}

fn ours() -> LoadOption {
    disk("debian", OURS, SHIM)
}

fn store(entries: &[(u16, LoadOption)], order: &[u16]) -> MemoryVariables {
    let mut store = MemoryVariables::default();
    for (number, option) in entries {
        write(&mut store, &entry_name(*number), option.to_bytes()).unwrap();
    }
    write(&mut store, "BootOrder", order.iter().flat_map(|n| n.to_le_bytes()).collect()).unwrap();
    store.changes = 0;
    store
}

/// One run as the action makes it; the entries as they are then.
fn run(store: &mut MemoryVariables, policy: BootPolicy) -> BootEntries {
    let partitions = HashSet::from([OURS.guid, OTHER.guid]);
    let before = BootEntries::read(store).unwrap();
    let wanted = wanted(&before, &ours(), policy, Some(&partitions)).unwrap();
    apply(store, &before, &wanted.entries).unwrap();
    let after = BootEntries::read(store).unwrap();
    assert_eq!(difference(&wanted, &after), None);
    after
}

fn factory() -> MemoryVariables {
    store(&[(0, option("UiApp", vec![node((4, 7))])), (1, network("PXE"))], &[1, 0])
}

#[test]
fn each_policy_puts_the_installed_system_in_its_place() {
    for (policy, order, next) in [
        (BootPolicy::InstalledFirst, vec![2, 1, 0], None),
        (BootPolicy::NetworkFirst, vec![1, 2, 0], None),
        (BootPolicy::Once, vec![1, 0, 2], Some(2)),
        (BootPolicy::Untouched, vec![1, 0, 2], None),
    ] {
        let after = run(&mut factory(), policy);
        assert_eq!((after.order, after.next), (order, next), "{policy:?}");
        assert_eq!(after.entries[&2].option, Some(ours()));
    }
}

#[test]
fn a_second_run_writes_nothing() {
    for policy in [
        BootPolicy::InstalledFirst,
        BootPolicy::NetworkFirst,
        BootPolicy::Once,
        BootPolicy::Untouched,
    ] {
        let mut store = factory();
        let first = run(&mut store, policy);
        store.changes = 0;
        assert_eq!(run(&mut store, policy), first);
        assert_eq!(store.changes, 0, "{policy:?}");
    }
}

#[test]
fn an_entry_for_the_same_loader_is_reused_and_set_right() {
    let mut old = disk("Linux", HardDrive { start: 4096, ..OURS }, r"\efi\DEBIAN\shimx64.efi");
    old.attributes = 0;
    old.path.nodes.insert(0, node(PCI));
    let after = run(&mut store(&[(7, old)], &[]), BootPolicy::InstalledFirst);
    let entry = after.entries[&7].option.as_ref().unwrap();
    assert_eq!((entry.label(), entry.attributes), ("debian".to_owned(), 1));
    assert_eq!(entry.path.partition(), Some(OURS));
    assert_eq!(entry.path.nodes[0], node(PCI), "the firmware's own way to the disk is kept");
    assert_eq!((after.entries.len(), after.order), (1, vec![7]));
}

#[test]
fn of_several_the_first_in_the_order_stays() {
    let entries = [(1, ours()), (2, ours()), (3, ours())];
    let after = run(&mut store(&entries, &[3, 1]), BootPolicy::Untouched);
    assert_eq!(after.entries.keys().collect::<Vec<_>>(), [&3]);
    assert_eq!(after.order, [3]);
}

#[test]
fn the_same_loader_with_arguments_is_somebody_elses() {
    let mut updater = ours();
    updater.optional_data = vec![b'\\', 0];
    let after = run(&mut store(&[(1, updater.clone())], &[1]), BootPolicy::InstalledFirst);
    assert_eq!(after.entries[&1].option, Some(updater));
    assert_eq!(after.order, [0, 1]);
}

#[test]
fn only_entries_whose_fixed_partition_is_gone_are_removed() {
    let mut on_usb = disk("stick", GONE, SHIM);
    on_usb.path.nodes.insert(0, node(USB));
    let mut iscsi = disk("iscsi", GONE, SHIM);
    iscsi.path.nodes.insert(0, node(MAC));
    let mut mbr = disk("mbr", GONE, SHIM);
    *mbr.path.nodes[0].data.last_mut().unwrap() = 1;
    let bbs = option("BBS", vec![node((5, 1))]);
    let kept = [
        (1, on_usb),
        (2, iscsi),
        (3, mbr),
        (4, bbs),
        (5, network("PXE")),
        (6, disk("other system", OTHER, SHIM)),
    ];
    let stale = [(8, disk("gone", GONE, SHIM)), (9, disk("gone too", GONE, r"\EFI\x.efi"))];
    let mut store = store(&[&kept[..], &stale[..]].concat(), &[8, 5, 9, 6]);
    write(&mut store, "BootNext", vec![8, 0]).unwrap();
    let after = run(&mut store, BootPolicy::Untouched);
    assert_eq!(after.entries.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!((after.order, after.next), (vec![5, 6, 0], None));
}

#[test]
fn with_a_disk_that_cannot_be_read_nothing_is_stale() {
    let before = BootEntries::read(&store(&[(8, disk("gone?", GONE, SHIM))], &[8])).unwrap();
    let after = wanted(&before, &ours(), BootPolicy::InstalledFirst, None).unwrap();
    assert_eq!(after.entries.order, [0, 8]);
}

#[test]
fn rubbish_and_dangling_numbers_are_left_alone() {
    let mut store = store(&[], &[0x20, 0]);
    write(&mut store, "Boot0000", b"rubbish".to_vec()).unwrap();
    let after = run(&mut store, BootPolicy::InstalledFirst);
    assert_eq!(after.order, [1, 0x20, 0]);
    assert_eq!(store.variables["Boot0000"].data, b"rubbish");
}

#[test]
fn a_pending_next_boot_elsewhere_does_not_outrank_installed_first() {
    let mut first = factory();
    write(&mut first, "BootNext", vec![1, 0]).unwrap();
    assert_eq!(run(&mut first, BootPolicy::InstalledFirst).next, None);
    let mut untouched = factory();
    write(&mut untouched, "BootNext", vec![1, 0]).unwrap();
    assert_eq!(run(&mut untouched, BootPolicy::Untouched).next, Some(1));
}

#[test]
fn removals_make_room_for_the_new_entry() {
    let mut store = store(&[(8, disk("gone", GONE, SHIM))], &[8]);
    store.capacity = Some(store.variables.values().map(|v| v.data.len()).sum::<usize>() + 8);
    assert_eq!(run(&mut store, BootPolicy::InstalledFirst).order, [0]);
}

#[test]
fn firmware_that_forgets_is_found_out() {
    for (forgets, said) in [("Boot0002", "Boot0002"), ("BootOrder", "BootOrder")] {
        let mut store = factory();
        store.forgets = Some(forgets.to_owned());
        let before = BootEntries::read(&store).unwrap();
        let wanted = wanted(&before, &ours(), BootPolicy::InstalledFirst, None).unwrap();
        apply(&mut store, &before, &wanted.entries).unwrap();
        let found = BootEntries::read(&store).unwrap();
        assert!(difference(&wanted, &found).unwrap().contains(said));
    }
}
