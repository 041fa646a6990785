//! `slurp`: what is on a disk, to a server.

use nibs_job::Task;

use super::variables::Variables;
use super::{BadInput, Inputs, image, target};

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let mut variables = Variables::of(inputs);
    let url =
        variables.required("DEST_URL", "where the image is sent, such as http://host/image")?;
    variables.put("DEST_URL", "url", url);
    let name = variables.required("IMG_NAME", "the image's name, without .img and .gz")?;
    // As the original reads it: what cannot be read counts as no.
    let file_name = if variables.flag("COMPRESSED").unwrap_or(false) {
        variables.put("COMPRESSED", "compression", "gzip");
        format!("{name}.img.gz")
    } else {
        format!("{name}.img")
    };
    variables.put("IMG_NAME", "file-name", file_name);
    variables.copy(&[("IMG_STALL_TIMEOUT", "stall-timeout"), ("IMG_CA", "ca")]);
    image::proxies(&mut variables, ["http-proxy", "https-proxy", "no-proxy"]);
    match target::device(&variables, "SOURCE_DISK")? {
        Some(path) => variables.put("SOURCE_DISK", "disk.path", path),
        None if target::selecting(&variables).is_some() => {}
        None => {
            return Err(BadInput(
                "SOURCE_DISK is missing: which disk is sent, such as /dev/sda".into(),
            ));
        }
    }
    target::selectors(&mut variables)?;
    variables.task("upload-image")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::translated;
    use super::*;

    const BASIC: [(&str, &str); 3] = [
        ("SOURCE_DISK", "/dev/sda"),
        ("DEST_URL", "http://10.0.0.1:3000/image"),
        ("IMG_NAME", "node"),
    ];

    #[test]
    fn the_originals_variables_make_the_same_of_it() {
        for (compressed, file_name, compression) in [
            ("", "node.img", "none"),
            ("perhaps", "node.img", "none"),
            ("true", "node.img.gz", "gzip"),
        ] {
            let made = translated(translate, &[&BASIC[..], &[("COMPRESSED", compressed)]].concat());
            let with = json!({
                "disk": { "path": "/dev/sda" }, "url": "http://10.0.0.1:3000/image",
                "file-name": file_name, "compression": compression,
            });
            assert_eq!(made, Ok(Task::decode("upload-image", with).unwrap()), "{compressed}");
        }
    }

    #[test]
    fn what_cannot_be_is_told_of_the_variable_that_says_it() {
        for (more, says) in [
            (("SOURCE_DISK", ""), "SOURCE_DISK is missing"),
            (("SOURCE_DISK", "sda"), "SOURCE_DISK: expected the path of a device"),
            (("DEST_URL", ""), "DEST_URL is missing"),
            (("DEST_URL", "host/image"), "DEST_URL: not a URL"),
            (("DEST_URL", "/tmp/image"), "url: expected http:// or https://"),
            (("IMG_NAME", ""), "IMG_NAME is missing"),
            (("IMG_NAME", "a\"b"), "file-name: expected a name without quotes"),
        ] {
            let error = translated(translate, &[&BASIC[..], &[more]].concat()).unwrap_err();
            assert!(error.starts_with(says), "{says}: {error}");
        }
    }
}
