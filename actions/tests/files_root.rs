//! Files in a tree that nobody trusts; needs no root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nibs_actions::mount::{FileError, NewFile, Root};
use nibs_job::Class;

/// Where a killed run leaves its unfinished file.
const TEMPORARY: &str = ".nibs-new-file";

/// A directory with the tree in it and, beside the tree, something to escape to.
struct Tree {
    directory: tempfile::TempDir,
    root: Root,
}

impl Tree {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::create_dir(directory.path().join("tree")).unwrap();
        let root = Root::open(&directory.path().join("tree"), true).unwrap();
        Self { directory, root }
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.directory.path().join("tree").join(below)
    }

    fn write(&self, path: &str, content: &[u8]) -> Result<(), FileError> {
        let file = new_file(path, content);
        self.root.write(&file)?;
        self.root.verify(&file)
    }

    fn outside_is_empty(&self) -> bool {
        fs::read_dir(self.directory.path().join("outside")).unwrap().next().is_none()
    }
}

fn new_file<'a>(path: &'a str, content: &'a [u8]) -> NewFile<'a> {
    NewFile {
        path: Path::new(path),
        content,
        mode: 0o640,
        directory_mode: 0o710,
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
    }
}

#[test]
fn a_file_comes_with_its_directories_and_modes() {
    let tree = Tree::new();
    tree.write("/a/b/c", b"one").unwrap();
    let mode = |path| tree.path(path).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("a"), mode("a/b"), mode("a/b/c")), (0o710, 0o710, 0o640));
    assert_eq!(fs::read(tree.path("a/b/c")).unwrap(), b"one");
}

#[test]
fn an_existing_file_is_replaced_whole_and_again() {
    let tree = Tree::new();
    fs::create_dir(tree.path("etc")).unwrap();
    fs::set_permissions(tree.path("etc"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.path("etc/hostname"), "a longer content than the new one").unwrap();
    for _ in 0..2 {
        tree.write("/etc/hostname", b"node").unwrap();
        assert_eq!(fs::read(tree.path("etc/hostname")).unwrap(), b"node");
        assert_eq!(fs::read_dir(tree.path("etc")).unwrap().count(), 1);
        assert_eq!(tree.path("etc").metadata().unwrap().mode() & 0o7777, 0o755, "not ours to set");
    }
}

#[test]
fn no_link_leads_out() {
    let tree = Tree::new();
    let outside = tree.directory.path().join("outside");
    symlink(&outside, tree.path("absolute")).unwrap();
    symlink("../../../../../../../../../..", tree.path("up")).unwrap();
    symlink("../outside", tree.path("beside")).unwrap();
    symlink("/proc/self/cwd", tree.path("magic")).unwrap();
    for link in ["absolute", "beside", "magic"] {
        let error = tree.write(&format!("/{link}/file"), b"x").unwrap_err();
        assert!(matches!(error, FileError::DanglingLink { .. }), "{error}");
        assert_eq!(error.class(), Class::InvalidInput);
    }
    tree.write("/up/file", b"x").unwrap();
    assert!(tree.path("file").exists(), "the root is its own parent");
    assert!(tree.outside_is_empty());
}

#[test]
fn a_link_inside_the_tree_is_followed_on_the_way_but_replaced_at_the_end() {
    let tree = Tree::new();
    fs::create_dir(tree.path("real")).unwrap();
    symlink("/real", tree.path("link")).unwrap();
    tree.write("/link/file", b"x").unwrap();
    assert!(tree.path("real/file").exists());
    symlink(tree.directory.path().join("outside/file"), tree.path("last")).unwrap();
    tree.write("/last", b"x").unwrap();
    assert!(tree.path("last").symlink_metadata().unwrap().is_file());
    assert!(tree.outside_is_empty());
}

#[test]
fn what_stands_in_the_way_is_named() {
    let tree = Tree::new();
    fs::write(tree.path("file"), "old").unwrap();
    fs::create_dir(tree.path("directory")).unwrap();
    nix::unistd::mkfifo(&tree.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let refused = |path| {
        let error = tree.write(path, b"x").unwrap_err();
        assert_eq!(error.class(), Class::InvalidInput);
        error.to_string()
    };
    assert_eq!(refused("/file/below"), "writing /file/below: /file is no directory");
    assert!(refused("/directory").contains("a directory is there"));
    assert!(refused("/pipe").contains("a special file is there"));
    assert!(refused("/pipe/below").contains("/pipe is no directory"));
    assert_eq!(fs::read(tree.path("file")).unwrap(), b"old");
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    let tree = Tree::new();
    fs::write(tree.path(TEMPORARY), "half").unwrap();
    fs::write(tree.path("file"), "old").unwrap();
    tree.write("/file", b"new").unwrap();
    assert!(!tree.path(TEMPORARY).exists());
    symlink(tree.directory.path().join("outside/file"), tree.path(TEMPORARY)).unwrap();
    tree.write("/file", b"newer").unwrap();
    assert!(tree.outside_is_empty());
    assert_eq!(fs::read_dir(tree.path("")).unwrap().count(), 1);
}

#[test]
fn a_file_that_is_not_as_written_is_found_out() {
    let tree = Tree::new();
    tree.write("/file", b"secret").unwrap();
    let verify = |content: &[u8]| tree.root.verify(&new_file("/file", content));
    let differs = |content| verify(content).unwrap_err().to_string();
    assert!(differs(b"secreT").contains("bytes on the disk differ"));
    assert!(differs(b"more secret").contains("lengths"));
    fs::set_permissions(tree.path("file"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(differs(b"secret").contains("permissions"));
    fs::remove_file(tree.path("file")).unwrap();
    assert!(matches!(verify(b"secret"), Err(FileError::Io { .. })));
    assert!(!format!("{:?}", new_file("/file", b"secret")).contains("115"));
}
