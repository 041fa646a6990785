//! The images that are installed, made from nothing but this code, so that a result can be
//! reproduced anywhere.

mod content;
mod frames;

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::content::{Content, fill};
use super::target::Kind;
use crate::process::run;

const MIB: u64 = 1 << 20;
/// The unit in which data counts as data: a page, and what filesystems allocate.
const BLOCK: usize = 4096;
/// Says what the others are; beside them.
const MANIFEST: &str = "images.json";
/// Maps are not beside the images: only a contender that is told of its map uses one.
const MAPS: &str = "maps";

/// A set of images.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Images {
    /// The images.
    pub images: Vec<Image>,
}

/// How an image is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// As it is.
    Raw,
    /// As Bottlerocket serves its own: `lz4 -9`, independent blocks of 4 MiB.
    Lz4,
    /// One frame of `zstd -10`.
    Zstd,
    /// Frames of 4 MiB, at the same level.
    ZstdFrames,
}

/// An image. Names of files are relative to the directory of the set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Image {
    /// What it is called.
    pub name: String,
    /// What it is written to.
    pub on: Vec<Kind>,
    /// How it is served.
    pub format: Format,
    /// Bytes of the image.
    pub size: u64,
    /// Of those, bytes in blocks of 4 KiB that are not all zeros.
    pub data: u64,
    /// The image itself, holes where it is zero.
    pub raw: String,
    /// The image as served.
    pub served: String,
    /// Bytes as served.
    pub served_size: u64,
    /// SHA-256 of the bytes as served, hex.
    pub served_sha256: String,
    /// Its block map.
    pub bmap: String,
}

impl Format {
    /// Whether it can be decoded on several cores.
    pub fn is_parallel(self) -> bool {
        matches!(self, Self::Lz4 | Self::ZstdFrames)
    }
}

/// A partition of the image in Bottlerocket's shape, and how much of it is data.
struct Part {
    name: &'static str,
    mib: u64,
    filled_mib: u64,
    content: Content,
}

/// Names, order and the sizes of the first set are Bottlerocket's; the second set, which an update
/// fills, and DATA are blank, and DATA brings the whole to 3 GiB.
const PARTS: [Part; 13] = {
    const fn part(name: &'static str, mib: u64, filled_mib: u64) -> Part {
        Part { name, mib, filled_mib, content: Content::Programs }
    }
    [
        part("BIOS-BOOT", 4, 1),
        part("EFI-SYSTEM", 5, 2),
        part("BOTTLEROCKET-BOOT-A", 40, 24),
        part("BOTTLEROCKET-ROOT-A", 920, 880),
        Part { name: "BOTTLEROCKET-HASH-A", mib: 10, filled_mib: 8, content: Content::Random },
        part("BOTTLEROCKET-RESERVED-A", 30, 0),
        part("BOTTLEROCKET-BOOT-B", 40, 0),
        part("BOTTLEROCKET-ROOT-B", 920, 0),
        part("BOTTLEROCKET-HASH-B", 10, 0),
        part("BOTTLEROCKET-RESERVED-B", 30, 0),
        part("BOTTLEROCKET-PRIVATE", 24, 0),
        part("BOTTLEROCKET-DATA-A", 1, 0),
        part("BOTTLEROCKET-DATA-B", 1036, 0),
    ]
};

/// Partitions of the image for the virtual machine are smaller by this, for the sake of hosts where
/// it is emulated.
const SMALL: u64 = 6;

/// The level of zstd.
const ZSTD_LEVEL: i32 = 10;

/// Stem of the file, format, and what the image is written to.
struct Pack {
    stem: &'static str,
    format: Format,
    on: &'static [Kind],
}

const PACKS: [Pack; 7] = {
    const fn pack(stem: &'static str, format: Format, on: &'static [Kind]) -> Pack {
        Pack { stem, format, on }
    }
    const HERE: &[Kind] = &[Kind::File, Kind::Loop];
    const VM: &[Kind] = &[Kind::Vm];
    [
        pack("bottlerocket", Format::Lz4, HERE),
        pack("bottlerocket", Format::Zstd, HERE),
        pack("bottlerocket", Format::ZstdFrames, HERE),
        pack("random", Format::Raw, HERE),
        pack("zeros", Format::Lz4, HERE),
        pack("bottlerocket-small", Format::Lz4, VM),
        pack("bottlerocket-small", Format::ZstdFrames, VM),
    ]
};

impl Part {
    /// [`PARTS`], each smaller by `divisor`.
    fn all(divisor: u64) -> Vec<Self> {
        let smaller = |mib: u64| mib.div_ceil(divisor);
        PARTS
            .iter()
            .map(|part| Self {
                mib: smaller(part.mib),
                filled_mib: smaller(part.filled_mib),
                ..*part
            })
            .collect()
    }
}

impl Images {
    /// Reads what [`make`] wrote.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join(MANIFEST);
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
    }
}

