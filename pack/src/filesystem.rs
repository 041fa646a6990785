//! Filesystems made and filled without mounting them: ext4 by mke2fs, FAT by mkfs.vfat and mtools.
//! Owners are root, times are [`EPOCH`] and identifiers are given, so equal trees give equal bytes.

use std::fmt::Write;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use crate::EPOCH;
use crate::disk::MIB;
use crate::tool::{DEBUGFS, MCOPY, MKE2FS, MKFS_VFAT};

/// Features that GRUB 2.06 cannot read, and that newer versions of mke2fs turn on.
const UNREADABLE_FOR_GRUB: &str = "^metadata_csum_seed,^orphan_file";

/// An ext4 filesystem to make.
#[derive(Debug)]
pub(crate) struct Ext4<'a> {
    pub(crate) mib: u64,
    pub(crate) uuid: Uuid,
    pub(crate) journal: bool,
    /// Options of mke2fs, such as block and inode size.
    pub(crate) options: &'a [&'a str],
}

impl Ext4<'_> {
    /// Makes the filesystem in the new file `image`, filled with the directory `tree`.
    pub(crate) fn make(&self, tree: &Path, image: &Path) -> Result<()> {
        blank(image, self.mib)?;
        let paths = paths_in(tree)?;
        for path in &paths {
            normalise_source(&tree.join(path))?;
        }
        let journal = if self.journal { "has_journal" } else { "^has_journal" };
        let mut command = MKE2FS.command();
        command
            .args(["-q", "-F", "-t", "ext4", "-U", &self.uuid.to_string()])
            .args(["-O", &format!("{journal},{UNREADABLE_FOR_GRUB}")])
            .args(["-E", &format!("hash_seed={},root_owner=0:0", self.uuid)])
            .args(self.options)
            .arg("-d")
            .args([tree, image]);
        MKE2FS.run(&mut command)?;
        normalise_inodes(&paths, image)
    }
}

/// Sets what mke2fs takes from the tree's files and no ordinary user can set there: owner, and
/// the times of change and creation.
fn normalise_inodes(paths: &[PathBuf], image: &Path) -> Result<()> {
    let mut script = String::new();
    for path in paths.iter().map(PathBuf::as_path).chain([Path::new("lost+found")]) {
        for field in
            ["uid 0", "gid 0", "atime_extra 0", "ctime_extra 0", "mtime_extra 0", "crtime_extra 0"]
        {
            writeln!(script, "set_inode_field \"/{}\" {field}", path.display())?;
        }
        for field in ["atime", "ctime", "mtime", "crtime"] {
            writeln!(script, "set_inode_field \"/{}\" {field} @{EPOCH}", path.display())?;
        }
    }
    let file = image.with_extension("debugfs");
    fs::write(&file, script).with_context(|| format!("writing {}", file.display()))?;
    DEBUGFS.run(DEBUGFS.command().args(["-w", "-f"]).args([&file, image]))?;
    Ok(())
}

/// A FAT filesystem of 512-byte sectors to make.
#[derive(Debug)]
pub(crate) struct Fat<'a> {
    pub(crate) mib: u64,
    /// Eight hexadecimal digits.
    pub(crate) volume_id: &'a str,
    pub(crate) label: &'a str,
    /// Options of mkfs.vfat, such as the width of its entries.
    pub(crate) options: &'a [&'a str],
}

impl Fat<'_> {
    /// Makes the filesystem in the new file `image`, filled with the directory `tree`.
    pub(crate) fn make(&self, tree: &Path, image: &Path) -> Result<()> {
        blank(image, self.mib)?;
        for path in paths_in(tree)? {
            normalise_source(&tree.join(path))?;
        }
        let mut command = MKFS_VFAT.command();
        command
            .args(["--invariant", "-S", "512", "-i", self.volume_id, "-n", self.label])
            .args(self.options)
            .arg(image);
        MKFS_VFAT.run(&mut command)?;
        let mut top: Vec<_> = fs::read_dir(tree)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .with_context(|| format!("listing {}", tree.display()))?;
        top.sort();
        MCOPY.run(MCOPY.command().args(["-s", "-m", "-i"]).arg(image).args(top).arg("::/"))?;
        Ok(())
    }
}

fn blank(image: &Path, mib: u64) -> Result<()> {
    File::create_new(image)
        .and_then(|file| file.set_len(mib * MIB))
        .with_context(|| format!("creating {}", image.display()))
}

