//! An explanation as a page for people.

use std::fmt::Write;

use nibs_actions::stream_image::{
    ChosenDisk, DigestOf, Explanation, Extent, ImageSeen, ImageSize, OtherDisk, Plan, ToldBy,
};
use nibs_job::Size;

use super::inventory::disk_in_words;

/// The page, which ends with the verdict.
pub(super) fn page(explanation: &Explanation) -> String {
    let mut page = Page::default();
    if let Some(disk) = &explanation.disk {
        chosen(&mut page, disk);
    }
    for other in &explanation.other_disks {
        page.row("not", &passed_over(other));
    }
    if !explanation.image.places.is_empty() {
        seen(&mut page, &explanation.image);
    }
    if let (Some(plan), Some(disk)) = (&explanation.plan, &explanation.disk) {
        for (index, step) in steps(plan, &disk.facts.path).iter().enumerate() {
            page.row(&format!("step {}", index + 1), step);
        }
    }
    for file in &explanation.files {
        page.row("file", &format!("{}, {}", file.name, Size(file.size)));
    }
    for warning in &explanation.warnings {
        page.row("warning", warning);
    }
    for refusal in &explanation.refusals {
        page.row("refused", &refusal.message);
    }
    let verdict = match explanation.refusals.is_empty() {
        true => "It would start. Nothing was written.",
        false => "It would not start. Nothing was written.",
    };
    page.0 + verdict + "\n"
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn row(&mut self, name: &str, value: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{name:<9} {value}");
    }
}

fn chosen(page: &mut Page, disk: &ChosenDisk) {
    page.row("disk", &disk_in_words(&disk.facts));
    page.row("  by", &disk.chosen_by);
    let signatures = match disk.signatures.as_slice() {
        [] => "nothing that is recognised".to_owned(),
        found => found.join(", "),
    };
    page.row("  holds", &signatures);
    for partition in &disk.partitions {
        let (number, name, size) = (partition.number, &partition.name, Size(partition.size));
        page.row("  loses", &format!("partition {number} {name:?}, {size}"));
    }
    let uses = match disk.used_by.as_slice() {
        [] => "by nothing that the kernel shows".to_owned(),
        uses => uses.join(", "),
    };
    page.row("  in use", &uses);
}

fn passed_over(other: &OtherDisk) -> String {
    let disk = disk_in_words(&other.facts);
    match other.unmet.as_slice() {
        [] => format!("{disk}: it fits as well"),
        unmet => format!("{disk}: does not fit {}", unmet.join(", ")),
    }
}

fn seen(page: &mut Page, image: &ImageSeen) {
    page.row("image", &image.places.join(" or "));
    let is_the_only = |place: &&String| matches!(&image.places[..], [only] if only == *place);
    if let Some(answered) = image.answered.as_ref().filter(|place| !is_the_only(place)) {
        page.row("  from", answered);
    }
    let served = image.served.map(|bytes| format!("{bytes} bytes ({})", Size(bytes)));
    if let Some(format) = &image.format {
        let length = served.as_deref().unwrap_or("a length that the server does not tell");
        page.row("  served", &format!("{length}, as {format}"));
    }
    if let Some(size) = &image.size {
        page.row("  size", &length(size));
    }
    if let Some(map) = &image.map {
        page.row("  map", &format!("{}, where {} hold something", map.place, Size(map.mapped)));
    }
    for digest in &image.digests {
        let of = match digest.of {
            DigestOf::Served => "the bytes as served",
            DigestOf::Image => "the image",
        };
        page.row("  proof", &format!("{} {} of {of}", digest.algorithm, digest.digest));
    }
}

fn length(size: &ImageSize) -> String {
    let at_least = if size.at_least { "at least " } else { "" };
    let told_by = match size.told_by {
        ToldBy::Gpt => "its GPT",
        ToldBy::Map => "its block map",
        ToldBy::Format => "its format",
    };
    format!("{at_least}{} bytes ({}), says {told_by}", size.bytes, Size(size.bytes))
}

/// What is done, in order; the order of the engine, which `docs/engine.md` explains.
fn steps(plan: &Plan, disk: &str) -> Vec<String> {
    let mut steps = plan.release.clone();
    steps.push(format!("claim {disk} for this process alone"));
    let proven = if plan.read_back { ", read back" } else { "" };
    steps.push(format!("clear {}; flush{proven}", extents(&plan.cleared)));
    let manner = match plan.direct {
        true => "directly (O_DIRECT)",
        false => "through the page cache, since it takes no direct I/O",
    };
    let held = extents(&plan.held_back);
    let alone = match plan.left_alone {
        0 => String::new(),
        bytes => format!(" and {} that its map leaves alone", Size(bytes)),
    };
    steps.push(format!("write the image {manner}, all but {held}, held back{alone}; flush"));
    if plan.read_back {
        steps.push("read back what is written, past every cache, and compare".into());
    }
    steps.push("prove length and digests; until here, any failure leaves no bootable disk".into());
    let moved = match plan.backup_moves_to {
        Some(at) => format!(", the backup GPT at byte {at}, for the disk is larger"),
        None => String::new(),
    };
    steps.push(format!("write what was held back but MBR and GPT headers{moved}; flush"));
    steps.push("write MBR and GPT headers; flush".into());
    if plan.read_back {
        steps.push("read those back too".into());
    }
    steps.push("have the kernel show the new partitions".into());
    steps
}

