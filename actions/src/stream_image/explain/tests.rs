use std::fs;
use std::path::Path;

use gpt::disk::LogicalBlockSize;
use nibs_job::Class;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::*;
use crate::context::Deaf;
use crate::disk::FakeMachine;
use crate::{Stop, http};

const MIB: u64 = 1 << 20;
const DISK: u64 = 10 * MIB;

/// A machine with a disk that holds XFS, another one, and an image of 4 MiB.
struct Bench {
    fake: FakeMachine,
    image: tempfile::NamedTempFile,
    runtime: Runtime,
}

impl Bench {
    fn new() -> Self {
        let fake = FakeMachine::new();
        fake.disk("vda", DISK, &[("serial", "one"), ("dev", "252:0")]);
        fake.disk("vdb", 2 * DISK, &[("serial", "two"), ("dev", "252:16")]);
        fake.write(&fake.machine.proc.join("self/mountinfo"), "");
        let mut content = vec![0x55; DISK as usize];
        content[..4].copy_from_slice(b"XFSB");
        fs::write(fake.machine.dev.join("vda"), content).unwrap();
        let image = tempfile::NamedTempFile::new().unwrap();
        fs::write(image.path(), image_of(4 << 20)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        Self { fake, image, runtime }
    }

    /// What is told of a job with these parameters; its disk is as it was before.
    fn explain(&self, params: Value) -> Explanation {
        let params: StreamImage = serde_json::from_value(params).unwrap();
        let context = Context {
            machine: self.fake.machine.clone(),
            stop: Stop::default(),
            sink: Arc::new(Deaf),
            runtime: self.runtime.handle().clone(),
            http: http::Options::default(),
            installed_disk: None,
        };
        let node = self.fake.machine.dev.join("vda");
        let before = fs::read(&node).unwrap();
        let explanation = explain(&params, &context).unwrap();
        assert!(fs::read(&node).unwrap() == before, "the disk was written");
        explanation
    }

    fn with_disk(&self, disk: &Value) -> Explanation {
        self.explain(json!({ "image": { "url": self.image.path() }, "disk": disk }))
    }

    fn with_image(&self, content: &[u8]) -> Explanation {
        fs::write(self.image.path(), content).unwrap();
        self.with_disk(&json!({ "serial": "one" }))
    }
}

fn image_of(size: usize) -> Vec<u8> {
    crate::image::table_image(size, LogicalBlockSize::Lb512)
}

fn refusal(explanation: &Explanation) -> (Class, &str) {
    let [Refusal { class, message }] = &explanation.refusals[..] else {
        panic!("{:?}", explanation.refusals)
    };
    (*class, message)
}

#[test]
fn a_run_that_would_start_is_told_whole() {
    let bench = Bench::new();
    let digest = "ab".repeat(32);
    let told = bench.explain(json!({
        "image": { "url": bench.image.path(), "uncompressed-sha256": digest },
        "disk": { "serial": "one" },
    }));
    assert_eq!((&told.refusals[..], &told.warnings[..]), (&[][..], &[][..]));
    let disk = told.disk.unwrap();
    assert_eq!(Path::new(&disk.facts.path), bench.fake.machine.dev.join("vda"));
    assert_eq!((disk.facts.size, disk.chosen_by.as_str()), (DISK, "serial \"one\""));
    assert_eq!((disk.signatures, disk.used_by), (vec!["XFS".to_owned()], vec![]));
    let [other] = &told.other_disks[..] else { panic!("{:?}", told.other_disks) };
    assert_eq!(
        (other.facts.serial.as_deref(), &other.unmet[..]),
        (Some("two"), &["serial".into()][..])
    );
    let image = told.image;
    assert_eq!((image.served, image.format.as_deref()), (Some(4 * MIB), Some("raw")));
    assert_eq!(
        image.size,
        Some(ImageSize { bytes: 4 * MIB, at_least: false, told_by: ToldBy::Gpt })
    );
    assert_eq!(image.digests, [DigestSeen { algorithm: "sha256", of: DigestOf::Image, digest }]);
    let plan = told.plan.unwrap();
    assert!(plan.read_back && plan.release.is_empty());
    let first = Extent { start: 0, end: MIB };
    assert_eq!((plan.cleared[0], plan.held_back[0]), (first, first));
    assert_eq!(plan.cleared.last(), Some(&Extent { start: 9 * MIB, end: DISK }));
    assert_eq!(plan.backup_moves_to, Some(DISK - 33 * 512));
}

#[test]
fn partitions_that_would_be_lost_are_named() {
    let bench = Bench::new();
    let old = image_of(DISK as usize);
    fs::write(bench.fake.machine.dev.join("vda"), old).unwrap();
    let told = bench.with_disk(&json!({ "path": "/dev/vda" }));
    let names: Vec<_> =
        told.disk.unwrap().partitions.into_iter().map(|p| (p.number, p.name)).collect();
    assert_eq!(names, [(1, "data".to_owned()), (2, "EFI".to_owned())]);
}

#[test]
fn an_image_that_nothing_proves_is_warned_of() {
    let told = Bench::new().with_disk(&json!({ "serial": "one" }));
    assert!(told.warnings[0].contains("nothing proves"), "{:?}", told.warnings);
    assert!(told.refusals.is_empty());
}

#[test]
fn credentials_in_plain_text_are_warned_of() {
    for (place, secure) in
        [("oci+http://127.0.0.1:9/os:1", "oci://"), ("http://127.0.0.1:9/os", "https://")]
    {
        let user = json!({ "url": place, "username": "me", "password": "hunter2", "stall-timeout": "100ms" });
        let told = Bench::new().explain(json!({ "image": user, "disk": { "serial": "one" } }));
        let expected = format!("gets the job's credentials in plain text; use {secure}");
        assert!(told.warnings[0].ends_with(&expected), "{:?}", told.warnings);
        assert!(!told.warnings.join(" ").contains("hunter2"));
    }
}

#[test]
fn the_disk_that_pick_passes_over_is_told() {
    let told = Bench::new().with_disk(&json!({ "pick": "smallest" }));
    assert_eq!(told.disk.unwrap().facts.serial.as_deref(), Some("one"));
    assert_eq!(told.other_disks[0].unmet, ["pick"]);
}

#[test]
fn without_a_disk_the_image_is_looked_at_all_the_same() {
    let told = Bench::new().with_disk(&json!({ "serial": "three" }));
    let (class, message) = refusal(&told);
    assert_eq!(class, Class::Environment);
    assert!(message.contains("no disk fits"), "{message}");
    assert_eq!(told.other_disks.len(), 2);
    assert!(told.disk.is_none() && told.plan.is_none());
    assert_eq!(told.image.format.as_deref(), Some("raw"));
}

#[test]
fn a_disk_in_use_is_refused_unless_it_would_be_released() {
    let bench = Bench::new();
    let mountinfo = bench.fake.machine.proc.join("self/mountinfo");
    bench.fake.write(&mountinfo, "23 1 252:0 / /srv rw - xfs /dev/vda rw");
    let told = bench.with_disk(&json!({ "serial": "one" }));
    let (class, message) = refusal(&told);
    assert_eq!(class, Class::Environment);
    assert!(message.contains("vda is mounted at /srv"), "{message}");
    let told = bench.with_disk(&json!({ "serial": "one", "release": true }));
    assert_eq!(told.refusals, []);
    assert_eq!(told.disk.unwrap().used_by, ["vda is mounted at /srv"]);
    assert_eq!(told.plan.unwrap().release, ["unmount /srv, which is on vda"]);

    let holders = bench.fake.machine.sysfs.join("class/block/vda/holders");
    bench.fake.write(&holders.join("bcache0"), "");
    let told = bench.with_disk(&json!({ "serial": "one", "release": true }));
    assert!(refusal(&told).1.contains("vda is part of bcache0"), "{:?}", told.refusals);
}

#[test]
fn what_does_not_fit_or_is_no_image_is_refused_as_a_run_would() {
    let bench = Bench::new();
    let told = bench.with_image(&image_of(12 << 20));
    let (class, message) = refusal(&told);
    assert_eq!(class, Class::Environment);
    assert!(message.contains("needs 12582912 bytes"), "{message}");
    let large = zstd::bulk::compress(&image_of(12 << 20), 1).unwrap();
    assert!(bench.with_image(&large).refusals[0].message.contains("needs at least 12582912"));
    let told = bench.with_image(&b"<!DOCTYPE html>\n".repeat(512));
    assert_eq!(refusal(&told).0, Class::InvalidInput);
    let told = bench.explain(json!({
        "image": { "url": "/nowhere/image" }, "disk": { "serial": "one" },
    }));
    assert!(refusal(&told).1.starts_with("opening /nowhere/image"), "{:?}", told.refusals);
    let disk = told.disk.unwrap();
    assert_eq!(disk.signatures, ["XFS"]);
}

#[test]
fn an_image_without_a_table_is_written_as_it_is() {
    let told = Bench::new().with_image(&vec![7; 2 << 20]);
    assert!(told.warnings.iter().any(|warning| warning.contains("no GPT")), "{:?}", told.warnings);
    assert_eq!(told.plan.unwrap().held_back, [Extent { start: 0, end: MIB }]);
}

#[test]
fn as_json_it_has_the_words_of_a_job() {
    let told = Bench::new().with_disk(&json!({ "serial": "one" }));
    let value = serde_json::to_value(&told).unwrap();
    assert_eq!(value["disk"]["sector-size"], 512);
    assert_eq!(
        value["image"]["size"],
        json!({ "bytes": 4 * MIB, "at-least": false, "told-by": "gpt" })
    );
    assert_eq!(value["plan"]["held-back"][0], json!({ "start": 0, "end": MIB }));
    assert_eq!(value["refusals"], json!([]));
}

#[test]
fn what_a_block_map_leaves_alone_is_told() {
    let bench = Bench::new();
    let map = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "<?xml version=\"1.0\" ?><bmap version=\"1.2\"><ImageSize>{}</ImageSize>\
         <BlockSize>4096</BlockSize><BlocksCount>1024</BlocksCount>\
         <MappedBlocksCount>1</MappedBlocksCount><BlockMap><Range>0</Range></BlockMap></bmap>",
        4 * MIB
    );
    fs::write(map.path(), text).unwrap();
    let image = json!({ "url": bench.image.path(), "bmap": map.path() });
    let told = bench.explain(json!({ "image": image, "disk": { "serial": "one" } }));
    assert_eq!(told.refusals, []);
    let seen = told.image.map.unwrap();
    assert_eq!((seen.mapped, seen.place.as_str()), (4096, map.path().to_str().unwrap()));
    let left_alone = told.plan.unwrap().left_alone;
    assert!((1..4 * MIB).contains(&left_alone), "{left_alone}");
}
