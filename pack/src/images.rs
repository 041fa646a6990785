//! Container images of the agent: one for each name under which it does something.
//!
//! All of them have the same one layer: the agent, by its names, and CA roots. They differ in their
//! entry point and in their labels. So a machine holds the agent once.
//!
//! The layer is packed with zstd, which Docker takes since 23.0, containerd since 1.5 and podman since
//! 2.0: with gzip at its best the agent of today would miss the limit. Only `tink-agent` and
//! `tink-worker` have it packed with gzip: CaptainOS takes the program out of their layer by
//! `tar -xzf`, or by a `tar` that would need a `zstd` beside it.
//!
//! ```text
//! out/oci/layout/         an OCI layout with all images, as `skopeo copy oci:…` and /images take it
//! out/oci/NAME.tar        one image, for `docker load`, `podman load` and `skopeo`
//! out/oci/digests.txt     what to pin: NAME@sha256:…
//! out/oci/sha256sums.txt  of the other files, for `sha256sum --check`
//! ```

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::oci::{self, Layout};
use crate::output::Output;

/// The agent itself; what CaptainOS looks for first in an image, in this place, as a regular file.
const PROGRAM: &str = "usr/bin/tink-agent";

/// What the agent is called where an image runs one.
const AGENTS: [&str; 3] = ["nibs", "tink-agent", "tink-worker"];

/// Those whose layer CaptainOS unpacks by itself.
const UNPACKED_BY_TAR: [&str; 2] = ["tink-agent", "tink-worker"];

/// Tinkerbell's actions, which the agent does by these names. Not `waitdaemon`: it acts after the
/// action has ended, which only the agent can, whose action it is.
const ACTIONS: [&str; 12] = [
    "archive2disk",
    "cexec",
    "grub2disk",
    "image2disk",
    "kexec",
    "oci2disk",
    "qemuimg2disk",
    "reboot",
    "rootio",
    "slurp",
    "syslinux",
    "writefile",
];

const CA: &str = "etc/ssl/certs/ca-certificates.crt";

/// What no zstd layer may exceed, in bytes: images are pulled into the memory of machines. Of the gzip
/// layer, which is for CaptainOS alone, nothing is asked.
const LIMIT: u64 = 5 << 20;

/// Writes all images into the directory `out`, which is replaced.
pub fn write(agent: &Path, ca: &Path, out: &Path) -> Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let output = Output::new(out)?;
    let made = output.scratch_dir("images")?;
    build(&read(agent)?, &read(ca)?, &made)?;
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| format!("removing {}", out.display()))?;
    }
    output.finish(&made)
}

fn build(agent: &[u8], ca: &[u8], out: &Path) -> Result<()> {
    let architecture = architecture(agent)?;
    let archive = layer(agent, ca)?;
    let (small, old) = (oci::Layer::zstd(&archive)?, oci::Layer::gzip(&archive)?);
    ensure!(
        small.blob.bytes.len() as u64 <= LIMIT,
        "packing the images: their layer has {} bytes, which is more than {LIMIT}",
        small.blob.bytes.len()
    );
    let mut layout = Layout::new();
    let (mut sums, mut digests) = (String::new(), String::new());
    let mut names: Vec<_> = AGENTS.into_iter().chain(ACTIONS).collect();
    names.sort_unstable();
    for name in names {
        let layer = if UNPACKED_BY_TAR.contains(&name) { &old } else { &small };
        let config = config(name, architecture, layer);
        let image = oci::image(&format!("{name}:latest"), &config, layer)?;
        digests += &format!("{name}@{}\n", image.manifest.digest());
        let archive = oci::archive(&image)?;
        let file = format!("{name}.tar");
        save(&out.join(&file), &archive)?;
        sums += &format!("{}  {file}\n", hex::encode(Sha256::digest(&archive)));
        layout.add(image);
    }
    for (path, bytes) in layout.files()? {
        let file = format!("layout/{path}");
        save(&out.join(&file), &bytes)?;
        sums += &format!("{}  {file}\n", hex::encode(Sha256::digest(&bytes)));
    }
    save(&out.join("digests.txt"), digests.as_bytes())?;
    sums += &format!("{}  digests.txt\n", hex::encode(Sha256::digest(&digests)));
    save(&out.join("sha256sums.txt"), sums.as_bytes())
}

fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// The archive of the one layer. Names are links, not further hard links: LinuxKit unpacks each of
/// those as a file of its own.
fn layer(agent: &[u8], ca: &[u8]) -> Result<Vec<u8>> {
    let mut archive = oci::Archive::new();
    // Each directory before what is in it. The agent mounts over `mnt` and keeps things in `run`.
    for (path, mode) in [
        ("etc", 0o755),
        ("etc/ssl", 0o755),
        ("etc/ssl/certs", 0o755),
        ("mnt", 0o755),
        ("run", 0o755),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("usr/bin", 0o755),
    ] {
        archive.directory(path, mode)?;
    }
    archive.file(CA, 0o644, ca)?;
    archive.file(PROGRAM, 0o755, agent)?;
    for name in AGENTS.into_iter().chain(ACTIONS) {
        archive.link(name, PROGRAM)?;
    }
    archive.link("usr/bin/nibs", "tink-agent")?;
    archive.link("usr/bin/tink-worker", "tink-agent")?;
    archive.finish()
}

/// The configuration of the image of this name (OCI Image Specification 1.1, "Image Configuration").
fn config(name: &str, architecture: &str, layer: &oci::Layer) -> Value {
    let what = match name {
        "nibs" => "installs operating systems on bare machines, from RAM".to_owned(),
        "tink-agent" | "tink-worker" => format!("Nibs in the place of Tinkerbell's {name}"),
        action => format!("Nibs as Tinkerbell's action {action}"),
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": EPOCH,
        "config": {
            "Entrypoint": [format!("/{name}")],
            "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "WorkingDir": "/",
            "Labels": {
                "org.mobyproject.config": linuxkit(name).to_string(),
                "org.opencontainers.image.created": EPOCH,
                "org.opencontainers.image.description": what,
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                "org.opencontainers.image.title": name,
                "org.opencontainers.image.vendor": "the Nibs authors",
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] },
        "history": [{ "created": EPOCH, "created_by": "nibs-pack images" }],
    })
}

/// The same bytes for the same inputs, whenever they are made.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// What LinuxKit gives a service of this image unless its YAML says otherwise (LinuxKit,
/// `src/cmd/linuxkit/moby/config.go`, `ImageConfig`).
fn linuxkit(name: &str) -> Value {
    let mut config = json!({
        "capabilities": ["all"],
        "net": "host",
        // reboot(2) and kexec act on the caller's PID namespace.
        "pid": "host",
        "rootfsPropagation": "shared",
        "oomScoreAdj": -900,
        // /dev would be an empty tmpfs, and /sys one without efivarfs.
        "binds": [
            "/dev:/dev",
            "/sys:/sys",
            "/run:/run",
            "/lib/modules:/lib/modules",
            "/etc/resolv.conf:/etc/resolv.conf",
            "/var/log:/var/log",
        ],
        // A bound /dev is not enough: the device cgroup must let it through.
        "devices": [{ "path": "all", "type": "b" }, { "path": "all", "type": "c" }],
    });
    if name == "nibs" {
        config["command"] = json!(["/nibs", "agent"]);
    }
    config
}

