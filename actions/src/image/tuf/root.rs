//! The trusted root, from which all else follows, and its digest.

use nibs_job::HexDigest;
use sha2::{Digest, Sha512};
use url::Url;

use super::{Fetch, Result, TufError, directory, open, shown};

/// The largest `root.json` that is read, bytes. Those of real repositories have some 10 KiB.
pub(crate) const MAX_ROOT: u64 = 1 << 20;

/// The root with which a repository begins, as files of it are named.
const FIRST_ROOT: &str = "1.root.json";

/// Fetches the trusted root, and proves that it is the one.
pub fn fetch_root(fetch: &Fetch, url: &Url, expected: &HexDigest<64>) -> Result<Vec<u8>> {
    let once = Fetch { proven_by_digest: true, connections: 1, ..fetch.clone() };
    let mut source = open(&once, url)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = source.next()? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > MAX_ROOT {
            return Err(TufError::TooLarge { url: shown(url), limit: MAX_ROOT }.into());
        }
    }
    check_root(&bytes, expected, &shown(url))?;
    Ok(bytes)
}

/// Fetches the root with which a repository began, out of the directory of its metadata.
pub fn fetch_first_root(
    fetch: &Fetch,
    metadata: &Url,
    expected: &HexDigest<64>,
) -> Result<Vec<u8>> {
    let mut url = directory(metadata.clone());
    let path = format!("{}{FIRST_ROOT}", url.path());
    url.set_path(&path);
    fetch_root(fetch, &url, expected)
}

/// Holds the bytes of a trusted root to its digest. `place` says where they are from.
pub fn check_root(bytes: &[u8], expected: &HexDigest<64>, place: &str) -> Result<()> {
    let found = HexDigest(Sha512::digest(bytes).into());
    if found == *expected {
        return Ok(());
    }
    let (place, expected) = (place.to_owned(), *expected);
    Err(TufError::RootDigest { place, expected: Box::new(expected), found: Box::new(found) }.into())
}
