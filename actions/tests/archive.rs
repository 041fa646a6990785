//! `extract-archive` onto loop devices, with archives made by GNU tar and by hand. Needs root, loop
//! devices, mkfs.ext4 and tar; skips without.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use nibs_actions::{Context, Done, Error, Machine, Sink, Stop, http};
use nibs_job::{Class, LogLevel, Progress, Task};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl Sink for Lines {
    fn progress(&self, _: Progress) {}
    fn reset(&self, _: String) {}
    fn warning(&self, message: String) {
        self.0.lock().unwrap().push(message);
    }
    fn log(&self, _: LogLevel, message: String) {
        self.0.lock().unwrap().push(message);
    }
}

/// A filesystem on a loop device, gone with the value.
struct Bench {
    device: PathBuf,
    lines: Arc<Lines>,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
            eprintln!("skipped: needs root and loop devices");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("disk");
        fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
        let made = run("mkfs.ext4", &["-q", "-F", file.to_str()?]);
        let made = made.and_then(|_| run("losetup", &["--find", "--show", file.to_str()?]));
        let Some(device) = made else {
            eprintln!("skipped: needs mkfs.ext4 and losetup");
            return None;
        };
        let device = String::from_utf8(device).unwrap().trim().into();
        Some(Self { device, lines: Arc::default(), directory })
    }

    fn extract(&self, archive: &Value) -> Result<Done, Error> {
        let partition = json!({ "path": self.device });
        let with = json!({ "archive": archive, "partition": partition, "path": "/a/root" });
        let task = Task::decode("extract-archive", with).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let context = Context {
            machine: Machine::default(),
            stop: Stop::default(),
            sink: self.lines.clone(),
            runtime: runtime.handle().clone(),
            http: http::Options::default(),
            installed_disk: None,
        };
        nibs_actions::run(&task, &context)
    }

    fn extract_bytes(&self, archive: &[u8]) -> Result<Done, Error> {
        let file = self.directory.path().join("archive");
        fs::write(&file, archive).unwrap();
        self.extract(&json!({ "url": file }))
    }

    /// Looks at what is on the disk, from the root of the filesystem: where no other test's mounts are
    /// copied from.
    fn look<T: Send>(&self, look: impl FnOnce(&Path) -> T + Send) -> T {
        let place = self.directory.path().join("mounted");
        fs::create_dir_all(&place).unwrap();
        let (device, at) = (self.device.to_str().unwrap(), place.to_str().unwrap());
        let looked = std::thread::scope(|scope| {
            let seen = scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                run("mount", &["--make-rprivate", "/"]).expect("mounts of its own");
                run("mount", &["-o", "ro", device, at]).expect("a filesystem that can be mounted");
                let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&place)));
                run("umount", &[at]).expect("nothing that keeps it");
                seen
            });
            seen.join().unwrap()
        });
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// Output of a program that is pleased.
fn run(program: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new(program).args(arguments).output().ok()?;
    if !output.status.success() {
        eprintln!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success().then_some(output.stdout)
}

/// A directory as an archive of all that there is to know of it.
fn packed(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let directory = directory.to_str().unwrap();
    let common = ["--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*"];
    let all = [&common[..], arguments, &["-C", directory, "-cf", "-", "."]].concat();
    run("tar", &all).expect("GNU tar")
}

const COMPLETE: &[&str] = &["--format=posix", "--pax-option=delete=atime,delete=ctime"];

/// One of each kind.
fn make_tree(root: &Path) {
    let file = |name: &str, content: &[u8], mode: u32| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        std::os::unix::fs::chown(&path, Some(1000), Some(2000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    file("usr/bin/tool", &[7; 300_000], 0o4755);
    file("etc/empty", b"", 0o600);
    file(&format!("{}/end", "a-long-name/".repeat(25)), b"far down", 0o644);
    fs::hard_link(root.join("usr/bin/tool"), root.join("etc/same")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("/etc/empty", root.join("etc/absolute")).unwrap();
    symlink(format!("/{}", "x".repeat(200)), root.join("etc/long-link")).unwrap();
    let at = |name: &str| root.join(name).to_str().unwrap().to_owned();
    run("mkfifo", &["-m", "620", &at("fifo")]).unwrap();
    run("mknod", &["-m", "640", &at("null"), "c", "1", "3"]).unwrap();
    run("mknod", &[&at("block"), "b", "7", "200"]).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    for offset in [1 << 20, 3 << 20] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[9; 5000], offset).unwrap();
    }
    sparse.set_len(8 << 20).unwrap();
    // A line break in an attribute, as in many a file capability.
    if run("setfattr", &["-n", "user.note", "-v", "0x610a620a", &at("etc/empty")]).is_none() {
        eprintln!("without extended attributes: setfattr sets none here");
    }
    fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o1555)).unwrap();
    run("touch", &["-h", "-d", "2001-02-03 04:05:06.789", &at("etc/absolute")]).unwrap();
    run("touch", &["-d", "1999-12-31 23:59:59.5", &at("etc")]).unwrap();
}

