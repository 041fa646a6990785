//! Container images as files: OCI layouts (OCI Image Specification 1.1), and archives that are both
//! a layout and what `docker save` writes.
//!
//! The same input gives the same bytes: entries are in a fixed order, owned by root and dated 0.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Strongest level without a window beyond the 8 MiB that every decoder has to take (RFC 8878).
const ZSTD_LEVEL: i32 = 19;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A tar archive in the making.
pub(crate) struct Archive(Builder<Vec<u8>>);

impl Archive {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(crate) fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        self.append(EntryType::Directory, path, mode, None, &[])
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.append(EntryType::Regular, path, mode, None, bytes)
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.append(EntryType::Symlink, path, 0o777, Some(target), &[])
    }

    fn append(
        &mut self,
        kind: EntryType,
        path: &str,
        mode: u32,
        target: Option<&str>,
        bytes: &[u8],
    ) -> Result<()> {
        let mut pack = || -> std::io::Result<()> {
            let mut header = Header::new_ustar();
            header.set_path(path)?;
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(bytes.len() as u64);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            if let Some(target) = target {
                header.set_link_name(target)?;
            }
            header.set_cksum();
            self.0.append(&header, bytes)
        };
        pack().with_context(|| format!("packing /{path}"))
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        self.0.into_inner().context("closing an archive")
    }
}

/// Bytes that are known by their digest.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    media_type: &'static str,
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    fn json(media_type: &'static str, value: &Value) -> Result<Self> {
        let bytes = serde_json::to_vec(value).context("encoding an image")?;
        Ok(Self { media_type, bytes })
    }

    pub(crate) fn digest(&self) -> String {
        digest(&self.bytes)
    }

    fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len(),
        })
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest().replace(':', "/"))
    }
}

/// A layer of images.
#[derive(Debug)]
pub(crate) struct Layer {
    /// As it is served.
    pub(crate) blob: Blob,
    /// Digest of its archive.
    pub(crate) diff_id: String,
}

impl Layer {
    /// Packs an archive with zstd, as well as that can with a window that every decoder takes.
    pub(crate) fn zstd(archive: &[u8]) -> Result<Self> {
        let bytes = zstd::bulk::compress(archive, ZSTD_LEVEL).context("packing a layer")?;
        Ok(Self { blob: Blob { media_type: ZSTD_LAYER, bytes }, diff_id: digest(archive) })
    }

    /// Packs an archive with gzip, as well as that can.
    pub(crate) fn gzip(archive: &[u8]) -> Result<Self> {
        let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
        let packed = gzip.write_all(archive).and_then(|()| gzip.finish());
        let bytes = packed.context("packing a layer")?;
        Ok(Self { blob: Blob { media_type: GZIP_LAYER, bytes }, diff_id: digest(archive) })
    }
}

/// An image under a name.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    name: String,
    pub(crate) manifest: Blob,
    config: Blob,
    layer: Blob,
}

/// The image of one layer and a configuration, `NAME:TAG`.
pub(crate) fn image(name: &str, config: &Value, layer: &Layer) -> Result<Image> {
    let config = Blob::json(CONFIG, config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(),
        "layers": [layer.blob.descriptor()],
    });
    let manifest = Blob::json(MANIFEST, &manifest)?;
    Ok(Image { name: name.to_owned(), manifest, config, layer: layer.blob.clone() })
}

/// The files of an OCI layout.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    images: Vec<Value>,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Layout {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn add(&mut self, image: Image) {
        let mut described = image.manifest.descriptor();
        described["annotations"] = json!({ REF_NAME: image.name });
        self.images.push(described);
        for blob in [image.manifest, image.config, image.layer] {
            self.blobs.insert(blob.path(), blob.bytes);
        }
    }

    /// All files by their paths.
    pub(crate) fn files(self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = self.blobs;
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": self.images });
        let version = json!({ "imageLayoutVersion": "1.0.0" });
        for (path, value) in [("index.json", index), ("oci-layout", version)] {
            let bytes = serde_json::to_vec(&value).context("encoding a layout")?;
            files.insert(path.to_owned(), bytes);
        }
        Ok(files)
    }
}

/// The archive of one image, for whoever reads an OCI layout and for whoever reads what
/// `docker save` writes: the latter's `manifest.json` names the blobs of the former.
pub(crate) fn archive(image: &Image) -> Result<Vec<u8>> {
    let saved = json!([{
        "Config": image.config.path(),
        "RepoTags": [image.name],
        "Layers": [image.layer.path()],
    }]);
    let mut layout = Layout::new();
    layout.add(image.clone());
    let mut files = layout.files()?;
    let saved = serde_json::to_vec(&saved).context("encoding an archive's manifest")?;
    files.insert("manifest.json".to_owned(), saved);
    let mut archive = Archive::new();
    archive.directory("blobs", 0o755)?;
    archive.directory("blobs/sha256", 0o755)?;
    for (path, bytes) in &files {
        archive.file(path, 0o644, bytes)?;
    }
    archive.finish()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
