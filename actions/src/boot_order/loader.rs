//! Which file on the EFI System Partition starts the installed system.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nibs_job::Class;

use crate::efi::boot_csv;
use crate::mount::{DirectoryEntry, FileError, FileKind, Root};

/// More than any real `BOOT.CSV` has.
const CSV_LIMIT: u64 = 64 << 10;

/// How much of an ESP a listing shows.
const LISTED_DEPTH: usize = 3;
const LISTED_FILES: usize = 20;

/// What a machine's firmware calls its kind, as in `BOOTX64.EFI` (UEFI §3.5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Architecture(pub(super) &'static str);

impl Architecture {
    /// The kind of machine that this program runs on.
    pub(super) const CURRENT: Self =
        if cfg!(target_arch = "aarch64") { Self("AA64") } else { Self("X64") };

    /// The file that firmware starts from a disk it knows nothing of.
    pub(super) fn removable(self) -> String {
        format!(r"\EFI\BOOT\BOOT{}.EFI", self.0)
    }
}

/// The file to start, and what its image says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loader {
    /// Path as it is spelled on the disk, with backslashes.
    pub(super) path: String,
    /// Label, where the image has a word on it.
    pub(super) label: Option<String>,
    /// What the firmware hands to the loader.
    pub(super) optional_data: Vec<u8>,
}

impl Loader {
    /// What has to be copied where, so that the removable path starts this loader: shim needs its
    /// second stage and its key manager beside it. The loader itself is the last.
    pub(super) fn companions(
        &self,
        root: &Root,
        architecture: Architecture,
    ) -> Result<Vec<(String, String)>, FileError> {
        let mut copies = Vec::new();
        let (directory, name) = self.path.rsplit_once('\\').unwrap_or(("", &self.path));
        if name.to_lowercase().starts_with("shim") {
            for stage in ["grub", "mm"] {
                let name = format!("{stage}{}.efi", architecture.0.to_lowercase());
                if let Some(from) = resolve(root, &format!("{directory}\\{name}"))? {
                    copies.push((from, format!(r"\EFI\BOOT\{name}")));
                }
            }
        }
        copies.push((self.path.clone(), architecture.removable()));
        Ok(copies)
    }
}

/// No loader, or too many.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// No such file.
    #[error("looking for a loader on the EFI System Partition: expected {expected}, found {found}")]
    Absent {
        /// The path, or the paths.
        expected: String,
        /// The loaders that are there.
        found: String,
    },
    /// Several vendors have a word on it.
    #[error(
        "looking for a loader on the EFI System Partition: its BOOT.CSV files name several, {}; \
         say which by `loader`", loaders.join(", ")
    )]
    Ambiguous {
        /// The paths.
        loaders: Vec<String>,
    },
    /// The filesystem could not be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl LoaderError {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Absent { .. } | Self::Ambiguous { .. } => Class::InvalidInput,
            Self::File(error) => error.class(),
        }
    }
}

/// Finds the loader: the one asked for, else the image's own word, else the removable path.
pub(super) fn find(
    root: &Root,
    asked: Option<&str>,
    architecture: Architecture,
) -> Result<Loader, LoaderError> {
    let plain = |path| Loader { path, label: None, optional_data: Vec::new() };
    if let Some(asked) = asked {
        let path = resolve(root, asked)?;
        return path.map(plain).ok_or_else(|| absent(root, asked.to_owned()));
    }
    let mut named = from_csv(root, architecture)?;
    if named.len() > 1 {
        let loaders = named.into_iter().map(|loader| loader.path).collect();
        return Err(LoaderError::Ambiguous { loaders });
    }
    if let Some(loader) = named.pop() {
        return Ok(loader);
    }
    let removable = architecture.removable();
    let path = resolve(root, &removable)?;
    path.map(plain).ok_or_else(|| absent(root, format!("a BOOT.CSV or {removable}")))
}

/// The spelling on the disk of `path`, a file wherever its case differs, as FAT has it.
pub(super) fn resolve(root: &Root, path: &str) -> Result<Option<String>, FileError> {
    let parts: Vec<&str> = path.split(['\\', '/']).filter(|part| !part.is_empty()).collect();
    let mut found = PathBuf::from("/");
    for (index, part) in parts.iter().enumerate() {
        let kind = if index + 1 == parts.len() { FileKind::File } else { FileKind::Directory };
        let Some(name) = lookup(&root.list(&found)?, part, kind) else { return Ok(None) };
        found.push(name);
    }
    Ok((!parts.is_empty()).then(|| with_backslashes(&found)))
}

/// The path below the mount for a path with backslashes.
pub(super) fn with_slashes(path: &str) -> PathBuf {
    path.replace('\\', "/").into()
}

fn with_backslashes(path: &Path) -> String {
    path.to_string_lossy().replace('/', "\\")
}

fn lookup(entries: &[DirectoryEntry], name: &str, kind: FileKind) -> Option<PathBuf> {
    let is_it = |entry: &&DirectoryEntry| {
        entry.kind == kind && lower_case(&entry.name) == name.to_lowercase()
    };
    entries.iter().find(is_it).map(|entry| PathBuf::from(&entry.name))
}

