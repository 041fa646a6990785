//! Which disk is meant: none, one or many, each answered by name.

use std::path::Path;

use nibs_job::{
    Class,
    params::{DiskSelector, Pick},
};

use super::{
    Disk, Error, Result, list, open_named, open_place, partition_path, split_partition_path,
};
use crate::Machine;

const BY_ID: &str = "/dev/disk/by-id/";

/// Why no disk could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No disk fits.
    #[error("choosing the disk with {wanted}: no disk fits; {}", there_are(present))]
    None {
        /// The selector.
        wanted: String,
        /// All disks there are.
        present: Vec<Disk>,
    },
    /// More than one disk fits.
    #[error(
        "choosing the disk with {wanted}: {} disks fit: {}; say more of the one that is meant",
        fit.len(),
        listed(fit)
    )]
    Many {
        /// The selector.
        wanted: String,
        /// The disks that fit.
        fit: Vec<Disk>,
    },
}

impl SelectError {
    /// Whose fault it is: a disk that is not there is the machine's, one that is not told apart
    /// from others is the job's.
    pub fn class(&self) -> Class {
        match self {
            Self::None { .. } => Class::Environment,
            Self::Many { .. } => Class::InvalidInput,
        }
    }
}

/// The one disk of a machine that is meant. A disk named by path may be of any kind.
pub fn find(selector: &DiskSelector, machine: &Machine) -> Result<Disk> {
    let named = named(selector, |path| open_named(machine, path))?;
    check(selector, named, machine)
}

/// The one disk that is meant, or the partition, if a path names one.
pub fn find_place(selector: &DiskSelector, machine: &Machine) -> Result<Disk> {
    let named = named(selector, |path| match open_place(machine, path)? {
        None => open_by_link(machine, path),
        found => Ok(found),
    })?;
    check(selector, named, machine)
}

