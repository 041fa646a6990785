//! Output files appear whole or not at all: they are made in a scratch directory beside their
//! final place and moved there when complete.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A file in the making, with room for what is needed on the way.
#[derive(Debug)]
pub(crate) struct Output {
    scratch: TempDir,
    target: PathBuf,
}

impl Output {
    /// Prepares to make the file `target`, creating its directory where missing.
    pub(crate) fn new(target: &Path) -> Result<Self> {
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        let scratch = tempfile::Builder::new()
            .prefix(".nibs-pack-")
            .tempdir_in(parent)
            .with_context(|| format!("creating a scratch directory in {}", parent.display()))?;
        Ok(Self { scratch, target: target.to_owned() })
    }

    /// Where the finished file goes.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// A path in the scratch directory, which goes away with this value.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A new empty directory in the scratch directory.
    pub(crate) fn scratch_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.scratch(name);
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(path)
    }

    /// Moves the finished file `made`, which lies in the scratch directory, to the target.
    pub(crate) fn finish(self, made: &Path) -> Result<()> {
        fs::rename(made, &self.target)
            .with_context(|| format!("moving the result to {}", self.target.display()))
    }
}
