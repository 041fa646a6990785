//! What the bytes of an image have to hash to.

use nibs_job::HexDigest;
use sha2::{Digest, Sha256, Sha512};

use super::{Error, Result};

/// Which digests some bytes have to have; none of them proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expected {
    /// Their SHA-256.
    pub sha256: Option<HexDigest<32>>,
    /// Their SHA-512.
    pub sha512: Option<HexDigest<64>>,
}

impl Expected {
    /// Whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        self.sha256.is_none() && self.sha512.is_none()
    }
}

/// Looks at bytes as they pass by, and fails if they are not what they should be.
pub(super) trait Check {
    /// Takes the next ones.
    fn update(&mut self, bytes: &[u8]) -> Result<()>;
    /// There are no more.
    fn finish(self) -> Result<()>;
}

/// Hashes bytes, and compares in the end.
#[derive(Debug)]
pub(super) struct Verifier {
    of: &'static str,
    sha256: Option<(HexDigest<32>, Sha256)>,
    sha512: Option<(HexDigest<64>, Sha512)>,
}

impl Verifier {
    /// `of` tells in an error which bytes these are.
    pub(super) fn new(expected: Expected, of: &'static str) -> Self {
        Self {
            of,
            sha256: expected.sha256.map(|digest| (digest, Sha256::new())),
            sha512: expected.sha512.map(|digest| (digest, Sha512::new())),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        if let Some((_, hasher)) = &mut self.sha256 {
            hasher.update(bytes);
        }
        if let Some((_, hasher)) = &mut self.sha512 {
            hasher.update(bytes);
        }
    }

    /// Compares what was expected with what came.
    pub(super) fn finish(self) -> Result<()> {
        if let Some((expected, hasher)) = self.sha256 {
            compare("sha256", self.of, &expected.0, &hasher.finalize())?;
        }
        if let Some((expected, hasher)) = self.sha512 {
            compare("sha512", self.of, &expected.0, &hasher.finalize())?;
        }
        Ok(())
    }
}

impl Check for Verifier {
    fn update(&mut self, bytes: &[u8]) -> Result<()> {
        Self::update(self, bytes);
        Ok(())
    }

    fn finish(self) -> Result<()> {
        Self::finish(self)
    }
}

fn compare(algorithm: &'static str, of: &'static str, expected: &[u8], found: &[u8]) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (hex::encode(expected), hex::encode(found));
    Err(Error::Digest { algorithm, of, expected, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4 example: SHA-256 of "abc".
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn verify(bytes: &[&[u8]]) -> Result<()> {
        let expected = Expected { sha256: Some(ABC.parse().unwrap()), ..Expected::default() };
        let mut verifier = Verifier::new(expected, "bytes as served");
        bytes.iter().for_each(|part| verifier.update(part));
        verifier.finish()
    }

    #[test]
    fn the_right_bytes_pass_in_whatever_parts() {
        verify(&[b"abc"]).unwrap();
        verify(&[b"a", b"", b"bc"]).unwrap();
    }

    #[test]
    fn other_bytes_fail_with_both_digests() {
        let error = verify(&[b"ab"]).unwrap_err().to_string();
        assert!(error.contains(ABC) && error.contains("found fb8e20fc"), "{error}");
        assert!(error.contains("bytes as served"), "{error}");
    }
}