#[test]
fn all_that_goes_into_an_archive_comes_out_again() {
    let Some(bench) = Bench::new() else { return };
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let expected = packed(tree.path(), COMPLETE);
    let posix = [COMPLETE, &["--sparse"]].concat();
    for (arguments, ends_whole) in [
        (COMPLETE.to_vec(), true),
        (posix, true),
        (vec!["--format=posix", "--sparse", "--sparse-version=0.1"], true),
        (vec!["--format=posix", "--sparse", "--sparse-version=0.0", "--gzip"], true),
        // Without fractions of seconds, and attributes.
        (vec!["--format=gnu", "--sparse", "--no-xattrs"], false),
    ] {
        bench.extract_bytes(&packed(tree.path(), &arguments)).unwrap();
        bench.look(|root| {
            let root = root.join("a/root");
            let found = packed(&root, COMPLETE);
            assert!(!ends_whole || found == expected, "{arguments:?}");
            let tool = fs::symlink_metadata(root.join("usr/bin/tool")).unwrap();
            assert_eq!((tool.uid(), tool.gid(), tool.nlink()), (1000, 2000, 2));
            assert_eq!(tool.mode() & 0o7777, 0o4755);
            let sparse = fs::metadata(root.join("sparse")).unwrap();
            assert_eq!(sparse.len(), 8 << 20);
            assert!(sparse.blocks() * 512 < 1 << 20, "{arguments:?}: {} blocks", sparse.blocks());
            assert!(
                fs::read(root.join("sparse")).unwrap()
                    == fs::read(tree.path().join("sparse")).unwrap()
            );
        });
    }
    let lines = bench.lines.0.lock().unwrap().join("\n");
    assert!(lines.contains("nothing proves"), "{lines}");
}

#[test]
fn every_compression_is_told_by_its_magic_and_its_digest_is_of_what_is_served() {
    let Some(bench) = Bench::new() else { return };
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("file"), vec![7; 200_000]).unwrap();
    let plain = packed(tree.path(), COMPLETE);
    let file = bench.directory.path().join("served");
    for program in ["cat", "gzip", "xz", "zstd", "bzip2", "lz4"] {
        let input = bench.directory.path().join("plain");
        fs::write(&input, &plain).unwrap();
        let arguments: &[&str] = if program == "cat" { &[] } else { &["-c"] };
        let all = [arguments, &[input.to_str().unwrap()]].concat();
        let Some(mut served) = run(program, &all) else {
            eprintln!("skipped: needs {program}");
            continue;
        };
        if program == "lz4" {
            // Two frames, one after the other.
            served.extend(run("lz4", &["-c", "/dev/null"]).unwrap());
        }
        fs::write(&file, &served).unwrap();
        let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        let right = json!({
            "url": file, "sha256": digest(&served), "uncompressed-sha256": digest(&plain),
        });
        bench.extract(&right).unwrap();
        bench.look(|root| assert!(fs::read(root.join("a/root/file")).unwrap() == [7; 200_000]));
        for key in ["sha256", "uncompressed-sha256"] {
            let error = bench.extract(&json!({ "url": file, key: digest(b"other") })).unwrap_err();
            assert_eq!(error.class(), Class::InvalidInput, "{error}");
            let error = error.to_string();
            assert!(error.contains("expected sha256") && error.contains("found"), "{error}");
        }
        // Cut where the file ends, and where the archive would still look whole.
        for length in [served.len() / 2, served.len() - 1] {
            fs::write(&file, &served[..length]).unwrap();
            let cut = bench.extract(&json!({ "url": file }));
            if program == "cat" && length == served.len() - 1 {
                cut.unwrap();
                continue;
            }
            let error = cut.unwrap_err().to_string();
            assert!(error.contains("cut") || error.contains("decoding"), "{program}: {error}");
        }
    }
}

