//! The files of one folder of the data directory: listing, reading, and writing all or nothing.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nibs_job::FileFormat;
use serde_json::Value;

/// Largest definition that is read, bytes. The agent reads no larger answer.
pub const MAX_DEFINITION: u64 = 6 << 20;

/// Endings of the files that are read.
const ENDINGS: [&str; 4] = ["toml", "yaml", "yml", "json"];

/// A file that may hold a definition, and what changes when its contents do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    is_regular: bool,
    size: u64,
    inode: u64,
    modified: Option<SystemTime>,
    /// Seconds and nanoseconds; it moves even where a tool puts the old modification time back.
    changed: (i64, i64),
}

/// The definitions in `folder`, by name. No folder is an empty one. Hidden files, editors'
/// backups and files with other endings are none of ours.
pub(super) fn list(folder: &Path) -> io::Result<Vec<Candidate>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut candidates = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        let ending = path.extension().and_then(OsStr::to_str);
        if is_hidden || !ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            continue;
        }
        match fs::metadata(&path) {
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {}
            Err(_) => candidates.push(Candidate::unreadable(path)),
            Ok(metadata) => candidates.push(Candidate {
                path,
                is_regular: metadata.is_file(),
                size: metadata.len(),
                inode: metadata.ino(),
                modified: metadata.modified().ok(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            }),
        }
    }
    candidates.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(candidates)
}

impl Candidate {
    fn unreadable(path: PathBuf) -> Self {
        Self { path, is_regular: true, size: 0, inode: 0, modified: None, changed: (0, 0) }
    }

    /// The value tree in the file, or a sentence that quotes nothing of its contents.
    pub(super) fn read(&self) -> Result<Value, String> {
        if !self.is_regular {
            return Err("is not a regular file".into());
        }
        if self.size > MAX_DEFINITION {
            return Err(format!(
                "has {} bytes; at most {MAX_DEFINITION} are read, since no agent takes more",
                self.size
            ));
        }
        let text = fs::read_to_string(&self.path).map_err(|e| format!("reading it: {e}"))?;
        FileFormat::of(&self.path).parse(&text).map_err(|e| e.to_string())
    }
}

/// Puts a file in place so that a reader finds the old one or the new one, also after a crash.
/// It is readable by its owner only: a job may hold secrets.
pub(super) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("it is in no folder"))?;
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(folder: &Path, name: &str, text: &str) -> Candidate {
        fs::write(folder.join(name), text).unwrap();
        list(folder).unwrap().into_iter().find(|c| c.path.ends_with(name)).unwrap()
    }

    #[test]
    fn a_syntax_error_gives_the_line_but_not_what_is_on_it() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.toml", "name = \"x\"\ncontent = \"hunter2\" oops\n"),
            ("b.yaml", "name: x\ncontent: \"hunter2\" oops: [\n"),
            ("c.json", "{\"name\": \"x\",\n\"content\": \"hunter2\" oops}"),
        ] {
            let error = candidate(folder.path(), name, text).read().unwrap_err();
            assert!(error.contains("line 2"), "{name}: {error}");
            assert!(!error.contains("hunter2"), "{name}: {error}");
            assert!(!error.contains('\n'), "{name}: {error}");
        }
    }

    #[test]
    fn what_no_definition_can_be_is_not_listed_and_what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".hidden.toml", "a.toml~", "README.md", "a.toml.swp"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        assert!(list(folder.path()).unwrap().is_empty());
        fs::create_dir(folder.path().join("dir.toml")).unwrap();
        std::os::unix::fs::symlink("/nowhere", folder.path().join("gone.toml")).unwrap();
        let listed = list(folder.path()).unwrap();
        assert_eq!(listed.len(), 2);
        assert!(listed[0].read().unwrap_err().contains("regular file"));
        assert!(listed[1].read().unwrap_err().contains("No such file"));
        assert!(list(&folder.path().join("absent")).unwrap().is_empty());
    }

    #[test]
    fn every_write_changes_what_identifies_the_contents() {
        let folder = tempfile::tempdir().unwrap();
        let before = candidate(folder.path(), "a.toml", "a = 1");
        replace(&folder.path().join("a.toml"), b"a = 2").unwrap();
        let after = list(folder.path()).unwrap();
        assert_ne!(before, after[0]);
        assert_eq!(after.len(), 1, "no temporary file stays behind");
    }
}
