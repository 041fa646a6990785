//! `checksum.txt` of a release directory: SHA-512 in the form that `sha512sum --check` reads,
//! as HookOS releases have it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::Sha512;

use crate::digest;
use crate::output::Output;

const NAME: &str = "checksum.txt";

/// Writes `checksum.txt` over all regular files in `dir`, sorted by name.
/// Hidden files and the list itself are left out.
pub fn write(dir: &Path) -> Result<()> {
    let mut lines = Vec::new();
    let listing = || format!("listing {}", dir.display());
    for entry in fs::read_dir(dir).with_context(listing)? {
        let entry = entry.with_context(listing)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == NAME || name.starts_with('.') || !entry.path().is_file() {
            continue;
        }
        let (digest, _) = digest::file::<Sha512>(&entry.path())?;
        lines.push((name, hex::encode(digest)));
    }
    lines.sort();
    let text: String = lines.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect();
    let output = Output::new(&dir.join(NAME))?;
    let made = output.scratch(NAME);
    fs::write(&made, text).with_context(|| format!("writing {}", made.display()))?;
    output.finish(&made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn sha512sum_accepts_the_list_and_notices_a_change() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("vmlinuz-x86_64"), b"kernel").unwrap();
        fs::write(dir.path().join("initramfs-x86_64"), b"initramfs").unwrap();
        write(dir.path()).unwrap();
        write(dir.path()).unwrap();
        let list = fs::read_to_string(dir.path().join(NAME)).unwrap();
        let names: Vec<_> = list.lines().map(|line| &line[128..]).collect();
        assert_eq!(names, ["  initramfs-x86_64", "  vmlinuz-x86_64"]);

        let check = || {
            Command::new("sha512sum")
                .args(["--check", "--status", "--strict", NAME])
                .current_dir(dir.path())
                .status()
                .unwrap()
        };
        assert!(check().success());
        fs::write(dir.path().join("vmlinuz-x86_64"), b"kernels").unwrap();
        assert!(!check().success());
    }
}