fn member(
    builder: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: EntryType,
    link: &str,
    data: &[u8],
) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    // As they are: the builder itself refuses such names.
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    builder.append(&header, data).unwrap();
}

#[test]
fn nothing_in_an_archive_gets_out_of_its_directory() {
    let Some(bench) = Bench::new() else { return };
    let mut builder = tar::Builder::new(Vec::new());
    member(&mut builder, "/etc/absolute", EntryType::Regular, "", b"1");
    member(&mut builder, "up", EntryType::Symlink, "../../..", b"");
    member(&mut builder, "up/escaped", EntryType::Regular, "", b"2");
    member(&mut builder, "slash", EntryType::Symlink, "/", b"");
    member(&mut builder, "slash/escaped-too", EntryType::Regular, "", b"3");
    member(&mut builder, "tmp", EntryType::Symlink, "/tmp", b"");
    member(&mut builder, "file", EntryType::Symlink, "/a/victim", b"");
    member(&mut builder, "file", EntryType::Regular, "", b"4");
    bench.extract_bytes(&builder.into_inner().unwrap()).unwrap();
    bench.look(|root| {
        let mut there: Vec<_> =
            fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        there.sort();
        assert_eq!(there, ["a", "lost+found"]);
        assert_eq!(fs::read_dir(root.join("a")).unwrap().count(), 1);
        let root = root.join("a/root");
        for (name, content) in
            [("etc/absolute", "1"), ("escaped", "2"), ("escaped-too", "3"), ("file", "4")]
        {
            assert_eq!(fs::read_to_string(root.join(name)).unwrap(), content, "{name}");
        }
    });
    for (name, kind, link, says) in [
        ("../evil", EntryType::Regular, "", "leads out of the archive"),
        ("a/../../evil", EntryType::Directory, "", "leads out of the archive"),
        ("evil", EntryType::Link, "../../victim", "leads out of the archive"),
        ("evil", EntryType::Link, "/a/victim", "hard link to \"/a/victim\", which is not there"),
        ("evil", EntryType::new(b'M'), "", "of a type that is not known"),
    ] {
        let mut builder = tar::Builder::new(Vec::new());
        member(&mut builder, name, kind, link, b"");
        let error = bench.extract_bytes(&builder.into_inner().unwrap()).unwrap_err().to_string();
        assert!(error.contains(says), "{name}: {error}");
    }
    bench.look(|root| {
        assert!(!root.join("evil").exists() && !root.join("a/root/evil").exists());
    });
    // What leads out leads nowhere, and yields to a directory.
    let mut builder = tar::Builder::new(Vec::new());
    member(&mut builder, "tmp/evil", EntryType::Regular, "", b"5");
    bench.extract_bytes(&builder.into_inner().unwrap()).unwrap();
    bench.look(|root| {
        assert_eq!(fs::read_to_string(root.join("a/root/tmp/evil")).unwrap(), "5");
        assert!(!root.join("tmp").exists());
    });
    assert!(!Path::new("/tmp/evil").exists());
}