fn lower_case(name: &OsStr) -> String {
    name.to_string_lossy().to_lowercase()
}

/// One loader for each vendor whose CSV names one that exists.
fn from_csv(root: &Root, architecture: Architecture) -> Result<Vec<Loader>, FileError> {
    let Some(efi) = lookup(&root.list(Path::new("/"))?, "efi", FileKind::Directory) else {
        return Ok(Vec::new());
    };
    let efi = Path::new("/").join(efi);
    let mut loaders = Vec::new();
    for vendor in root.list(&efi)? {
        // The removable directory has no word of its own on what it is.
        if vendor.kind != FileKind::Directory || lower_case(&vendor.name) == "boot" {
            continue;
        }
        let directory = efi.join(&vendor.name);
        let entries = root.list(&directory)?;
        let names = [format!("boot{}.csv", architecture.0), "boot.csv".to_owned()];
        let Some(csv) = names.iter().find_map(|name| lookup(&entries, name, FileKind::File)) else {
            continue;
        };
        for line in boot_csv::parse(&root.read(&directory.join(csv), CSV_LIMIT)?) {
            let named =
                with_backslashes(&directory.join(line.loader.trim_start_matches(['\\', '/'])));
            if let Some(path) = resolve(root, &named)? {
                let (optional_data, label) = (line.optional_data(), Some(line.label));
                loaders.push(Loader { path, label, optional_data });
                break;
            }
        }
    }
    Ok(loaders)
}

fn absent(root: &Root, expected: String) -> LoaderError {
    let mut files = Vec::new();
    collect(root, Path::new("/"), LISTED_DEPTH, &mut files);
    let found = if files.is_empty() { "no .efi file".to_owned() } else { files.join(", ") };
    LoaderError::Absent { expected, found }
}

/// For an error message: what cannot be read is left out.
fn collect(root: &Root, directory: &Path, depth: usize, files: &mut Vec<String>) {
    for entry in root.list(directory).unwrap_or_default() {
        let path = directory.join(&entry.name);
        match entry.kind {
            FileKind::Directory if depth > 0 => collect(root, &path, depth - 1, files),
            FileKind::File
                if files.len() < LISTED_FILES && lower_case(&entry.name).ends_with(".efi") =>
            {
                files.push(with_backslashes(&path));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const X64: Architecture = Architecture("X64");
    const DEBIAN: &str = "shimx64.efi,debian,,This is the boot entry for debian\n";

    fn esp(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let utf16: Vec<u8> = content.encode_utf16().flat_map(u16::to_le_bytes).collect();
            fs::write(path, utf16).unwrap();
        }
        let root = Root::open(directory.path(), false).unwrap();
        (directory, root)
    }

    #[test]
    fn the_images_own_word_goes_before_the_removable_path() {
        let (_esp, root) = esp(&[
            ("EFI/BOOT/BOOTX64.EFI", ""),
            ("EFI/debian/BOOTX64.CSV", DEBIAN),
            ("EFI/debian/shimx64.efi", ""),
        ]);
        let loader = find(&root, None, X64).unwrap();
        assert_eq!(loader.path, r"\EFI\debian\shimx64.efi");
        assert_eq!(loader.label.as_deref(), Some("debian"));
    }

    #[test]
    fn a_csv_whose_loader_is_not_there_does_not_count() {
        let (_esp, root) = esp(&[("efi/boot/bootx64.efi", ""), ("efi/debian/bootx64.csv", DEBIAN)]);
        let loader = find(&root, None, X64).unwrap();
        assert_eq!((&*loader.path, loader.label), (r"\efi\boot\bootx64.efi", None));
    }

    #[test]
    fn two_vendors_words_are_ambiguous_until_the_job_says_which() {
        let (_esp, root) = esp(&[
            ("EFI/debian/BOOTX64.CSV", DEBIAN),
            ("EFI/debian/shimx64.efi", ""),
            ("EFI/fedora/BOOT.CSV", "SHIMX64.EFI,Fedora,,\n"),
            ("EFI/fedora/shimx64.efi", ""),
        ]);
        let error = find(&root, None, X64).unwrap_err().to_string();
        assert!(error.contains(r"\EFI\debian\shimx64.efi, \EFI\fedora\shimx64.efi"), "{error}");
        let asked = find(&root, Some(r"\efi\FEDORA\ShimX64.efi"), X64).unwrap();
        assert_eq!(asked.path, r"\EFI\fedora\shimx64.efi");
    }

    #[test]
    fn a_loader_that_is_not_there_is_an_error_that_lists_those_that_are() {
        let (_esp, root) = esp(&[("EFI/debian/grubx64.efi", ""), ("EFI/debian/grub.cfg", "")]);
        let error = find(&root, Some(r"\EFI\debian\shimx64.efi"), X64).unwrap_err().to_string();
        assert!(error.ends_with(r"found \EFI\debian\grubx64.efi"), "{error}");
        let (_esp, root) = esp(&[]);
        let error = find(&root, None, X64).unwrap_err().to_string();
        assert!(error.contains(r"\EFI\BOOT\BOOTX64.EFI, found no .efi file"), "{error}");
    }
}
