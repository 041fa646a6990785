//! What the lab boots: the files that `build.sh` makes, and what the host must have.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::firmware::Firmware;

/// Names the directory of built files; `build.sh` sets it.
const VARIABLE: &str = "NIBS_OUT";
/// Programs that the lab runs.
const PROGRAMS: [&str; 4] = ["unshare", "ip", "dnsmasq", "qemu-system-x86_64"];

/// The directory of built files.
#[derive(Debug, Clone)]
pub struct Artefacts {
    out: PathBuf,
}

/// A disk image and what its manifest says of it.
#[derive(Debug, Clone)]
pub struct DiskImage {
    /// The compressed image.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

/// The part of an image's manifest that the lab uses.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// Bytes of the compressed image.
    pub size: u64,
    /// SHA-256 of the compressed image, in hex.
    pub sha256: String,
    /// Bytes of the image.
    pub uncompressed_size: u64,
}

impl Artefacts {
    /// Where `NIBS_OUT` says, or in `out/` of the checkout.
    pub fn find() -> Self {
        let out = env::var_os(VARIABLE)
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../out"), PathBuf::from);
        Self { out }
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.out
    }

    /// The static agent.
    pub fn agent(&self) -> PathBuf {
        self.out.join("bin/nibs")
    }

    /// The static control plane.
    pub fn server(&self) -> PathBuf {
        self.out.join("bin/nibs-server")
    }

    /// Kernel, initramfs and their checksums, as served.
    pub fn hook(&self) -> PathBuf {
        self.out.join("hook")
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.hook().join("vmlinuz-x86_64")
    }

    /// The initramfs.
    pub fn initramfs(&self) -> PathBuf {
        self.hook().join("initramfs-x86_64")
    }

    /// The disk image of this file name.
    pub fn image(&self, name: &str) -> Result<DiskImage> {
        let path = self.out.join("images").join(name);
        let manifest = self.out.join("images").join(format!("{name}.json"));
        let text =
            fs::read(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
        let manifest = serde_json::from_slice(&text)
            .with_context(|| format!("reading {}", manifest.display()))?;
        Ok(DiskImage { path, manifest })
    }

    /// Fails unless this host can run a machine that installs the image of this file name; says
    /// all that is missing.
    pub fn check(&self, firmware: &Firmware, image: &str) -> Result<()> {
        let image = self.out.join("images").join(image);
        let files = [self.agent(), self.server(), self.kernel(), self.initramfs(), image];
        let mut missing: Vec<String> = files
            .iter()
            .map(PathBuf::as_path)
            .chain(firmware.files())
            .filter(|file| !file.exists())
            .map(|file| file.display().to_string())
            .collect();
        missing.extend(missing_programs(&PROGRAMS).into_iter().map(str::to_owned));
        if !missing.is_empty() {
            bail!("missing: {} (run `./build.sh test` or `./build.sh demo`)", missing.join(", "));
        }
        Ok(())
    }
}

/// Those of these programs that are not there.
pub fn missing_programs<'a>(programs: &[&'a str]) -> Vec<&'a str> {
    programs.iter().copied().filter(|program| !in_path(program)).collect()
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
