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
    /// Of the architecture, such as amd64's `v2`.
    pub(crate) variant: Option<String>,
}

/// Chooses one of an index's manifests, or says why there is none to choose.
pub(crate) type Choose = fn(&[Descriptor]) -> Result<&Descriptor, String>;

impl Descriptor {
    pub(crate) fn sha256(&self) -> Result<HexDigest<32>, String> {
        let hex = self.digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        hex.ok_or_else(|| format!("expected a sha256 digest, found {:?}", self.digest))
    }
}

/// The only manifest of an index that is for this machine.
pub(crate) fn only_of_this_machine(manifests: &[Descriptor]) -> Result<&Descriptor, String> {
    let mut fitting = manifests.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => without_platform(manifests),
        (Some(_), Some(_)) => Err(wrong("several manifests", manifests)),
    }
}

/// The first manifest of an index whose programs run on any machine of this architecture, else the
/// first that is for it at all. There may be one for newer processors beside it, or one that is
/// compressed otherwise.
pub(crate) fn first_of_this_machine(manifests: &[Descriptor]) -> Result<&Descriptor, String> {
    let is_plain = |found: &&Descriptor| {
        let variant = found.platform.as_ref().and_then(|platform| platform.variant.as_deref());
        match variant {
            None | Some("") => true,
            // What every arm64 is.
            Some(variant) => architecture() == "arm64" && variant == "v8",
        }
    };
    let mut fitting = manifests.iter().filter(fits);
    let plain = fitting.clone().find(is_plain);
    plain.or_else(|| fitting.next()).map_or_else(|| without_platform(manifests), Ok)
}

fn fits(found: &&Descriptor) -> bool {
    let platform = found.platform.as_ref();
    platform.is_some_and(|found| found.os == "linux" && found.architecture == architecture())
}

/// The only manifest, if nothing says what it is for.
fn without_platform(manifests: &[Descriptor]) -> Result<&Descriptor, String> {
    match manifests {
        [only] if only.platform.is_none() => Ok(only),
        _ => Err(wrong("no manifest", manifests)),
    }
}

fn wrong(count: &str, manifests: &[Descriptor]) -> String {
    let there = listed(manifests, |manifest| match &manifest.platform {
        Some(Platform { os, architecture, variant: Some(variant) }) => {
            format!("{os}/{architecture}/{variant}")
        }
        Some(Platform { os, architecture, variant: None }) => format!("{os}/{architecture}"),
        None => "no platform".into(),
    });
    format!("its index has {count} for linux/{}; there is: {there}", architecture())
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The descriptors of platforms, each with its place as its digest.
    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let descriptor = |(place, platform): (usize, &&str)| {
            let parts = platform.replace("OWN", architecture());
            if parts.is_empty() {
                return json!({ "digest": place.to_string(), "size": 1 });
            }
            let mut parts = parts.split('/');
            let platform = json!({
                "os": parts.next(), "architecture": parts.next(), "variant": parts.next(),
            });
            json!({ "digest": place.to_string(), "size": 1, "platform": platform })
        };
        let all = platforms.iter().enumerate().map(descriptor);
        all.map(|descriptor| serde_json::from_value(descriptor).unwrap()).collect()
    }

    #[test]
    fn of_several_for_this_machine_containers_take_the_plainest_and_disks_none() {
        for (platforms, first, only) in [
            (&["linux/s390x", "linux/OWN"][..], Some("1"), Some("1")),
            (&["linux/OWN/v9", "linux/s390x"], Some("0"), Some("0")),
            // As builders push them: for newer processors too, or with gzip and with zstd.
            (&["linux/OWN/v2", "linux/OWN", "linux/OWN/v3"], Some("1"), None),
            (&["linux/OWN/v2", "linux/OWN/v3"], Some("0"), None),
            (&["linux/OWN", "linux/OWN", "unknown/unknown"], Some("0"), None),
            (&[""], Some("0"), Some("0")),
            (&["", ""], None, None),
            (&["windows/OWN", "linux/s390x"], None, None),
            (&[], None, None),
        ] {
            let index = index(platforms);
            let digest = |found: Result<&Descriptor, String>| found.ok().map(|d| d.digest.clone());
            assert_eq!(digest(first_of_this_machine(&index)).as_deref(), first, "{platforms:?}");
            assert_eq!(digest(only_of_this_machine(&index)).as_deref(), only, "{platforms:?}");
        }
        let arm = index(&["linux/OWN/v9", "linux/OWN/v8"]);
        let expected = if architecture() == "arm64" { "1" } else { "0" };
        assert_eq!(first_of_this_machine(&arm).unwrap().digest, expected);
        let own = architecture();
        let error = only_of_this_machine(&index(&["linux/OWN", "linux/OWN/v2"])).unwrap_err();
        let expected = format!(
            "its index has several manifests for linux/{own}; there is: linux/{own}, linux/{own}/v2"
        );
        assert_eq!(error, expected);
    }
}