/// The partition that a link would name if udev ran.
fn open_by_link(machine: &Machine, path: &Path) -> Result<Option<Disk>> {
    let Some((whole, number)) = split_partition_path(path) else { return Ok(None) };
    let path = Some(whole.to_string_lossy().into_owned());
    match find(&DiskSelector { path, ..DiskSelector::default() }, machine) {
        Ok(disk) => open_place(machine, &partition_path(&disk.path, number)),
        Err(Error::Select(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn named(
    selector: &DiskSelector,
    open: impl FnOnce(&Path) -> Result<Option<Disk>>,
) -> Result<Option<Disk>> {
    selector.path.as_ref().map_or(Ok(None), |path| open(Path::new(path)))
}

/// Holds what a path names against the rest of the selector, and seeks by that what none names.
fn check(selector: &DiskSelector, named: Option<Disk>, machine: &Machine) -> Result<Disk> {
    let Some(named) = named else { return Ok(select(selector, &list(machine)?)?) };
    let others = DiskSelector { path: None, ..selector.clone() };
    if matches(&others, &named) {
        return Ok(named);
    }
    Err(SelectError::None { wanted: selector.to_string(), present: vec![named] }.into())
}

/// The one of these disks that is meant.
pub fn select(selector: &DiskSelector, disks: &[Disk]) -> std::result::Result<Disk, SelectError> {
    let mut fit: Vec<&Disk> = disks.iter().filter(|disk| matches(selector, disk)).collect();
    let extreme = match selector.pick {
        Some(Pick::Smallest) => fit.iter().map(|disk| disk.size).min(),
        Some(Pick::Largest) => fit.iter().map(|disk| disk.size).max(),
        None => None,
    };
    if let Some(size) = extreme {
        fit.retain(|disk| disk.size == size);
    }
    match fit.as_slice() {
        [] => Err(SelectError::None { wanted: selector.to_string(), present: disks.to_vec() }),
        [disk] => Ok((*disk).clone()),
        _ => Err(SelectError::Many {
            wanted: selector.to_string(),
            fit: fit.into_iter().cloned().collect(),
        }),
    }
}

fn matches(selector: &DiskSelector, disk: &Disk) -> bool {
    unmet(selector, disk).is_empty()
}

/// What of a selector a disk does not meet, by its keys; `pick` is not about one disk alone.
pub fn unmet(selector: &DiskSelector, disk: &Disk) -> Vec<&'static str> {
    let same = |wanted: &Option<String>, found: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| found.as_deref() == Some(wanted.trim()))
    };
    let link = |name: &str| disk.by_id.iter().any(|link| link == name);
    let is_path =
        |path: &String| disk.path == Path::new(path) || path.strip_prefix(BY_ID).is_some_and(link);
    let is_by_id = |name: &String| link(name.strip_prefix(BY_ID).unwrap_or(name));
    let is_wwn = |wanted: &String| {
        disk.wwn.as_ref().is_some_and(|found| bare_wwn(found) == bare_wwn(wanted))
    };
    let criteria = [
        ("path", selector.path.as_ref().is_none_or(is_path)),
        ("by-id", selector.by_id.as_ref().is_none_or(is_by_id)),
        ("serial", same(&selector.serial, &disk.serial)),
        ("wwn", selector.wwn.as_ref().is_none_or(is_wwn)),
        ("model", same(&selector.model, &disk.model)),
        ("min-size", selector.min_size.is_none_or(|min| disk.size >= min.0)),
        ("max-size", selector.max_size.is_none_or(|max| disk.size <= max.0)),
    ];
    criteria.into_iter().filter(|(_, is_met)| !is_met).map(|(key, _)| key).collect()
}

/// The same name is written `naa.5000…`, `eui.5000…` or `0x5000…`, by kernel, firmware and labels.
fn bare_wwn(wwn: &str) -> String {
    let wwn = wwn.trim().to_ascii_lowercase();
    let bare = ["naa.", "eui.", "0x"].iter().find_map(|kind| wwn.strip_prefix(kind));
    bare.unwrap_or(&wwn).to_owned()
}

fn listed(disks: &[Disk]) -> String {
    disks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn there_are(present: &[Disk]) -> String {
    match present {
        [] => "this machine has no disk".into(),
        disks => format!("there are {}", listed(disks)),
    }
}

#[cfg(test)]
mod tests {
    use nibs_job::Size;

    use super::super::list::tests::FakeMachine;
    use super::*;

    fn disk(name: &str, size: u64, serial: &str) -> Disk {
        Disk {
            name: name.into(),
            path: format!("/dev/{name}").into(),
            size,
            serial: Some(serial.into()),
            model: Some("M".into()),
            wwn: Some(format!("naa.5000{name}")),
            by_id: vec![format!("ata-M_{serial}")],
            ..Disk::default()
        }
    }

    fn disks() -> Vec<Disk> {
        vec![disk("sda", 100, "A"), disk("sdb", 200, "B"), disk("sdc", 200, "C")]
    }

    fn chosen(selector: &DiskSelector) -> String {
        match select(selector, &disks()) {
            Ok(disk) => disk.name,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_criterion_finds_its_disk() {
        let none = DiskSelector::default;
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(chosen(&DiskSelector { path: text("/dev/sda"), ..none() }), "sda");
        assert_eq!(
            chosen(&DiskSelector { path: text("/dev/disk/by-id/ata-M_B"), ..none() }),
            "sdb"
        );
        assert_eq!(chosen(&DiskSelector { by_id: text("ata-M_C"), ..none() }), "sdc");
        assert_eq!(chosen(&DiskSelector { serial: text(" B "), ..none() }), "sdb");
        assert_eq!(chosen(&DiskSelector { wwn: text("0x5000SDC"), ..none() }), "sdc");
        assert_eq!(chosen(&DiskSelector { max_size: Some(Size(100)), ..none() }), "sda");
        assert_eq!(chosen(&DiskSelector { pick: Some(Pick::Smallest), ..none() }), "sda");
        let both = DiskSelector { model: text("M"), serial: text("A"), ..none() };
        assert_eq!(chosen(&both), "sda");
    }

    #[test]
    fn what_a_disk_does_not_meet_is_told_by_its_keys() {
        let selector = DiskSelector {
            model: Some("M".into()),
            serial: Some("B".into()),
            min_size: Some(Size(150)),
            ..DiskSelector::default()
        };
        let unmet: Vec<_> = disks().iter().map(|disk| unmet(&selector, disk)).collect();
        assert_eq!(unmet, [vec!["serial", "min-size"], vec![], vec!["serial"]]);
    }

    #[test]
    fn two_of_the_same_size_are_not_guessed_between() {
        let largest = DiskSelector { pick: Some(Pick::Largest), ..DiskSelector::default() };
        let error = select(&largest, &disks()).unwrap_err();
        assert_eq!(error.class(), Class::InvalidInput);
        let text = error.to_string();
        assert!(text.contains("2 disks fit") && text.contains("serial \"C\""), "{text}");
        assert!(!text.contains("sda"), "{text}");
    }

    #[test]
    fn none_that_fits_lists_those_there_are() {
        let absent = DiskSelector { serial: Some("Z".into()), ..DiskSelector::default() };
        let error = select(&absent, &disks()).unwrap_err();
        assert_eq!(error.class(), Class::Environment);
        let text = error.to_string();
        assert!(text.contains("serial \"Z\"") && text.contains("/dev/sda (100 B"), "{text}");
        let text = select(&absent, &[]).unwrap_err().to_string();
        assert!(text.contains("this machine has no disk"), "{text}");
    }

    #[test]
    fn a_disk_named_by_path_still_has_to_fit_the_rest() {
        let fake = FakeMachine::new();
        fake.disk("loop3", 1 << 20, &[]);
        let path = Some("/dev/loop3".to_owned());
        let by_path = DiskSelector { path, ..DiskSelector::default() };
        assert_eq!(find(&by_path, &fake.machine).unwrap().name, "loop3");
        let larger = DiskSelector { min_size: Some(Size(1 << 30)), ..by_path };
        let error = find(&larger, &fake.machine).unwrap_err().to_string();
        assert!(error.contains("min-size") && error.contains("loop3 (1.0 MiB"), "{error}");
    }

    #[test]
    fn a_by_id_path_works_without_udev() {
        let fake = FakeMachine::new();
        fake.disk("vda", 1 << 20, &[("serial", "root")]);
        let path = Some("/dev/disk/by-id/virtio-root".to_owned());
        let selector = DiskSelector { path, ..DiskSelector::default() };
        assert_eq!(find(&selector, &fake.machine).unwrap().name, "vda");
    }

    #[test]
    fn a_partition_is_a_place_by_its_link_without_udev_too() {
        let fake = FakeMachine::new();
        fake.disk("vda", 1 << 20, &[("serial", "root")]);
        fake.partition("vda", 1, "252:1");
        fake.write(&fake.machine.sysfs.join("devices/vda/vda1/size"), "1024");
        let place = |path: &str| {
            let selector = DiskSelector { path: Some(path.into()), ..DiskSelector::default() };
            find_place(&selector, &fake.machine).map(|disk| disk.name)
        };
        assert_eq!(place("/dev/disk/by-id/virtio-root-part1").unwrap(), "vda1");
        assert_eq!(place("/dev/vda1").unwrap(), "vda1");
        for absent in ["/dev/disk/by-id/virtio-root-part2", "/dev/sdz1", "/dev/disk/by-id/x-part1"]
        {
            let error = place(absent).unwrap_err().to_string();
            assert!(error.contains("no disk fits") && error.contains(absent), "{error}");
        }
    }
}
