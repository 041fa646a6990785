//! Who is measured: Nibs, and what one would use instead.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::images::{Format, Image};
use super::server::Server;

/// A way to get an image onto a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// The engine with its defaults and the digest of the image.
    Nibs,
    /// curl, a decompressor where one is needed, dd.
    Pipe,
    /// bmaptool with the block map.
    BmaptoolMap,
    /// bmaptool without.
    Bmaptool,
    /// `qemu-img`, which reads no compressed image: the raw one from a local file, since its own
    /// HTTP (the curl driver of 10.0) has been seen to wait for ever.
    QemuImg,
    /// dd, which knows no HTTP: the raw image from a local file.
    Dd,
}

/// What a contender has to do.
#[derive(Debug)]
pub struct Job<'a> {
    /// The image.
    pub image: &'a Image,
    /// Where it is served.
    pub server: &'a Server,
    /// Where the raw image is, for those that read a file.
    pub raw: &'a Path,
    /// The agent.
    pub agent: &'a Path,
    /// Where it has to go.
    pub target: &'a Path,
    /// Whether that is a block device.
    pub is_device: bool,
}

impl Contender {
    /// All of them, Nibs first.
    pub const ALL: [Self; 6] =
        [Self::Nibs, Self::Pipe, Self::BmaptoolMap, Self::Bmaptool, Self::QemuImg, Self::Dd];

    /// Whether it reads the raw image from a file, and not from the server.
    pub fn reads_raw_file(self) -> bool {
        matches!(self, Self::QemuImg | Self::Dd)
    }

    /// What the report calls it.
    pub fn name(self, format: Format) -> &'static str {
        match (self, format) {
            (Self::Nibs, _) => "nibs",
            (Self::Pipe, Format::Raw) => "curl, dd",
            (Self::Pipe, Format::Lz4) => "curl, lz4, dd",
            (Self::Pipe, Format::Zstd | Format::ZstdFrames) => "curl, zstd, dd",
            (Self::BmaptoolMap, _) => "bmaptool, bmap",
            (Self::Bmaptool, _) => "bmaptool, no bmap",
            (Self::QemuImg, _) => "qemu-img (raw, local)",
            (Self::Dd, _) => "dd (raw, local)",
        }
    }

    /// Its commands, each one's output the next one's input.
    pub fn commands(self, job: &Job<'_>) -> Result<Vec<Vec<String>>> {
        let url = job.server.url(&job.image.served);
        let map = job.server.url(&job.image.bmap);
        let local = job.raw.display();
        let to = job.target.display();
        let sha256 = &job.image.served_sha256;
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let dd = format!("dd of={to} bs=4M oflag=direct conv=fsync,notrunc");
        Ok(match self {
            Self::Nibs if job.is_device => vec![words(&format!(
                "{} action stream-image --with image.url={url} --with image.sha256={sha256} \
                 --with disk.path={to}",
                job.agent.display()
            ))],
            Self::Nibs => {
                let this = std::env::current_exe().context("finding this program")?;
                let this = this.display();
                vec![words(&format!(
                    "{this} engine write --url {url} --sha256 {sha256} --target {to}"
                ))]
            }
            Self::Pipe => {
                let mut commands = vec![words(&format!("curl -sf {url}"))];
                commands.extend(match job.image.format {
                    Format::Raw => None,
                    Format::Lz4 => Some(words("lz4 -dc")),
                    Format::Zstd | Format::ZstdFrames => Some(words("zstd -dc")),
                });
                commands.push(words(&format!("{dd} iflag=fullblock")));
                commands
            }
            // There is no signature, and where bmaptool looks for one it stumbles over its absence.
            Self::BmaptoolMap => {
                vec![words(&format!("bmaptool copy --no-sig-verify --bmap {map} {url} {to}"))]
            }
            Self::Bmaptool => vec![words(&format!("bmaptool copy --nobmap {url} {to}"))],
            // Without -t none it would leave the writing to the kernel; with -W it is faster.
            Self::QemuImg => {
                vec![words(&format!("qemu-img convert -n -W -t none -f raw -O raw {local} {to}"))]
            }
            Self::Dd => vec![words(&format!("{dd} if={local}"))],
        })
    }
}
