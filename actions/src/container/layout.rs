//! Images that came along: an OCI image layout (OCI Image Specification 1.1, "Image Layout").
//!
//! Images are known by the annotation `org.opencontainers.image.ref.name` of `index.json`, a whole
//! name as Docker writes it, or `io.containerd.image.name`. What is asked for as
//! `127.0.0.1/embedded/NAME`, as HookOS calls images that it carries, may be there as `NAME` too.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use nibs_job::OciVersion;
use nibs_job::params::ImageName;

use super::error::{Error, Result};
use super::image::{Config, Image, Place};
use crate::image::manifest::{Descriptor, Manifest, first_of_this_machine};

const REF_NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];

/// How HookOS names the images that it carries.
const EMBEDDED: &str = "embedded/";

/// The image of this name in the layout, if there is a layout and it is in there.
pub(super) fn find(layout: &Path, name: &ImageName) -> Result<Option<Image>> {
    let wrong =
        |cause: String| Error::Layout { image: name.to_string(), layout: layout.to_owned(), cause };
    let index = match fs::read(layout.join("index.json")) {
        Ok(index) => index,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(format!("reading index.json: {error}"))),
    };
    let index: Manifest = serde_json::from_slice(&index)
        .map_err(|error| wrong(format!("reading index.json: {error}")))?;
    let named: Vec<Descriptor> =
        index.manifests.into_iter().filter(|descriptor| is_meant(descriptor, name)).collect();
    let place = Place::Layout(layout.to_owned());
    let read = |blob: &Descriptor| match place.read(blob) {
        Ok(read) => read.map_err(wrong),
        Err(error) => Err(wrong(error.to_string())),
    };
    let manifest = |blob: &Descriptor| {
        serde_json::from_slice::<Manifest>(&read(blob)?)
            .map_err(|error| wrong(format!("reading manifest {}: {error}", blob.digest)))
    };
    let mut found = match &named[..] {
        [] => return Ok(None),
        [one] => manifest(one)?,
        several => manifest(first_of_this_machine(several).map_err(wrong)?)?,
    };
    if !found.manifests.is_empty() {
        found = manifest(first_of_this_machine(&found.manifests).map_err(wrong)?)?;
    }
    let config = found.config.ok_or_else(|| wrong("its manifest names no configuration".into()))?;
    let config = Config::parse(&read(&config)?).map_err(wrong)?;
    Ok(Some(Image { config, layers: found.layers, place }))
}

fn is_meant(descriptor: &Descriptor, name: &ImageName) -> bool {
    let wanted = &name.reference;
    if let OciVersion::Digest(digest) = &wanted.version {
        return descriptor.digest == format!("sha256:{digest}");
    }
    REF_NAMES.iter().any(|key| {
        let found = descriptor.annotations.get(*key).and_then(|name| name.as_str());
        let Some(found) = found.and_then(|name| name.parse::<ImageName>().ok()) else {
            return false;
        };
        let short = found.reference.repository.strip_prefix("library/");
        let embedded = wanted.registry == "127.0.0.1"
            && short.is_some_and(|name| wanted.repository.strip_prefix(EMBEDDED) == Some(name));
        found.reference == *wanted || (embedded && found.reference.version == wanted.version)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn descriptor(name: &str, digest: &str) -> Descriptor {
        let annotations = json!({ "org.opencontainers.image.ref.name": name });
        serde_json::from_value(json!({ "digest": digest, "size": 1, "annotations": annotations }))
            .unwrap()
    }

    #[test]
    fn an_image_is_known_by_its_whole_name_its_digest_or_as_embedded() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let pinned = format!("quay.io/a/cexec@{digest}");
        for (there, wanted, meant) in [
            ("quay.io/a/cexec:v1", "quay.io/a/cexec:v1", true),
            ("quay.io/a/cexec", "quay.io/a/cexec:latest", true),
            ("quay.io/a/cexec:v1", "quay.io/a/cexec:v2", false),
            ("quay.io/a/cexec:v1", "quay.io/b/cexec:v1", false),
            ("127.0.0.1/embedded/cexec", "127.0.0.1/embedded/cexec", true),
            ("cexec", "127.0.0.1/embedded/cexec", true),
            ("cexec:v2", "127.0.0.1/embedded/cexec", false),
            ("cexec", "quay.io/embedded/cexec", false),
            ("latest", "quay.io/a/cexec", false),
            ("quay.io/a/cexec", "127.0.0.1/cexec", false),
            ("anything", &pinned[..], true),
        ] {
            let wanted = wanted.parse().unwrap();
            assert_eq!(is_meant(&descriptor(there, &digest), &wanted), meant, "{there} {wanted}");
        }
        let other = descriptor("quay.io/a/cexec", &format!("sha256:{}", "cd".repeat(32)));
        assert!(!is_meant(&other, &pinned.parse().unwrap()));
    }

    #[test]
    fn no_layout_has_no_image_and_a_broken_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let name = "quay.io/a/cexec".parse().unwrap();
        assert!(find(directory.path(), &name).unwrap().is_none());
        fs::write(directory.path().join("index.json"), "{}").unwrap();
        assert!(find(directory.path(), &name).unwrap().is_none());
        fs::write(directory.path().join("index.json"), "oops").unwrap();
        let error = find(directory.path(), &name).unwrap_err().to_string();
        assert!(error.contains("quay.io/a/cexec") && error.contains("index.json"), "{error}");
    }
}
