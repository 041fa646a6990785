//! An image that is a layer in an OCI registry (OCI Distribution and Image Specification 1.1).
//!
//! Only what leads to the layer is done here: the manifest, the one for this machine's
//! architecture if there are several, and the layer in it. The layer itself is fetched by
//! [`Fetch`] like any other image, with the digest by which its manifest names it.
//!
//! The `oci-client` crate would pull layers too, but by streams that start over when they break.

use std::fmt;
use std::sync::Arc;

use nibs_job::{HexDigest, OciReference, OciVersion};
use sha2::{Digest, Sha256};

use super::manifest::{Choose, Descriptor, MAX_MANIFEST, Manifest, listed, only_of_this_machine};
use super::{Access, Credentials, Error, Fetch, Result, Tokens};

/// What manifests are asked for: an index or a manifest, by their OCI and their Docker names.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
                         application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// The annotation that gives a layer a file name; what a file pushed by `oras` or alike has.
const TITLE: &str = "org.opencontainers.image.title";

/// A registry, and the reference to an image in it.
#[derive(Debug)]
pub struct Registry {
    reference: OciReference,
    access: Access,
}

/// The layer that is the image.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Fetches it, if its digest is held against what comes.
    pub fetch: Fetch,
    /// SHA-256 of the layer as served.
    pub sha256: HexDigest<32>,
    /// Its length, bytes.
    pub size: u64,
}

impl Registry {
    /// `credentials` are shown to the registry, or to the server of its tokens, if it asks.
    pub fn new(reference: OciReference, credentials: Option<Credentials>) -> Self {
        let tokens = Tokens::new(credentials, reference.plain_http);
        Self { reference, access: Access::Registry(Arc::new(tokens)) }
    }

    /// Finds the layer. `fetch` says how requests are made; its URLs do not count.
    pub fn resolve(&self, fetch: &Fetch) -> Result<Layer> {
        let manifest = self.image(fetch, only_of_this_machine)?;
        let layer = self.layer(&manifest.layers)?;
        let sha256 = self.digest(layer)?;
        Ok(Layer { fetch: self.blob(fetch, layer)?, sha256, size: layer.size })
    }

    /// The manifest of the image for this machine, proven if the reference has a digest. `choose`
    /// tells which it is if there are several.
    pub(crate) fn image(&self, fetch: &Fetch, choose: Choose) -> Result<Manifest> {
        let manifest = self.manifest(fetch, &self.reference.version)?;
        if manifest.manifests.is_empty() {
            return Ok(manifest);
        }
        let one = choose(&manifest.manifests).map_err(|cause| self.wrong(cause))?;
        self.manifest(fetch, &OciVersion::Digest(self.digest(one)?))
    }

    /// Fetches what a manifest names, if its digest is held against what comes.
    pub(crate) fn blob(&self, fetch: &Fetch, of: &Descriptor) -> Result<Fetch> {
        let url = format!("{}/blobs/{}", self.reference.api(), of.digest);
        Ok(Fetch { proven_by_digest: true, ..self.at(fetch, &url)? })
    }

    fn at(&self, fetch: &Fetch, url: &str) -> Result<Fetch> {
        let url = url.parse().map_err(|error| self.wrong(format!("{url}: {error}")))?;
        Ok(Fetch { urls: vec![url], access: self.access.clone(), ..fetch.clone() })
    }

