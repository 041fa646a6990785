//! What a container image is made of: its configuration (OCI Image Specification 1.1, "Image
//! Configuration"; Docker's has the same names), and its layers.

use std::path::PathBuf;

use bytes::Bytes;
use nibs_job::HexDigest;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::image::manifest::{Descriptor, MAX_MANIFEST};
use crate::image::{self, Fetch, FileSource, Registry, Source};

/// An image that is there to be unpacked.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) config: Config,
    pub(super) layers: Vec<Descriptor>,
    pub(super) place: Place,
}

/// Where the parts of an image are.
#[derive(Debug)]
pub(super) enum Place {
    /// In a registry.
    Registry { registry: Box<Registry>, fetch: Fetch },
    /// In the `blobs` of an OCI layout.
    Layout(PathBuf),
}

/// How an image wants to be run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) entrypoint: Vec<String>,
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<String>,
    pub(super) working_directory: String,
    pub(super) user: String,
}

/// The part of a configuration that counts here; its lists may be `null`.
#[derive(Deserialize)]
struct Document {
    config: Option<Fields>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fields {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

impl Image {
    /// Bytes of its layers as they are served. A manifest may claim anything of each.
    pub(super) fn size(&self) -> u64 {
        self.layers.iter().fold(0, |size, layer| size.saturating_add(layer.size))
    }
}

impl Config {
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(json)
            .map_err(|error| format!("its configuration cannot be read: {error}"))?;
        let Some(fields) = document.config else { return Ok(Self::default()) };
        Ok(Self {
            entrypoint: fields.entrypoint.unwrap_or_default(),
            command: fields.cmd.unwrap_or_default(),
            environment: fields.env.unwrap_or_default(),
            working_directory: fields.working_dir.unwrap_or_default(),
            user: fields.user.unwrap_or_default(),
        })
    }
}

impl Place {
    /// Opens what a manifest names. Its digest is not held against it here.
    pub(super) fn open(&self, blob: &Descriptor) -> image::Result<Box<dyn Source>> {
        match self {
            Self::Registry { registry, fetch } => registry.blob(fetch, blob)?.open(),
            Self::Layout(directory) => {
                Ok(Box::new(FileSource::open(&blob_path(directory, &blob.digest))?))
            }
        }
    }

    /// The last bytes of what a manifest names, if they can be had at once.
    pub(super) fn tail(&self, blob: &Descriptor, length: u64) -> Option<Bytes> {
        let offset = blob.size.checked_sub(length)?;
        match self {
            Self::Registry { registry, fetch } => {
                registry.blob(fetch, blob).ok()?.peek(offset, length)
            }
            Self::Layout(_) => self.open(blob).ok()?.peek(offset, length),
        }
    }

    /// All of something small that a manifest names, proven by its digest. Inner: what is wrong.
    pub(super) fn read(&self, blob: &Descriptor) -> image::Result<Result<Vec<u8>, String>> {
        let expected = match blob.sha256() {
            Ok(expected) => expected,
            Err(cause) => return Ok(Err(cause)),
        };
        let mut source = self.open(blob)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = source.next()? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_MANIFEST {
                return Ok(Err(format!("{} has more than {MAX_MANIFEST} bytes", blob.digest)));
            }
        }
        let found = HexDigest::<32>(Sha256::digest(&bytes).into());
        if found != expected {
            return Ok(Err(format!("expected a blob with sha256 {expected}, found {found}")));
        }
        Ok(Ok(bytes))
    }
}

fn blob_path(layout: &std::path::Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replacen(':', "/", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_all_builders_are_read() {
        let full = r#"{"architecture":"amd64","config":{"User":"1000:1000","Env":["A=b"],
            "Entrypoint":["/a"],"Cmd":["-x"],"WorkingDir":"/w","Labels":null},"rootfs":{}}"#;
        let config = Config::parse(full.as_bytes()).unwrap();
        assert_eq!((&*config.user, &*config.working_directory), ("1000:1000", "/w"));
        assert_eq!((config.entrypoint, config.command), (vec!["/a".into()], vec!["-x".into()]));
        assert_eq!(config.environment, ["A=b"]);
        for bare in [r#"{"config":{"Entrypoint":null,"Cmd":null}}"#, r#"{"config":null}"#, "{}"] {
            assert_eq!(Config::parse(bare.as_bytes()).unwrap(), Config::default());
        }
        let error = Config::parse(b"<html>").unwrap_err();
        assert!(error.contains("its configuration cannot be read"), "{error}");
    }
}