/// All paths in `tree`, relative to it and sorted; the empty path is the tree itself.
fn paths_in(tree: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = vec![PathBuf::new()];
    let mut next = 0;
    while next < paths.len() {
        let directory = tree.join(&paths[next]);
        if directory.is_dir() {
            let listing = || format!("listing {}", directory.display());
            for entry in fs::read_dir(&directory).with_context(listing)? {
                let path = paths[next].join(entry.with_context(listing)?.file_name());
                let plain = path.to_str().is_some_and(|path| !path.contains(['"', '\n']));
                ensure!(plain, "packing {}: odd characters in its name", path.display());
                paths.push(path);
            }
        }
        next += 1;
    }
    paths.sort();
    Ok(paths)
}

/// Gives `path` the time that all have, and permissions that do not depend on the umask.
fn normalise_source(path: &Path) -> Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH.into());
    let times = FileTimes::new().set_accessed(time).set_modified(time);
    let set = || {
        let file = File::open(path)?;
        let executable = file.metadata()?.permissions().mode() & 0o100 != 0;
        let mode = if executable { 0o755 } else { 0o644 };
        file.set_permissions(Permissions::from_mode(mode))?;
        file.set_times(times)
    };
    set().with_context(|| format!("setting time and mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Tool;

    fn tree(at: &Path) -> PathBuf {
        let tree = at.join("tree");
        fs::create_dir_all(tree.join("sbin")).unwrap();
        fs::create_dir(tree.join("proc")).unwrap();
        fs::write(tree.join("sbin/init"), b"a program").unwrap();
        tree
    }

    fn output(tool: Tool, arguments: &[&str], image: &Path) -> String {
        let mut command = tool.command();
        String::from_utf8(tool.run(command.args(arguments).arg(image)).unwrap()).unwrap()
    }

    #[test]
    fn ext4_is_owned_by_root_readable_for_grub_and_the_same_every_time() {
        let make = || {
            let dir = tempfile::tempdir().unwrap();
            let image = dir.path().join("root.ext4");
            let uuid = Uuid::from_u128(0x1234);
            let filesystem = Ext4 { mib: 8, uuid, journal: false, options: &["-b", "1024"] };
            filesystem.make(&tree(dir.path()), &image).unwrap();
            (fs::read(&image).unwrap(), image, dir)
        };
        let (first, image, _dir) = make();
        let (second, ..) = make();
        assert!(first == second);

        let stat = output(DEBUGFS, &["-R", "stat /sbin/init"], &image);
        assert!(stat.contains("User:     0   Group:     0"), "{stat}");
        assert!(stat.contains("Size: 9"), "{stat}");
        let header = output(DEBUGFS, &["-R", "stats -h"], &image);
        assert!(header.contains("00000000-0000-0000-0000-000000001234"), "{header}");
        assert!(header.contains("Block size:               1024"), "{header}");
        for feature in ["has_journal", "metadata_csum_seed", "orphan_file"] {
            assert!(!header.contains(feature), "{feature} in {header}");
        }
    }

    #[test]
    fn fat_holds_the_tree_and_is_the_same_every_time() {
        let make = || {
            let dir = tempfile::tempdir().unwrap();
            let image = dir.path().join("esp.fat");
            let filesystem = Fat { mib: 5, volume_id: "12345678", label: "ESP", options: &[] };
            filesystem.make(&tree(dir.path()), &image).unwrap();
            (fs::read(&image).unwrap(), image, dir)
        };
        let (first, image, dir) = make();
        let (second, ..) = make();
        assert!(first == second);

        let copy = dir.path().join("copy");
        MCOPY.run(MCOPY.command().arg("-i").arg(&image).arg("::/sbin/init").arg(&copy)).unwrap();
        assert_eq!(fs::read(copy).unwrap(), b"a program");
    }

    #[test]
    fn a_tree_that_does_not_fit_says_what_mke2fs_said() {
        let dir = tempfile::tempdir().unwrap();
        let tree = tree(dir.path());
        fs::write(tree.join("large"), vec![1; 9 << 20]).unwrap();
        let filesystem = Ext4 { mib: 8, uuid: Uuid::nil(), journal: false, options: &[] };
        let error = filesystem.make(&tree, &dir.path().join("image")).unwrap_err().to_string();
        assert!(error.contains("mke2fs"), "{error}");
        assert!(error.contains("Could not allocate block"), "{error}");
    }
}