/// What machines the agent is for, in the words of Go, by its ELF header.
fn architecture(agent: &[u8]) -> Result<&'static str> {
    const X86_64: u16 = 62;
    const AARCH64: u16 = 183;
    let machine = match agent {
        [0x7f, b'E', b'L', b'F', ..] => {
            agent.get(18..20).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
        }
        _ => None,
    };
    match machine {
        Some(X86_64) => Ok("amd64"),
        Some(AARCH64) => Ok("arm64"),
        Some(other) => bail!(
            "packing the images: the agent is for ELF machine {other}; expected x86-64 or AArch64"
        ),
        None => bail!("packing the images: the agent is no ELF program"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use super::*;

    /// The start of a program for x86-64, and some bytes.
    fn agent() -> Vec<u8> {
        let mut agent = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0".to_vec();
        agent.extend((0..200_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8));
        agent
    }

    fn built() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        build(&agent(), b"roots", directory.path()).unwrap();
        directory
    }

    fn tree(directory: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut directories = vec![directory.to_owned()];
        while let Some(next) = directories.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
                    files.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        files
    }

    fn json(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn every_name_is_an_image_and_all_share_one_layer_but_for_captains() {
        let files = tree(built().path());
        let index = json(&files["layout/index.json"]);
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        let mut names = Vec::new();
        for described in index["manifests"].as_array().unwrap() {
            let blob = |descriptor: &Value| {
                let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
                let bytes = &files[&format!("layout/blobs/{digest}")];
                assert_eq!(bytes.len(), descriptor["size"]);
                bytes
            };
            let manifest = json(blob(described));
            let config = json(blob(&manifest["config"]));
            let name = described["annotations"]["org.opencontainers.image.ref.name"].as_str();
            let name = name.unwrap().strip_suffix(":latest").unwrap();
            assert_eq!(config["config"]["Entrypoint"], json!([format!("/{name}")]));
            assert_eq!(config["architecture"], "amd64");
            let label = &config["config"]["Labels"]["org.mobyproject.config"];
            let label = json(label.as_str().unwrap().as_bytes());
            assert_eq!(label["pid"], "host");
            assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
            diff_ids.push(config["rootfs"]["diff_ids"][0].clone());
            let kind = manifest["layers"][0]["mediaType"].as_str().unwrap();
            assert_eq!(kind.ends_with("gzip"), UNPACKED_BY_TAR.contains(&name), "{name}");
            layers.push(manifest["layers"][0]["digest"].as_str().unwrap().to_owned());
            names.push(name.to_owned());
        }
        layers.sort_unstable();
        layers.dedup();
        assert_eq!(layers.len(), 2);
        diff_ids.dedup();
        assert_eq!(diff_ids.len(), 1);
        let mut expected: Vec<_> = AGENTS.into_iter().chain(ACTIONS).collect();
        expected.sort_unstable();
        assert_eq!(names, expected);
        assert!(!names.iter().any(|name| name == "waitdaemon"), "it cannot work in another agent");
        assert_eq!(files["digests.txt"].split(|byte| *byte == b'\n').count(), names.len() + 1);
    }

    #[test]
    fn the_layer_has_the_agent_where_captain_looks_and_links_to_it() {
        let tar = layer(&agent(), b"roots").unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let mut seen = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            assert_eq!(header.mtime().unwrap(), 0);
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            let path = entry.path().unwrap().display().to_string();
            seen.insert(path, (header.entry_type(), header.mode().unwrap(), link));
        }
        let (kind, mode, _) = &seen["usr/bin/tink-agent"];
        assert_eq!((*kind, *mode), (tar::EntryType::Regular, 0o755));
        for (name, target) in [("image2disk", "usr/bin/tink-agent"), ("usr/bin/nibs", "tink-agent")]
        {
            assert_eq!(seen[name].0, tar::EntryType::Symlink);
            assert_eq!(seen[name].2.as_deref(), Some(target));
        }
        assert_eq!(seen[CA].1, 0o644);
    }

    #[test]
    fn two_builds_are_byte_identical_and_their_sums_hold() {
        let (one, two) = (built(), built());
        assert_eq!(tree(one.path()), tree(two.path()));
        let check = Command::new("sha256sum")
            .args(["--check", "--status", "--strict", "sha256sums.txt"])
            .current_dir(one.path())
            .status();
        assert!(check.unwrap().success());
        let files = tree(one.path()).len();
        let sums = fs::read_to_string(one.path().join("sha256sums.txt")).unwrap();
        assert_eq!(sums.lines().count(), files - 1);
    }

    #[test]
    fn what_is_no_agent_is_refused() {
        let mut foreign = agent();
        foreign[18] = 8;
        for (bytes, why) in [(&b"#!/bin/sh"[..], "no ELF program"), (&foreign, "ELF machine 8")] {
            let directory = tempfile::tempdir().unwrap();
            let error = build(bytes, b"", directory.path()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
