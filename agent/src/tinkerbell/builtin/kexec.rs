//! `kexec`: the kernel of an installed system, once the server knows that this action is done.
//!
//! Without `KERNEL_PATH` it is the kernel that GRUB would start; `INITRD_PATH` does not count then.

use nibs_job::Task;

use super::variables::Variables;
use super::{BadInput, Inputs, system};

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let mut variables = Variables::of(inputs);
    system::root(&mut variables, "BLOCK_DEVICE")?;
    if let Some(kernel) = variables.text("KERNEL_PATH") {
        variables.put("KERNEL_PATH", "kernel", kernel);
        if let Some(initrd) = variables.text("INITRD_PATH") {
            variables.put("INITRD_PATH", "initrds", vec![initrd]);
        }
    } else {
        variables.copy(&[("GRUBCFG_PATH", "grub-config")]);
    }
    variables.copy(&[("CMD_LINE", "command-line")]);
    variables.task("kexec")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::translated;
    use super::*;

    fn made(more: &[(&str, &str)]) -> Result<Task, String> {
        let on = [("BLOCK_DEVICE", "/dev/nvme0n1p1"), ("FS_TYPE", "ext4")];
        translated(translate, &[&on[..], more].concat())
    }

    fn task(more: &Value) -> Result<Task, String> {
        let root = json!({"partition": {"path": "/dev/nvme0n1p1"}, "filesystem": "ext4"});
        let mut with = json!({ "root": root });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Ok(Task::decode("kexec", with).unwrap())
    }

    #[test]
    fn variables_say_what_is_started_and_what_they_do_not_say_grub_does() {
        for (environment, with) in [
            (&[][..], json!({})),
            (&[("CMD_LINE", "quiet")], json!({"command-line": "quiet"})),
            (&[("INITRD_PATH", "/boot/initrd")], json!({})),
            (&[("GRUBCFG_PATH", "grub/grub.cfg")], json!({"grub-config": "grub/grub.cfg"})),
            (&[("KERNEL_PATH", "/boot/vmlinuz")], json!({"kernel": "/boot/vmlinuz"})),
            (
                &[("KERNEL_PATH", "/v"), ("INITRD_PATH", "/i"), ("GRUBCFG_PATH", "/g")],
                json!({"kernel": "/v", "initrds": ["/i"]}),
            ),
        ] {
            assert_eq!(made(environment), task(&with), "{environment:?}");
        }
        let error = translated(translate, &[("FS_TYPE", "ext4")]).unwrap_err();
        assert!(error.starts_with("BLOCK_DEVICE is missing"), "{error}");
        let bare = [("BLOCK_DEVICE", "/dev/sda1")];
        assert!(translated(translate, &bare).is_ok(), "its filesystem is what is found");
    }
}
