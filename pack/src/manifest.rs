//! The manifest beside an image: what a job needs to know to install it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::digest;
use crate::output::Output;

/// Sizes in bytes and digests in lower-case hexadecimal of an image, packed and unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Manifest {
    /// Name of the packed file, without a directory.
    pub file: String,
    /// Size of the packed file.
    pub size: u64,
    /// Digest of the packed file.
    pub sha256: String,
    /// Size of the image: a disk must have at least as much.
    pub uncompressed_size: u64,
    /// Digest of the image.
    pub uncompressed_sha256: String,
}

/// Where the manifest of the image `packed` lies: `.json` is added to the name.
pub fn path_of(packed: &Path) -> PathBuf {
    let mut path = packed.as_os_str().to_owned();
    path.push(".json");
    path.into()
}

/// Finishes `output` with `packed`, made from `image`, and writes the manifest beside it.
pub(crate) fn publish(output: Output, packed: &Path, image: &Path) -> Result<()> {
    let target = output.target().to_owned();
    let name = target.file_name().context("the output has no file name")?;
    let (sha256, size) = digest::file::<Sha256>(packed)?;
    let (uncompressed_sha256, uncompressed_size) = digest::file::<Sha256>(image)?;
    let manifest = Manifest {
        file: name.to_string_lossy().into_owned(),
        size,
        sha256: hex::encode(sha256),
        uncompressed_size,
        uncompressed_sha256: hex::encode(uncompressed_sha256),
    };
    let text = serde_json::to_string_pretty(&manifest).context("encoding a manifest")?;
    output.finish(packed)?;
    let path = path_of(&target);
    fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_the_names_that_the_demo_reads() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("a.img");
        fs::write(&image, b"").unwrap();
        let output = Output::new(&dir.path().join("a.img.lz4")).unwrap();
        let packed = output.scratch("packed");
        fs::write(&packed, b"abc").unwrap();
        publish(output, &packed, &image).unwrap();
        let text = fs::read_to_string(dir.path().join("a.img.lz4.json")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "file": "a.img.lz4",
                "size": 3,
                "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
                "uncompressed-size": 0,
                "uncompressed-sha256":
                    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            })
        );
    }
}
