//! The images that are installed, made from nothing but this code, so that a result can be
//! reproduced anywhere.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
}

/// An image. Names of files are relative to the directory of the set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Image {
    /// What it is called.
    pub name: String,
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

/// A partition of the image in Bottlerocket's shape, and how much of it is data.
struct Part {
    name: &'static str,
    mib: u64,
    filled_mib: u64,
    content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Compresses as programs do: to about half by lz4.
    Programs,
    /// Does not compress, as hashes do not.
    Random,
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

    let size = (1 + PARTS.iter().map(|part| part.mib).sum::<u64>() + 1) * MIB;
    let file = create("bottlerocket.img", size)?;
    partition(&directory.join("bottlerocket.img"))?;
    let mut offset = MIB;
    for (seed, part) in (1..).zip(&PARTS) {
        fill(&file, offset, part.filled_mib * MIB, part.content, seed)?;
        offset += part.mib * MIB;
    }

    let file = create("random.img", 2048 * MIB)?;
    fill(&file, 0, 2048 * MIB, Content::Random, 99)?;

    create("zeros.img", 4096 * MIB)?;

    let images = Images {
        images: vec![
            pack(directory, "bottlerocket", Format::Lz4)?,
            pack(directory, "bottlerocket", Format::Zstd)?,
            pack(directory, "random", Format::Raw)?,
            pack(directory, "zeros", Format::Lz4)?,
        ],
    };
    let text = serde_json::to_vec_pretty(&images).context("encoding the manifest")?;
    fs::write(directory.join(MANIFEST), text).context("writing the manifest of the images")
}

/// A GPT with [`PARTS`], of fixed identity.
fn partition(image: &Path) -> Result<()> {
    let guid = |number: usize| format!("00000000-0000-4000-8000-{number:012}");
    let mut arguments = vec!["--clear".to_owned(), "--disk-guid".to_owned(), guid(0)];
    for (number, part) in (1..).zip(&PARTS) {
        arguments.extend([
            format!("--new={number}:0:+{}M", part.mib),
            format!("--change-name={number}:{}", part.name),
            format!("--partition-guid={number}:{}", guid(number)),
        ]);
    }
    arguments.push(image.display().to_string());
    run("sgdisk", &arguments).map(drop)
}

fn pack(directory: &Path, stem: &str, format: Format) -> Result<Image> {
    let raw = format!("{stem}.img");
    let from = directory.join(&raw).display().to_string();
    let (suffix, name) = match format {
        Format::Raw => ("", "raw"),
        Format::Lz4 => (".lz4", "lz4"),
        Format::Zstd => (".zst", "zstd"),
    };
    let served = format!("{raw}{suffix}");
    let to = directory.join(&served).display().to_string();
    match format {
        Format::Raw => {}
        Format::Lz4 => drop(run("lz4", &["-q", "-9", "-B7", "-BI", &from, &to])?),
        Format::Zstd => drop(run("zstd", &["-q", "-10", "-T0", &from, "-o", &to])?),
    }
    let bmap = format!("{MAPS}/{raw}.bmap");
    run("bmaptool", &["create", "-o", &directory.join(&bmap).display().to_string(), &from])?;
    let (size, data) = count(&directory.join(&raw))?;
    let path = directory.join(&served);
    let served_size = fs::metadata(&path).context("looking at a packed image")?.len();
    Ok(Image {
        name: format!("{stem}-{name}"),
        format,
        size,
        data,
        raw,
        served,
        served_size,
        served_sha256: sha256(&path)?,
        bmap,
    })
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

fn fill(file: &File, offset: u64, length: u64, content: Content, seed: u64) -> Result<()> {
    let mut random = Random(seed);
    let mut chunk = Vec::new();
    for at in (offset..offset + length).step_by(MIB as usize) {
        chunk.clear();
        match content {
            Content::Programs => random.programs(&mut chunk, MIB as usize),
            Content::Random => random.bytes(&mut chunk, MIB as usize),
        }
        file.write_all_at(&chunk, at).context("filling an image")?;
    }
    Ok(())
}

/// `SplitMix64` (Steele, Lea, Flood 2014): a few lines, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, to: &mut Vec<u8>, length: usize) {
        while to.len() < length {
            to.extend_from_slice(&self.next().to_le_bytes());
        }
        to.truncate(length);
    }

    /// New bytes, some more likely than others, and repetitions of what came before, in the
    /// lengths that lz4 finds in a tree of programs.
    fn programs(&mut self, to: &mut Vec<u8>, length: usize) {
        while to.len() < length {
            for _ in 0..=self.below(20) {
                let word = self.next();
                to.push((word & (word >> 8)) as u8);
            }
            let distance = 1 + self.below(to.len().min(1 << 15));
            let start = to.len() - distance;
            for at in start..start + 4 + self.below(24) {
                to.push(to[at]);
            }
        }
        to.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_the_same_every_time_and_of_the_length_asked_for() {
        let make = |seed| {
            let (mut programs, mut random) = (vec![], vec![]);
            Random(seed).programs(&mut programs, 100_000);
            Random(seed).bytes(&mut random, 100_001);
            (programs, random)
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        assert_eq!((make(1).0.len(), make(1).1.len()), (100_000, 100_001));
    }

    #[test]
    fn only_blocks_with_something_in_them_are_data() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(10 * BLOCK as u64).unwrap();
        file.as_file().write_all_at(&[1], 3 * BLOCK as u64 + 7).unwrap();
        assert_eq!(count(file.path()).unwrap(), (10 * BLOCK as u64, BLOCK as u64));
    }

    #[test]
    fn the_image_in_bottlerockets_shape_has_3_gib() {
        let mib: u64 = PARTS.iter().map(|part| part.mib).sum();
        assert_eq!(mib + 2, 3 * 1024);
        assert!(PARTS.iter().all(|part| part.filled_mib <= part.mib));
    }
}
