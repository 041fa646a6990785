//! A second disk with what a former installation left.

use std::fs;

use nibs_bottlerocket::partitions::kind;
use nibs_job::params::Duplicates;
use serde_json::json;
use uuid::{Uuid, uuid};

use super::super::duplicates::handle;
use super::super::explain;
use super::bench::{Bench, decode};
use crate::disk::{Disk, list, partitions};

const LINUX: Uuid = uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4");

fn two_stale() -> Bench {
    let bench = Bench::new();
    bench.disk("vdb", "252:16", &[("BOTTLEROCKET-ROOT-A", LINUX), ("else", LINUX)], &[]);
    bench.disk("vdc", "252:32", &[("", kind::DATA)], &[]);
    bench.disk("vdd", "252:48", &[("else", LINUX)], &[]);
    bench
}

fn disk(bench: &Bench, name: &str) -> Disk {
    list(&bench.fake.machine).unwrap().into_iter().find(|disk| disk.name == name).unwrap()
}

fn run(bench: &Bench, asked: Duplicates) -> Result<(), String> {
    handle(asked, &disk(bench, "vda"), &bench.context()).map_err(|error| error.to_string())
}

fn has_table(bench: &Bench, name: &str) -> bool {
    partitions(&disk(bench, name)).is_ok()
}

#[test]
fn they_are_refused_by_disk_and_partition() {
    let bench = two_stale();
    let error = run(&bench, Duplicates::Refuse).unwrap_err();
    assert!(error.contains("vdb (8.0 MiB) has partitions 1 BOTTLEROCKET-ROOT-A;"), "{error}");
    assert!(
        error.contains(&format!("vdc (8.0 MiB) has partitions 1 of type {}", kind::DATA)),
        "{error}"
    );
    assert!(!error.contains("vdd") && !error.contains("vda ("), "{error}");
}

#[test]
fn they_are_warned_of_and_left() {
    let bench = two_stale();
    run(&bench, Duplicates::Warn).unwrap();
    assert_eq!(bench.warnings().len(), 2);
    assert!(has_table(&bench, "vdb") && has_table(&bench, "vdc"));
}

#[test]
fn they_are_wiped_and_no_other_disk_is() {
    let bench = two_stale();
    run(&bench, Duplicates::Wipe).unwrap();
    let tables = ["vda", "vdb", "vdc", "vdd"].map(|name| has_table(&bench, name));
    assert_eq!(tables, [true, false, false, true]);
    assert!(bench.log().contains("cleared its partition table: "), "{}", bench.log());
    run(&bench, Duplicates::Refuse).unwrap();
}

#[test]
fn if_one_is_in_use_none_is_wiped() {
    let bench = two_stale();
    let mounts = "1 0 252:32 / /srv rw - ext4 /dev/vdc rw";
    bench.fake.write(&bench.fake.machine.proc.join("self/mountinfo"), mounts);
    let error = run(&bench, Duplicates::Wipe).unwrap_err();
    assert!(error.contains("vdc is mounted at /srv"), "{error}");
    assert!(has_table(&bench, "vdb"));
}

#[test]
fn another_path_to_the_same_disk_is_no_other_disk() {
    let bench = Bench::new();
    let wwn: &[(&str, &str)] = &[("wwid", "naa.5000")];
    for (name, dev) in [("sda", "8:0"), ("sdb", "8:16")] {
        bench.disk(name, dev, &[("BOTTLEROCKET-PRIVATE", kind::PRIVATE)], wwn);
    }
    fs::write(bench.fake.machine.dev.join("vda"), vec![0; 8 << 20]).unwrap();
    assert!(disk(&bench, "sda").wwn.is_some());
    handle(Duplicates::Refuse, &disk(&bench, "sda"), &bench.context()).unwrap();
}

#[test]
fn an_explanation_refuses_them_too() {
    let bench = two_stale();
    let explained = |asked: &str| {
        let net = json!({ "content": "version = 1\n[eno1]\ndhcp4 = true\n" });
        let disk = json!({ "path": "/dev/vda" });
        let params = decode(json!({ "net": net, "disk": disk, "duplicates": asked }));
        explain(&params, &bench.context()).unwrap()
    };
    let refused = explained("refuse").refusals;
    assert!(refused.len() == 1 && refused[0].message.contains("vdb"), "{refused:?}");
    assert_eq!(explained("warn").warnings.len(), 2);
    assert!(explained("wipe").refusals.is_empty() && has_table(&bench, "vdb"));
}
