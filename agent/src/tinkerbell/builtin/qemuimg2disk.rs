//! `qemuimg2disk`: a raw or qcow2 image onto a disk, or onto a partition.
//!
//! Which of the two it is, is told by its first bytes; a raw one may be compressed. `EXTRA_ARGS` are
//! those of `qemu-img convert`: what is about how it works is passed over, what would change the
//! result is refused. With `-f raw` so is an image that shows itself as qcow2: it would be written as
//! it is.

use nibs_job::Task;

use super::variables::Variables;
use super::{BadInput, Inputs, image, target};

/// What of `qemu-img convert` changes nothing of the result: flags, and options with a value.
const FLAGS: [&str; 6] = ["-p", "-q", "-W", "-n", "-U", "--target-is-zero"];
const OPTIONS: [&str; 5] = ["-m", "-t", "-T", "-S", "-r"];

/// Formats that can be read, and in which a disk can be written.
const RAW: &str = "raw";
const SOURCES: [&str; 2] = [RAW, "qcow2"];
const TARGETS: [&str; 2] = ["host_device", RAW];

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let mut variables = Variables::of(inputs);
    let url = variables.required("IMG_URL", "where the image is, such as http://host/os.qcow2")?;
    variables.put("IMG_URL", "image.url", url);
    if let Some(format) = variables.text("FORMAT").filter(|format| !TARGETS.contains(format)) {
        return Err(BadInput(format!(
            "FORMAT: a disk is written as {}, found {format:?}",
            TARGETS.join(" or ")
        )));
    }
    if let Some(RAW) = source(variables.text("EXTRA_ARGS").unwrap_or_default())? {
        variables.put("EXTRA_ARGS", "image.format", RAW);
    }
    image::image(&mut variables)?;
    let (user, password) = (("IMG_USERNAME", "image.username"), ("IMG_PASSWORD", "image.password"));
    image::credentials(&mut variables, user, password)?;
    variables.copy(&[("IMG_BEARER_TOKEN", "image.bearer-token")]);
    target::disk(&mut variables)?;
    variables.task("stream-image")
}

/// The format that the arguments say the image has, if they say it.
fn source(arguments: &str) -> Result<Option<&str>, BadInput> {
    let mut said = None;
    let mut words = arguments.split_whitespace();
    while let Some(word) = words.next() {
        if FLAGS.contains(&word) {
            continue;
        }
        let value = words.next();
        if OPTIONS.contains(&word) && value.is_some() {
            continue;
        }
        said = value.filter(|format| word == "-f" && SOURCES.contains(format));
        if said.is_none() {
            return Err(BadInput(format!(
                "EXTRA_ARGS: {word:?} is not taken; expected -f raw, -f qcow2, {}, or {} with a value",
                FLAGS.join(", "),
                OPTIONS.join(", ")
            )));
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::translated;
    use super::*;

    const BASIC: [(&str, &str); 2] =
        [("IMG_URL", "http://h/os.qcow2"), ("DEST_DISK", "/dev/disk/by-id/nvme-x")];

    #[test]
    fn the_originals_variables_make_the_same_of_it() {
        let image = json!({ "url": "http://h/os.qcow2" });
        let with = json!({ "image": image, "disk": { "path": "/dev/disk/by-id/nvme-x" } });
        for more in [
            &[][..],
            &[("FORMAT", "host_device")],
            &[("FORMAT", "raw"), ("EXTRA_ARGS", " -W -m 16  -t none -f qcow2 --target-is-zero -n")],
        ] {
            let made = translated(translate, &[&BASIC[..], more].concat());
            assert_eq!(made, Ok(Task::decode("stream-image", with.clone()).unwrap()), "{more:?}");
        }
    }

    #[test]
    fn an_image_that_is_said_to_be_raw_is_not_converted() {
        let image = json!({ "url": "http://h/os.qcow2", "format": "raw" });
        let with = json!({ "image": image, "disk": { "path": "/dev/disk/by-id/nvme-x" } });
        let made = translated(translate, &[&BASIC[..], &[("EXTRA_ARGS", "-f raw -W")]].concat());
        assert_eq!(made, Ok(Task::decode("stream-image", with).unwrap()));
    }

    #[test]
    fn what_would_change_the_result_is_refused() {
        for (more, says) in [
            (("IMG_URL", ""), "IMG_URL is missing"),
            (("FORMAT", "qcow2"), "FORMAT: a disk is written as host_device or raw"),
            (("EXTRA_ARGS", "-c"), "EXTRA_ARGS: \"-c\" is not taken"),
            (("EXTRA_ARGS", "-W -m"), "EXTRA_ARGS: \"-m\" is not taken"),
            (("EXTRA_ARGS", "-f vmdk"), "EXTRA_ARGS: \"-f\" is not taken"),
            (("EXTRA_ARGS", "-l snapshot"), "EXTRA_ARGS: \"-l\" is not taken"),
        ] {
            let error = translated(translate, &[&BASIC[..], &[more]].concat()).unwrap_err();
            assert!(error.starts_with(says), "{says}: {error}");
        }
        target::check_errors(translate, &BASIC[..1]);
    }
}