/// Makes all images in an empty directory.
pub fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory.join(MAPS)).context("making the directory of images")?;
    let create = |name: &str, size: u64| -> Result<File> {
        let file = File::create_new(directory.join(name))
            .with_context(|| format!("creating the image {name}"))?;
        file.set_len(size).with_context(|| format!("sizing the image {name}"))?;
        Ok(file)
    };

    for (stem, divisor) in [("bottlerocket", 1), ("bottlerocket-small", SMALL)] {
        eprintln!("making {stem}");
        let parts = Part::all(divisor);
        let name = format!("{stem}.img");
        let size = (1 + parts.iter().map(|part| part.mib).sum::<u64>() + 1) * MIB;
        let file = create(&name, size)?;
        partition(&directory.join(&name), &parts)?;
        let mut offset = MIB;
        for (seed, part) in (1..).zip(&parts) {
            fill(&file, offset, part.filled_mib * MIB, part.content, seed)?;
            offset += part.mib * MIB;
        }
    }

    eprintln!("making random and zeros");
    let file = create("random.img", 2048 * MIB)?;
    fill(&file, 0, 2048 * MIB, Content::Random, 99)?;

    create("zeros.img", 4096 * MIB)?;

    let images = PACKS.iter().map(|pack| pack.make(directory)).collect::<Result<_>>()?;
    let images = Images { images };
    let text = serde_json::to_vec_pretty(&images).context("encoding the manifest")?;
    fs::write(directory.join(MANIFEST), text).context("writing the manifest of the images")
}

/// A GPT with these partitions, of fixed identity.
fn partition(image: &Path, parts: &[Part]) -> Result<()> {
    let guid = |number: usize| format!("00000000-0000-4000-8000-{number:012}");
    let mut arguments = vec!["--clear".to_owned(), "--disk-guid".to_owned(), guid(0)];
    for (number, part) in (1..).zip(parts) {
        arguments.extend([
            format!("--new={number}:0:+{}M", part.mib),
            format!("--change-name={number}:{}", part.name),
            format!("--partition-guid={number}:{}", guid(number)),
        ]);
    }
    arguments.push(image.display().to_string());
    run("sgdisk", &arguments).map(drop)
}

impl Pack {
    fn make(&self, directory: &Path) -> Result<Image> {
        let Self { stem, format, on } = *self;
        let raw = format!("{stem}.img");
        let (suffix, name) = match format {
            Format::Raw => ("", "raw"),
            Format::Lz4 => (".lz4", "lz4"),
            Format::Zstd => (".zst", "zstd"),
            Format::ZstdFrames => (".frames.zst", "zstd-frames"),
        };
        let name = format!("{stem}-{name}");
        eprintln!("packing {name}");
        let served = format!("{raw}{suffix}");
        let [from_path, to_path] = [&raw, &served].map(|name| directory.join(name));
        let [from, to] = [&from_path, &to_path].map(|path| path.display().to_string());
        match format {
            Format::Raw => {}
            Format::Lz4 => drop(run("lz4", &["-q", "-9", "-B7", "-BI", &from, &to])?),
            Format::Zstd => {
                let level = format!("-{ZSTD_LEVEL}");
                run("zstd", &["-q", &level, "-T0", &from, "-o", &to]).map(drop)?;
            }
            Format::ZstdFrames => frames::pack(&from_path, &to_path, ZSTD_LEVEL)?,
        }
        let bmap = format!("{MAPS}/{raw}.bmap");
        let map = directory.join(&bmap);
        if !map.exists() {
            run("bmaptool", &["create", "-o", &map.display().to_string(), &from])?;
        }
        let (size, data) = count(&from_path)?;
        let served_size = fs::metadata(&to_path).context("looking at a packed image")?.len();
        Ok(Image {
            name,
            on: on.to_vec(),
            format,
            size,
            data,
            raw,
            served,
            served_size,
            served_sha256: sha256(&to_path)?,
            bmap,
        })
    }
}

/// Bytes of a file, and how many of them are in blocks that are not all zeros.
fn count(path: &Path) -> Result<(u64, u64)> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut reader = BufReader::with_capacity(MIB as usize, file);
    let mut block = [0; BLOCK];
    let (mut size, mut data) = (0, 0);
    loop {
        match reader.read_exact(&mut block) {
            Ok(()) => {}
            // Whole blocks, all of them: that is how they are made.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok((size, data)),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        }
        size += BLOCK as u64;
        data += if block == [0; BLOCK] { 0 } else { BLOCK as u64 };
    }
}

/// SHA-256 of a file, hex.
fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; MIB as usize];
    loop {
        match file.read(&mut chunk).with_context(|| format!("reading {}", path.display()))? {
            0 => return Ok(hex::encode(hasher.finalize())),
            length => hasher.update(&chunk[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn only_blocks_with_something_in_them_are_data() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(10 * BLOCK as u64).unwrap();
        file.as_file().write_all_at(&[1], 3 * BLOCK as u64 + 7).unwrap();
        assert_eq!(count(file.path()).unwrap(), (10 * BLOCK as u64, BLOCK as u64));
    }

    #[test]
    fn the_images_in_bottlerockets_shape_are_of_the_size_that_the_report_tells() {
        let mib = |divisor| Part::all(divisor).iter().map(|part| part.mib).sum::<u64>() + 2;
        let filled = |divisor| Part::all(divisor).iter().map(|part| part.filled_mib).sum::<u64>();
        assert_eq!((mib(1), filled(1)), (3 * 1024, 915));
        assert_eq!((mib(SMALL), filled(SMALL)), (518, 155));
        for divisor in [1, SMALL] {
            assert!(Part::all(divisor).iter().all(|part| part.filled_mib <= part.mib));
        }
    }

    #[test]
    fn every_kind_of_target_has_an_image() {
        let meant_for = |kind| PACKS.iter().filter(|pack| pack.on.contains(&kind)).count();
        assert!(Kind::ALL.into_iter().all(|kind| meant_for(kind) > 0));
    }
}
