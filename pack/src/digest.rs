//! Digests of files, and identifiers derived from digests.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

const BUFFER: usize = 1 << 20;

/// Digest and length of the file at `path`, read once.
pub(crate) fn file<D: Digest>(path: &Path) -> Result<(Vec<u8>, u64)> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut buffer = vec![0; BUFFER];
    let mut digest = D::new();
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("reading {}", path.display()))?;
        if read == 0 {
            return Ok((digest.finalize().to_vec(), length));
        }
        digest.update(&buffer[..read]);
        length += read as u64;
    }
}

/// Identifiers that look random and are the same for the same inputs.
#[derive(Debug)]
pub(crate) struct Identifiers {
    seed: Vec<u8>,
}

impl Identifiers {
    /// Identifiers for what is made of the files `inputs`.
    pub(crate) fn of_files(inputs: &[&Path]) -> Result<Self> {
        let mut seed = Vec::new();
        for input in inputs {
            seed.extend(file::<Sha256>(input)?.0);
        }
        Ok(Self { seed })
    }

    /// The GUID for `role`, such as the name of a partition.
    pub(crate) fn guid(&self, role: &str) -> Uuid {
        let digest = Sha256::new().chain_update(&self.seed).chain_update(role).finalize();
        let bytes: [u8; 16] = digest[..16].try_into().expect("a SHA-256 has 32 bytes");
        Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// The FAT volume id for `role`, as mkfs.vfat takes it: eight hexadecimal digits.
    pub(crate) fn volume_id(&self, role: &str) -> String {
        hex::encode(&self.guid(role).as_bytes()[..4])
    }
}
