//! `image2disk`: an image over HTTP onto a disk, or onto a partition.
//!
//! Its `COMPRESSED` does not count: whether and how an image is compressed is told by its first
//! bytes. A broken transfer goes on where it broke in any case; `RETRY_ENABLED` has it tried for
//! `RETRY_DURATION_MINUTES`. Progress is told by events, and not by the log that
//! `PROGRESS_INTERVAL_SECONDS` and `TEXT_LOGGING` are about.

use nibs_job::Task;

use super::variables::Variables;
use super::{BadInput, Inputs, image, target};

/// How long a transfer that brings nothing is tried again, if that is asked for; minutes.
const RETRY_MINUTES: u64 = 10;

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let mut variables = Variables::of(inputs);
    let url = variables.required("IMG_URL", "where the image is, such as http://host/os.img.gz")?;
    variables.put("IMG_URL", "image.url", url);
    // As the original reads both: what cannot be read counts as the default.
    if variables.flag("RETRY_ENABLED").unwrap_or(false) {
        let minutes = variables.text("RETRY_DURATION_MINUTES").and_then(|text| text.parse().ok());
        let minutes = minutes.filter(|minutes: &u64| *minutes > 0).unwrap_or(RETRY_MINUTES);
        variables.put("RETRY_DURATION_MINUTES", "image.stall-timeout", format!("{minutes}m"));
    }
    image::image(&mut variables)?;
    let (user, password) = (("IMG_USERNAME", "image.username"), ("IMG_PASSWORD", "image.password"));
    image::credentials(&mut variables, user, password)?;
    variables.copy(&[("IMG_BEARER_TOKEN", "image.bearer-token")]);
    target::disk(&mut variables)?;
    variables.task("stream-image")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::translated;
    use super::*;

    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn task(with: serde_json::Value) -> Result<Task, String> {
        Ok(Task::decode("stream-image", with).unwrap())
    }

    #[test]
    fn the_originals_variables_make_the_same_of_it() {
        let url = "http://10.0.0.1/os.img.gz?token=s3cret";
        let both = [("IMG_URL", url), ("DEST_DISK", "/dev/sda")];
        let with = json!({ "image": { "url": url }, "disk": { "path": "/dev/sda" } });
        for more in [
            &[][..],
            &[("COMPRESSED", "true"), ("TEXT_LOGGING", "false")],
            &[("COMPRESSED", "perhaps"), ("PROGRESS_INTERVAL_SECONDS", "x"), ("IMG_SHA256", "")],
            &[("RETRY_ENABLED", "false"), ("RETRY_DURATION_MINUTES", "3")],
            &[("RETRY_ENABLED", "perhaps")],
        ] {
            assert_eq!(translated(translate, &[&both[..], more].concat()), task(with.clone()));
        }
        for (minutes, stall) in [("3", "3m"), ("", "10m"), ("x", "10m"), ("-1", "10m")] {
            let retry = [("RETRY_ENABLED", "True"), ("RETRY_DURATION_MINUTES", minutes)];
            let image = json!({ "url": url, "stall-timeout": stall });
            let with = json!({ "image": image, "disk": { "path": "/dev/sda" } });
            assert_eq!(translated(translate, &[&both[..], &retry].concat()), task(with));
        }
    }

    #[test]
    fn what_is_ours_is_taken_over() {
        let variables = [
            ("IMG_URL", "https://h/os.img"),
            ("IMG_SHA256", SHA256),
            ("IMG_CONNECTIONS", "4"),
            ("IMG_BMAP", "none"),
            ("VERIFY", "none"),
            ("HTTP_PROXY", "proxy:3128"),
            ("HTTPS_PROXY", "https://proxy:3129"),
            ("NO_PROXY", "10.0.0.0/8"),
            ("IMG_USERNAME", "me"),
            ("IMG_PASSWORD", "hunter2"),
            ("DISK_SERIAL", "S1"),
            ("DISK_MIN_SIZE", "8GiB"),
            ("DISK_PICK", "smallest"),
            ("DISK_RELEASE", "1"),
        ];
        let with = json!({
            "image": {
                "url": "https://h/os.img", "sha256": SHA256, "connections": 4, "bmap": "none",
                "http-proxy": "http://proxy:3128", "https-proxy": "https://proxy:3129",
                "no-proxy": "10.0.0.0/8", "username": "me", "password": "hunter2",
            },
            "disk": { "serial": "S1", "min-size": "8GiB", "pick": "smallest", "release": true },
            "verify": "none",
        });
        assert_eq!(translated(translate, &variables), task(with));
    }

    #[test]
    fn what_cannot_be_is_told_of_the_variable_that_says_it() {
        let disk = ("DEST_DISK", "/dev/sda");
        let url = ("IMG_URL", "http://h/os.img");
        for (variables, says) in [
            (&[disk][..], "IMG_URL is missing: where the image is"),
            (&[disk, ("IMG_URL", "ftp://h/i")], "IMG_URL: scheme \"ftp\" is not known"),
            (&[disk, url, ("IMG_SHA256", "12")], "IMG_SHA256: \"12\" is not a digest of 64"),
            (&[disk, url, ("VERIFY", "maybe")], "VERIFY: name `maybe` is not known"),
            (&[disk, url, ("IMG_CONNECTIONS", "many")], "IMG_CONNECTIONS: expected a number"),
            (&[disk, url, ("IMG_USERNAME", "me")], "IMG_PASSWORD is missing"),
            (&[disk, url, ("IMG_PASSWORD", "hunter2")], "IMG_USERNAME is missing"),
        ] {
            let error = translated(translate, variables).unwrap_err();
            assert!(error.starts_with(says) && !error.contains("hunter2"), "{error}");
        }
        target::check_errors(translate, &[url]);
    }
}