fn extents(extents: &[Extent]) -> String {
    let one = |extent: &Extent| format!("bytes {} to {}", extent.start, extent.end - 1);
    extents.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use nibs_actions::stream_image::{DigestSeen, FileSeen, PartitionSeen, Refusal};
    use nibs_job::{Class, DiskFacts};

    use super::*;

    fn explanation() -> Explanation {
        let facts = |path: &str| DiskFacts {
            path: path.into(),
            size: 8 << 30,
            sector_size: 512,
            ..DiskFacts::default()
        };
        let partition = PartitionSeen {
            number: 1,
            name: "data".into(),
            type_guid: String::new(),
            start: 1 << 20,
            size: 1 << 30,
        };
        let extent = |start, end| Extent { start, end };
        Explanation {
            disk: Some(ChosenDisk {
                facts: facts("/dev/vda"),
                chosen_by: "serial \"one\"".into(),
                signatures: vec!["GPT".into()],
                partitions: vec![partition],
                used_by: vec!["vda1 is mounted at /srv".into()],
            }),
            other_disks: vec![OtherDisk {
                facts: facts("/dev/vdb"),
                unmet: vec!["serial".into(), "pick".into()],
            }],
            image: ImageSeen {
                places: vec!["http://a/os.img".into(), "http://b/os.img".into()],
                answered: Some("http://b/os.img".into()),
                served: Some(1000),
                format: Some("zstd".into()),
                digests: vec![DigestSeen {
                    algorithm: "sha256",
                    of: DigestOf::Served,
                    digest: "ab".into(),
                }],
                size: Some(ImageSize { bytes: 2 << 30, at_least: true, told_by: ToldBy::Format }),
                map: None,
            },
            plan: Some(Plan {
                release: vec!["unmount /srv, which is on vda1".into()],
                cleared: vec![extent(0, 1 << 20)],
                held_back: vec![extent(0, 1 << 20), extent(2 << 20, 3 << 20)],
                left_alone: 3 << 20,
                backup_moves_to: Some(12345),
                direct: true,
                read_back: true,
            }),
            files: vec![FileSeen { name: "net.toml".into(), size: 100 }],
            warnings: vec!["w".into()],
            refusals: Vec::new(),
        }
    }

    #[test]
    fn the_page_says_which_disk_why_what_is_lost_and_in_which_order() {
        let page = page(&explanation());
        let parts = [
            "disk      /dev/vda, 8.0 GiB",
            "  by      serial \"one\"",
            "  loses   partition 1 \"data\", 1.0 GiB",
            "  in use  vda1 is mounted at /srv",
            "not       /dev/vdb, 8.0 GiB, 512-byte sectors, solid state: does not fit serial, pick",
            "image     http://a/os.img or http://b/os.img",
            "  from    http://b/os.img",
            "  served  1000 bytes (1000 B), as zstd",
            "  size    at least 2147483648 bytes (2.0 GiB), says its format",
            "  proof   sha256 ab of the bytes as served",
            "step 1    unmount /srv",
            "step 3    clear bytes 0 to 1048575; flush, read back",
            "step 4    write the image directly (O_DIRECT), all but bytes 0 to 1048575, bytes 2097152",
            "held back and 3.0 MiB that its map leaves alone; flush",
            "step 7    write what was held back but MBR and GPT headers, the backup GPT at byte 12345",
            "file      net.toml, 100 B",
            "warning   w",
            "It would start.",
        ];
        let mut from = 0;
        for part in parts {
            let at = page[from..].find(part);
            from += at.unwrap_or_else(|| panic!("{part:?} is not, or not there, in\n{page}"));
        }
    }

    #[test]
    fn a_refusal_is_the_verdict_and_one_place_is_named_once() {
        let mut refused = explanation();
        let message = "/dev/vda is read-only".into();
        refused.refusals = vec![Refusal { class: Class::Environment, message }];
        refused.image.places.remove(0);
        let page = page(&refused);
        assert!(page.contains("refused   /dev/vda is read-only\nIt would not start"), "{page}");
        assert!(!page.contains("  from"), "{page}");
    }
}
