//! `oci2disk`: a layer in a registry onto a disk, or onto a partition.
//!
//! The layer is the one with a title, or the only one. Its `COMPRESSED`, and the ending of its tag, do
//! not count: whether and how the image is compressed is told by its first bytes. What a registry
//! serves is held against the digest in its manifest.

use nibs_job::Task;

use super::variables::Variables;
use super::{BadInput, Inputs, image, target};

/// What Docker calls its own registry, and where that is.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let mut variables = Variables::of(inputs);
    let reference =
        variables.required("IMG_URL", "which image it is, such as registry/os/ubuntu:v1.gz")?;
    variables.put("IMG_URL", "image.url", location(reference));
    // As the original reads them: one alone counts for nothing.
    let user = variables.text("REGISTRY_USERNAME").zip(variables.text("REGISTRY_PASSWORD"));
    if let Some((username, password)) = user {
        variables.put("REGISTRY_USERNAME", "image.username", username);
        variables.put("REGISTRY_PASSWORD", "image.password", password);
    }
    if variables.flag("SKIP_VERIFY")? {
        variables.put("SKIP_VERIFY", "image.insecure", true);
    }
    image::image(&mut variables)?;
    target::disk(&mut variables)?;
    variables.task("stream-image")
}

/// A reference as containerd takes it, as the URL that we take: TLS for all registries but those on
/// this machine.
fn location(reference: &str) -> String {
    if reference.starts_with("oci://") || reference.starts_with("oci+http://") {
        return reference.to_owned();
    }
    let (registry, rest) = reference.split_once('/').unwrap_or((reference, ""));
    let registry = if registry == DOCKER_HUB.0 { DOCKER_HUB.1 } else { registry };
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let is_here = host == "localhost" || host == "[::1]" || host.starts_with("127.");
    let scheme = if is_here { "oci+http" } else { "oci" };
    format!("{scheme}://{registry}/{rest}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::translated;
    use super::*;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn the_originals_variables_make_the_same_of_it() {
        let by_digest = format!("registry:5000/os/demo@sha256:{DIGEST}");
        for (reference, url) in [
            ("ghcr.io/os/demo:v1.gz", "oci://ghcr.io/os/demo:v1.gz".to_owned()),
            ("docker.io/os/demo:1", "oci://registry-1.docker.io/os/demo:1".to_owned()),
            ("127.0.0.1:5000/demo:1", "oci+http://127.0.0.1:5000/demo:1".to_owned()),
            ("localhost/demo:1", "oci+http://localhost/demo:1".to_owned()),
            ("oci+http://registry/demo:1", "oci+http://registry/demo:1".to_owned()),
            (&by_digest, format!("oci://{by_digest}")),
        ] {
            let made = translated(
                translate,
                &[
                    ("IMG_URL", reference),
                    ("DEST_DISK", "/dev/nvme0n1"),
                    ("COMPRESSED", "true"),
                    ("REGISTRY_USERNAME", "me"),
                    ("REGISTRY_PASSWORD", ""),
                ],
            );
            let with = json!({ "image": { "url": url }, "disk": { "path": "/dev/nvme0n1" } });
            assert_eq!(made, Ok(Task::decode("stream-image", with).unwrap()), "{reference}");
        }
        let made = translated(
            translate,
            &[
                ("IMG_URL", "r.example/demo:1"),
                ("DEST_DISK", "/dev/sda"),
                ("REGISTRY_USERNAME", "me"),
                ("REGISTRY_PASSWORD", "hunter2"),
                ("SKIP_VERIFY", "true"),
                ("IMG_SHA256", DIGEST),
            ],
        );
        let image = json!({
            "url": "oci://r.example/demo:1", "username": "me", "password": "hunter2",
            "insecure": true, "sha256": DIGEST,
        });
        let with = json!({ "image": image, "disk": { "path": "/dev/sda" } });
        assert_eq!(made, Ok(Task::decode("stream-image", with).unwrap()));
    }

    #[test]
    fn what_cannot_be_is_told_of_the_variable_that_says_it() {
        let disk = ("DEST_DISK", "/dev/sda");
        for (variables, says) in [
            (&[disk][..], "IMG_URL is missing: which image"),
            (&[disk, ("IMG_URL", "r.example/demo")], "IMG_URL: neither a tag nor a digest"),
            (&[disk, ("IMG_URL", "r.example/Demo:1")], "IMG_URL: repository \"Demo\""),
            (
                &[disk, ("IMG_URL", "r.example/demo:1"), ("SKIP_VERIFY", "on")],
                "SKIP_VERIFY: expected true or false",
            ),
        ] {
            let error = translated(translate, variables).unwrap_err();
            assert!(error.starts_with(says), "{says}: {error}");
        }
        target::check_errors(translate, &[("IMG_URL", "r.example/demo:1")]);
    }
}