#[test]
fn what_is_in_the_way_is_replaced_save_for_directories_and_links_to_them() {
    let Some(bench) = Bench::new() else { return };
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["file", "above", "kept/inside"] {
        member(&mut builder, name, EntryType::Regular, "", b"old");
    }
    for (name, to) in [("dangling", "nowhere"), ("loop", "loop"), ("to-file", "kept/inside")] {
        member(&mut builder, name, EntryType::Symlink, to, b"");
    }
    member(&mut builder, "link", EntryType::Symlink, "kept", b"");
    bench.extract_bytes(&builder.into_inner().unwrap()).unwrap();

    let mut builder = tar::Builder::new(Vec::new());
    for name in ["file", "dangling", "loop", "to-file", "kept", "link"] {
        member(&mut builder, name, EntryType::Directory, "", b"");
        member(&mut builder, &format!("{name}/new"), EntryType::Regular, "", name.as_bytes());
    }
    member(&mut builder, "above/new", EntryType::Regular, "", b"above");
    bench.extract_bytes(&builder.into_inner().unwrap()).unwrap();
    bench.look(|root| {
        let root = root.join("a/root");
        for name in ["file", "dangling", "loop", "to-file", "above"] {
            assert!(fs::symlink_metadata(root.join(name)).unwrap().is_dir(), "{name}");
            assert_eq!(fs::read_to_string(root.join(name).join("new")).unwrap(), name);
        }
        assert_eq!(fs::read_to_string(root.join("kept/inside")).unwrap(), "old");
        assert!(root.join("link").is_symlink());
        assert_eq!(fs::read_to_string(root.join("kept/new")).unwrap(), "link");
    });
    let mut builder = tar::Builder::new(Vec::new());
    member(&mut builder, "kept", EntryType::Regular, "", b"a file");
    let error = bench.extract_bytes(&builder.into_inner().unwrap()).unwrap_err().to_string();
    assert!(error.contains("extracting \"kept\"") && error.contains("replacing"), "{error}");
}

#[test]
fn a_hard_link_to_itself_or_to_nothing_leaves_the_file_there() {
    let Some(bench) = Bench::new() else { return };
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("file"), "kept").unwrap();
    let directory = tree.path().to_str().unwrap();
    // As GNU tar writes a file with several names that it is told of twice, with a volume label.
    fs::hard_link(tree.path().join("file"), tree.path().join("other")).unwrap();
    let arguments = ["--label", "backup", "-C", directory, "-cf", "-", "file", "./file", "file"];
    let archive = run("tar", &arguments).expect("GNU tar");
    bench.extract_bytes(&archive).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    member(&mut builder, "./file", EntryType::Link, "/file", b"");
    bench.extract_bytes(&builder.into_inner().unwrap()).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    member(&mut builder, "file", EntryType::Link, "missing", b"");
    let error = bench.extract_bytes(&builder.into_inner().unwrap()).unwrap_err().to_string();
    assert!(error.contains("hard link to \"missing\", which is not there"), "{error}");
    bench.look(|root| assert_eq!(fs::read_to_string(root.join("a/root/file")).unwrap(), "kept"));
}

#[test]
fn what_is_no_archive_or_not_given_in_full_is_told() {
    let Some(bench) = Bench::new() else { return };
    let error = bench.extract_bytes(b"<!DOCTYPE html>".repeat(100).as_slice()).unwrap_err();
    assert_eq!(error.class(), Class::InvalidInput);
    let error = error.to_string();
    assert!(
        error.contains("no header of a file is at offset 0; expected a tar archive"),
        "{error}"
    );

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/root.tar", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut connection = connection;
            let _ = connection.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 10240\r\n\r\n";
            let _ = connection.write_all(head.as_bytes());
        }
    });
    let cut = bench.extract(&json!({ "url": url, "stall-timeout": "300ms" })).unwrap_err();
    assert_eq!(cut.class(), Class::Transient);
    let cut = cut.to_string();
    assert!(cut.contains("extracting http://127.0.0.1") && cut.contains("no byte for"), "{cut}");
}

#[test]
fn a_full_filesystem_is_told_with_the_file_that_did_not_fit() {
    let Some(bench) = Bench::new() else { return };
    let mut builder = tar::Builder::new(Vec::new());
    member(&mut builder, "large", EntryType::Regular, "", &vec![7; 70 << 20]);
    let error = bench.extract_bytes(&builder.into_inner().unwrap()).unwrap_err();
    assert_eq!(error.class(), Class::Environment);
    let error = error.to_string();
    assert!(error.contains("extracting \"large\"") && error.contains("No space left"), "{error}");
}