    fn manifest(&self, fetch: &Fetch, version: &OciVersion) -> Result<Manifest> {
        let url = format!("{}/manifests/{version}", self.reference.api());
        let fetch = Fetch {
            accept: Some(MANIFESTS),
            connections: 1,
            proven_by_digest: matches!(version, OciVersion::Digest(_)),
            ..self.at(fetch, &url)?
        };
        let mut source = fetch.open()?;
        let mut bytes = Vec::new();
        while let Some(chunk) = source.next()? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_MANIFEST {
                return Err(self.wrong(format!("its manifest has more than {MAX_MANIFEST} bytes")));
            }
        }
        if let OciVersion::Digest(expected) = version {
            let found = HexDigest(Sha256::digest(&bytes).into());
            if found != *expected {
                return Err(self.wrong(format!(
                    "expected a manifest with sha256 {expected}, found one with {found}"
                )));
            }
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| self.wrong(format!("its manifest cannot be read: {error}")))
    }

    fn layer<'a>(&self, layers: &'a [Descriptor]) -> Result<&'a Descriptor> {
        let mut titled = layers.iter().filter(|layer| layer.annotations.contains_key(TITLE));
        match (titled.next(), titled.next(), layers) {
            (Some(one), None, _) | (None, _, [one]) => Ok(one),
            _ => {
                let there = listed(layers, |layer| match layer.annotations.get(TITLE) {
                    Some(title) => format!("{} ({title})", layer.digest),
                    None => layer.digest.clone(),
                });
                Err(self.wrong(format!(
                    "expected one layer, or one with the annotation {TITLE}; found: {there}"
                )))
            }
        }
    }

    fn digest(&self, of: &Descriptor) -> Result<HexDigest<32>> {
        of.sha256().map_err(|cause| self.wrong(cause))
    }

    fn wrong(&self, cause: impl fmt::Display) -> Error {
        Error::Registry { reference: self.reference.to_string(), cause: cause.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::manifest::architecture;
    use super::*;

    fn registry() -> Registry {
        Registry::new("oci://registry.example/os/demo:1".parse().unwrap(), None)
    }

    fn digest() -> impl Strategy<Value = String> {
        prop_oneof!["sha256:[0-9a-f]{64}", "(sha256|sha512)?:?[0-9a-f]{0,70}", ".{0,10}"]
    }

    fn descriptor() -> impl Strategy<Value = Value> {
        let platform = prop::option::of(("(linux|windows)", "(amd64|arm64|s390x)"));
        (digest(), any::<u64>(), platform, any::<bool>()).prop_map(
            |(digest, size, platform, titled)| {
                let platform =
                    platform.map(|(os, architecture)| json!({ "os": os, "architecture": architecture }));
                let annotations = if titled { json!({ TITLE: "os.img" }) } else { json!({}) };
                json!({ "digest": digest, "size": size, "platform": platform, "annotations": annotations })
            },
        )
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_manifest_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[{}\\[\\]\":,a-z0-9]{0,60}") {
            let _ = serde_json::from_slice::<Manifest>(&bytes);
            let _ = serde_json::from_slice::<Manifest>(text.as_bytes());
        }

        #[test]
        fn a_layer_is_chosen_only_where_one_is_meant(
            layers in prop::collection::vec(descriptor(), 0..4),
            manifests in prop::collection::vec(descriptor(), 0..4),
        ) {
            let bytes = json!({ "layers": layers, "manifests": manifests }).to_string();
            let manifest: Manifest = serde_json::from_str(&bytes).unwrap();
            let registry = registry();
            let is_titled = |layer: &&Descriptor| layer.annotations.contains_key(TITLE);
            let titled = manifest.layers.iter().filter(is_titled).count();
            match registry.layer(&manifest.layers) {
                Ok(layer) => {
                    prop_assert!(titled == 1 || (titled == 0 && manifest.layers.len() == 1));
                    prop_assert!(titled == 0 || is_titled(&layer));
                    if let Ok(digest) = registry.digest(layer) {
                        prop_assert_eq!(format!("sha256:{digest}"), layer.digest.to_lowercase());
                    }
                }
                Err(error) => prop_assert!(titled > 1 || manifest.layers.len() != 1, "{}", error),
            }
            if let Ok(one) = only_of_this_machine(&manifest.manifests)
                && let Some(platform) = &one.platform
            {
                prop_assert_eq!(&*platform.architecture, architecture());
            }
        }
    }
}
