//! `grub2disk`: GRUB, installed to a disk by the installed system's own programs.
//!
//! The image of that name brings a GRUB along; here it is the one that the system will be updated
//! with. What its `fstab` mounts at `/boot` and below is mounted for that; if it cannot be, GRUB would go
//! where the firmware does not find it, so nothing is installed.

use nibs_job::Task;

use super::variables::Variables;
use super::{BadInput, Inputs, system, target};

/// Finds GRUB under the names of the distributions: Debian, Alpine and Arch; Fedora and SUSE.
const SCRIPT: &str = include_str!("grub2disk.sh");

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let mut variables = Variables::of(inputs);
    system::root(&mut variables, "GRUB_DISK")?;
    variables.required("GRUB_INSTALL_PATH", "the disk to start from, such as /dev/sda")?;
    if let Some(disk) = target::device(&variables, "GRUB_INSTALL_PATH")? {
        variables.put("GRUB_INSTALL_PATH", "environment.GRUB_INSTALL_PATH", disk);
    }
    variables.put("commands", "commands", vec![vec!["/bin/sh", "-c", SCRIPT]]);
    variables.task("run-command")
}

#[cfg(test)]
mod tests {
    use super::super::tests::translated;
    use super::*;

    #[test]
    fn the_systems_own_grub_is_installed_where_the_variables_say() {
        let environment =
            [("GRUB_INSTALL_PATH", "/dev/sda"), ("GRUB_DISK", "/dev/sda3"), ("FS_TYPE", "ext4")];
        let Ok(Task::RunCommand(made)) = translated(translate, &environment) else { panic!() };
        assert_eq!(made.root.partition.path.as_deref(), Some("/dev/sda3"));
        assert_eq!(made.environment["GRUB_INSTALL_PATH"].expose(), "/dev/sda");
        for (missing, wrong) in [(0, "GRUB_INSTALL_PATH is missing"), (1, "GRUB_DISK is missing")] {
            let mut environment = environment.to_vec();
            environment.remove(missing);
            let error = translated(translate, &environment).unwrap_err();
            assert!(error.starts_with(wrong), "{error}");
        }
        assert!(translated(translate, &environment[..2]).is_ok(), "its filesystem is found");
    }
}
