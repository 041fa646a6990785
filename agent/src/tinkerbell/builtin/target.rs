//! Which disk an action writes to: `DEST_DISK`, and variables of ours for what a path cannot say.

use super::BadInput;
use super::variables::Variables;

/// Variables that choose among disks, and the keys that they become.
const SELECTORS: [(&str, &str); 7] = [
    ("DISK_BY_ID", "disk.by-id"),
    ("DISK_SERIAL", "disk.serial"),
    ("DISK_WWN", "disk.wwn"),
    ("DISK_MODEL", "disk.model"),
    ("DISK_MIN_SIZE", "disk.min-size"),
    ("DISK_MAX_SIZE", "disk.max-size"),
    ("DISK_PICK", "disk.pick"),
];

/// What a path of a device starts with.
const DEVICES: &str = "/dev/";

/// The disk, or the partition, that is overwritten.
pub(super) fn disk(variables: &mut Variables<'_>) -> Result<(), BadInput> {
    if let Some(path) = device(variables, "DEST_DISK")? {
        variables.put("DEST_DISK", "disk.path", path);
    } else if selecting(variables).is_none() {
        return Err(missing());
    }
    selectors(variables)
}

/// The path of a device that a variable says.
pub(super) fn device<'a>(
    variables: &Variables<'a>,
    name: &str,
) -> Result<Option<&'a str>, BadInput> {
    match variables.text(name) {
        Some(path) if !path.starts_with(DEVICES) => Err(BadInput(format!(
            "{name}: expected the path of a device below {DEVICES}, found {path:?}"
        ))),
        path => Ok(path),
    }
}

/// A variable that says something and chooses among disks, if there is any.
pub(super) fn selecting(variables: &Variables<'_>) -> Option<&'static str> {
    SELECTORS.iter().map(|(name, _)| *name).find(|name| variables.text(name).is_some())
}

/// Takes over what chooses among disks.
pub(super) fn selectors(variables: &mut Variables<'_>) -> Result<(), BadInput> {
    variables.copy(&SELECTORS);
    if variables.flag("DISK_RELEASE")? {
        variables.put("DISK_RELEASE", "disk.release", true);
    }
    Ok(())
}

pub(super) fn missing() -> BadInput {
    let others = SELECTORS.map(|(name, _)| name).join(", ");
    BadInput(format!(
        "DEST_DISK is missing: which disk is written, such as /dev/sda; or one of {others}"
    ))
}

/// Holds every action that writes to a disk to the same words about it.
#[cfg(test)]
pub(super) fn check_errors(translate: super::Translate, others: &[(&str, &str)]) {
    let run = |more: &[(&str, &str)]| {
        let all =
            others.iter().chain(more).map(|(k, v)| ((*k).to_owned(), nibs_job::Secret::new(*v)));
        let environment = all.collect();
        translate(super::Inputs { environment: &environment, command: &[] })
            .unwrap_err()
            .to_string()
    };
    assert!(run(&[]).starts_with("DEST_DISK is missing"), "{}", run(&[]));
    assert!(run(&[("DEST_DISK", "sda")]).contains("below /dev/, found \"sda\""));
    assert!(run(&[("DISK_MIN_SIZE", "much")]).starts_with("DISK_MIN_SIZE: \"much\" is not a size"));
    assert!(run(&[("DISK_PICK", "any")]).starts_with("DISK_PICK: name `any` is not known"));
    let release = [("DEST_DISK", "/dev/sda"), ("DISK_RELEASE", "maybe")];
    assert!(run(&release).starts_with("DISK_RELEASE: expected true or false, found \"maybe\""));
}
