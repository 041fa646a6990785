//! Images for tests, in an OCI layout.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nibs_job::HexDigest;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// How a layer is packed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Packed {
    Plain,
    Gzip,
    Zstd,
}

/// A layer in the making.
pub(crate) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(crate) fn entry(mut self, kind: EntryType, path: &str, mode: u32, bytes: &[u8]) -> Self {
        let header = header(kind, path, mode, bytes.len());
        self.0.append(&header, bytes).unwrap();
        self
    }

    pub(crate) fn file(self, path: &str, mode: u32, bytes: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, mode, bytes)
    }

    pub(crate) fn directory(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, 0o755, b"")
    }

    pub(crate) fn link(mut self, kind: EntryType, path: &str, target: &str) -> Self {
        let mut header = header(kind, path, 0o777, 0);
        header.set_link_name_literal(target).unwrap();
        header.set_cksum();
        self.0.append(&header, &b""[..]).unwrap();
        self
    }

    pub(crate) fn owned(mut self, path: &str, mode: u32, uid: u64, gid: u64) -> Self {
        let mut header = header(EntryType::Regular, path, mode, 0);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_cksum();
        self.0.append(&header, &b""[..]).unwrap();
        self
    }

    pub(crate) fn device(mut self, path: &str, major: u32, minor: u32) -> Self {
        let mut header = header(EntryType::Char, path, 0o600, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.0.append(&header, &b""[..]).unwrap();
        self
    }

    /// The next entry has this extended attribute.
    pub(crate) fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        let key = format!("SCHILY.xattr.{name}");
        self.0.append_pax_extensions([(&*key, value)]).unwrap();
        self
    }

    pub(crate) fn bytes(self, packed: Packed) -> Vec<u8> {
        let tar = self.0.into_inner().unwrap();
        match packed {
            Packed::Plain => tar,
            Packed::Gzip => {
                let mut gzip =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(&tar).unwrap();
                gzip.finish().unwrap()
            }
            Packed::Zstd => zstd::encode_all(&tar[..], 1).unwrap(),
        }
    }
}

/// Paths are taken as they are, those that no builder would make among them.
fn header(kind: EntryType, path: &str, mode: u32, length: usize) -> Header {
    let mut header = Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(length as u64);
    header.set_cksum();
    header
}

/// The lowest layer: a shell, and users.
pub(crate) fn shell(busybox: &[u8]) -> Layer {
    let passwd = b"root:x:0:0::/root:/bin/sh\nme:x:1000:1001::/home/me:/bin/sh\n";
    let mut layer = Layer::new()
        .directory("bin")
        .file("bin/busybox", 0o755, busybox)
        .directory("etc")
        .file("etc/passwd", 0o644, passwd)
        .link(EntryType::Symlink, "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
    for applet in
        ["sh", "cat", "ls", "stat", "sleep", "id", "pwd", "env", "touch", "setsid", "true"]
    {
        layer = layer.link(EntryType::Link, &format!("bin/{applet}"), "bin/busybox");
    }
    layer
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", HexDigest::<32>(Sha256::digest(bytes).into()))
}

pub(crate) fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    let media_type = format!("application/vnd.oci.image.{kind}");
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

/// An OCI layout.
pub(crate) struct Layout {
    pub(crate) path: PathBuf,
    manifests: Vec<Value>,
}

impl Layout {
    pub(crate) fn new(path: &Path) -> Self {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { path: path.to_owned(), manifests: Vec::new() }
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> PathBuf {
        let path = self.path.join("blobs").join(digest(bytes).replace(':', "/"));
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Adds an image; `config` is the part of its configuration that says how it is run.
    pub(crate) fn image(&mut self, name: &str, layers: &[Vec<u8>], config: &Value) {
        let diff_ids: Vec<_> = layers.iter().map(|layer| digest(&unpacked(layer))).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        self.blob(&config);
        let mut described = Vec::new();
        for layer in layers {
            self.blob(layer);
            let kind = match layer[..] {
                [0x1f, ..] => "layer.v1.tar+gzip",
                [0x28, 0xb5, ..] => "layer.v1.tar+zstd",
                _ => "layer.v1.tar",
            };
            described.push(descriptor(kind, layer));
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &config), "layers": described,
        });
        self.add(name, manifest.to_string().as_bytes());
    }

    pub(crate) fn add(&mut self, name: &str, manifest: &[u8]) {
        self.blob(manifest);
        let mut described = descriptor("manifest.v1+json", manifest);
        described["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        let annotations = described["annotations"].clone();
        self.manifests.retain(|other| other["annotations"] != annotations);
        self.manifests.push(described);
        let index = json!({ "schemaVersion": 2, "manifests": self.manifests });
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }
}

fn unpacked(layer: &[u8]) -> Vec<u8> {
    match layer {
        [0x1f, ..] => {
            let mut bytes = Vec::new();
            std::io::copy(&mut flate2::read::GzDecoder::new(layer), &mut bytes).unwrap();
            bytes
        }
        [0x28, 0xb5, ..] => zstd::decode_all(layer).unwrap(),
        _ => layer.to_vec(),
    }
}
