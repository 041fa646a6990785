//! Manifests of OCI images (OCI Image Specification 1.1, "Image Index" and "Image Manifest"), by
//! their OCI and their Docker names: which of several is for this machine, and what is in it.

use nibs_job::HexDigest;
use serde::Deserialize;

/// The largest manifest that registries have to take, bytes.
pub(crate) const MAX_MANIFEST: usize = 4 << 20;

/// An index or an image: what it has tells which.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    /// Of an index.
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
    /// Of an image.
    pub(crate) config: Option<Descriptor>,
    /// Of an image.
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

/// What a manifest says of something else.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: Option<String>,
    pub(crate) digest: String,
    pub(crate) size: u64,
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

impl Descriptor {
    pub(crate) fn sha256(&self) -> Result<HexDigest<32>, String> {
        let hex = self.digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        hex.ok_or_else(|| format!("expected a sha256 digest, found {:?}", self.digest))
    }
}

/// The manifest of an index that is for this machine.
pub(crate) fn of_this_machine(manifests: &[Descriptor]) -> Result<&Descriptor, String> {
    let wanted = architecture();
    let fits = |found: &&Descriptor| {
        let platform = found.platform.as_ref();
        platform.is_some_and(|found| found.os == "linux" && found.architecture == wanted)
    };
    let mut fitting = manifests.iter().filter(fits);
    match (fitting.next(), fitting.next(), manifests) {
        (Some(one), None, _) => Ok(one),
        (None, _, [only]) if only.platform.is_none() => Ok(only),
        (found, ..) => {
            let count = if found.is_some() { "several manifests" } else { "no manifest" };
            let there = listed(manifests, |manifest| match &manifest.platform {
                Some(Platform { os, architecture }) => format!("{os}/{architecture}"),
                None => "no platform".into(),
            });
            Err(format!("its index has {count} for linux/{wanted}; there is: {there}"))
        }
    }
}

/// Descriptors in words.
pub(crate) fn listed(all: &[Descriptor], show: impl Fn(&Descriptor) -> String) -> String {
    match all {
        [] => "none".into(),
        all => all.iter().map(show).collect::<Vec<_>>().join(", "),
    }
}

/// This machine, in the words of Go, which are those of the specification.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
