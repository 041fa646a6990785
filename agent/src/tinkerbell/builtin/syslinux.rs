//! `syslinux`: a machine with BIOS starts what is on a partition, by the installed system's own
//! extlinux. The image of that name brings SYSLINUX 3.86 along, for FAT; so `SYSLINUX_VERSION` is
//! checked as it checks it, and says nothing else here.

use nibs_job::Task;

use super::variables::Variables;
use super::{BadInput, Inputs, system, target};

/// Of the boot record only the first 440 bytes are code; behind them is the partition table.
const SCRIPT: &str = r#"
if ! command -v extlinux >/dev/null; then
    echo 'the installed system has no extlinux: install its package (extlinux, syslinux-common) in it first' >&2
    exit 1
fi
record=
for file in /usr/lib/syslinux/mbr/mbr.bin /usr/lib/EXTLINUX/mbr.bin /usr/share/syslinux/mbr.bin /usr/lib/syslinux/bios/mbr.bin; do
    [ -e "$file" ] && record=$file && break
done
if [ -z "$record" ]; then
    echo 'the installed system has no mbr.bin of SYSLINUX: install its package (syslinux-common) in it first' >&2
    exit 1
fi
mkdir -p /boot/extlinux && extlinux --install /boot/extlinux || exit
dd if="$record" of="$DEST_DISK" bs=440 count=1 conv=notrunc,fsync
"#;

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let mut variables = Variables::of(inputs);
    system::root(&mut variables, "DEST_PARTITION")?;
    variables.required("DEST_DISK", "the disk to start from, such as /dev/sda")?;
    if let Some(disk) = target::device(&variables, "DEST_DISK")? {
        variables.put("DEST_DISK", "environment.DEST_DISK", disk);
    }
    match variables.required("SYSLINUX_VERSION", "386 or 3.86")? {
        "386" | "3.86" => {}
        other => {
            let message = format!("SYSLINUX_VERSION: expected 386 or 3.86, found {other:?}");
            return Err(BadInput(message));
        }
    }
    variables.put("commands", "commands", vec![vec!["/bin/sh", "-c", SCRIPT]]);
    variables.task("run-command")
}

#[cfg(test)]
mod tests {
    use super::super::tests::translated;
    use super::*;

    #[test]
    fn the_systems_own_extlinux_is_installed_where_the_variables_say() {
        let all = [
            ("DEST_DISK", "/dev/sda"),
            ("DEST_PARTITION", "/dev/sda1"),
            ("SYSLINUX_VERSION", "386"),
        ];
        let Ok(Task::RunCommand(made)) = translated(translate, &all) else { panic!() };
        assert_eq!(made.root.partition.path.as_deref(), Some("/dev/sda1"));
        assert_eq!(made.environment["DEST_DISK"].expose(), "/dev/sda");
        for (index, value, wrong) in [
            (0, "", "DEST_DISK is missing"),
            (0, "sda", "DEST_DISK: expected the path of a device"),
            (1, "", "DEST_PARTITION is missing"),
            (2, "", "SYSLINUX_VERSION is missing: 386 or 3.86"),
            (2, "6.04", "SYSLINUX_VERSION: expected 386 or 3.86, found \"6.04\""),
        ] {
            let mut environment = all.to_vec();
            environment[index].1 = value;
            let error = translated(translate, &environment).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
