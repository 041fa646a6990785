//! Entries of the Boot Loader Specification (uapi-group.org, "Boot Loader Specification", type 1):
//! a file for each, which GRUB shows where its configuration says `blscfg`.

use std::cmp::Ordering;
use std::path::Path;

use super::Entry;
use crate::mount::{FileKind, Root};

/// Where they are: with `/boot` in the filesystem, and of a `/boot` of its own.
const DIRECTORIES: [&str; 2] = ["/boot/loader/entries", "/loader/entries"];

const ENDING: &str = ".conf";

/// The most that is read of one; they have a few hundred bytes.
const MAX_FILE: u64 = 64 << 10;

/// All entries with their ids, the newest first. Variables of GRUB in them stay as they are.
pub(super) fn read(root: &Root) -> Vec<(String, Entry)> {
    let list =
        |directory: &str| Some((directory.to_owned(), root.list(Path::new(directory)).ok()?));
    let Some((directory, files)) = DIRECTORIES.into_iter().find_map(list) else {
        return Vec::new();
    };
    let mut entries: Vec<(String, Entry)> = files
        .iter()
        .filter(|file| file.kind == FileKind::File)
        .filter_map(|file| {
            let id = file.name.to_str()?.strip_suffix(ENDING)?.to_owned();
            let text = root.read(&Path::new(&directory).join(&file.name), MAX_FILE).ok()?;
            Some((id, parse(&String::from_utf8_lossy(&text))?))
        })
        .collect();
    entries.sort_by(|(a, _), (b, _)| by_version(b, a));
    entries
}

/// One entry; none if it names no kernel, as one of an EFI program does.
fn parse(text: &str) -> Option<Entry> {
    let mut entry = Entry::default();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once([' ', '\t']) else { continue };
        let value = value.trim();
        match key {
            "title" => value.clone_into(&mut entry.title),
            "linux" => entry.kernel = value.into(),
            // GRUB takes several on a line, too.
            "initrd" => entry.initrds.extend(value.split_ascii_whitespace().map(Into::into)),
            "options" if entry.command_line.is_empty() => value.clone_into(&mut entry.command_line),
            "options" => {
                entry.command_line.push(' ');
                entry.command_line.push_str(value);
            }
            _ => {}
        }
    }
    (!entry.kernel.as_os_str().is_empty()).then_some(entry)
}

/// Orders names by the numbers in them: `5.9` before `5.10`.
fn by_version(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        let mut parts = Vec::new();
        for part in text.split(['.', '-', '_', '~', '+']) {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = part.split_at(digits);
            parts.push((number.parse().unwrap_or(0), rest.to_owned()));
        }
        parts
    };
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_its_kernel_initramfs_and_options() {
        let text = "title Fedora Linux (6.9.7) 40\nversion 6.9.7\nlinux /vmlinuz-6.9.7\n\
                    initrd /initramfs-6.9.7.img $tuned_initrd\n# a comment\n\
                    options root=UUID=1 ro\noptions $tuned_params\ngrub_class fedora\n";
        let entry = parse(text).unwrap();
        assert_eq!(entry.title, "Fedora Linux (6.9.7) 40");
        assert_eq!(entry.kernel, Path::new("/vmlinuz-6.9.7"));
        assert_eq!(entry.initrds.len(), 2);
        assert_eq!(entry.command_line, "root=UUID=1 ro $tuned_params");
        assert_eq!(parse("title EFI shell\nefi /shell.efi\n"), None);
    }

    #[test]
    fn the_newest_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let entries = root.path().join("loader/entries");
        std::fs::create_dir_all(&entries).unwrap();
        for name in ["m-5.9.1-1.conf", "m-5.14.0-3.conf", "m-5.14.0-21.conf", "readme.txt"] {
            std::fs::write(entries.join(name), format!("title {name}\nlinux /v\n")).unwrap();
        }
        let found = read(&Root::open(root.path(), true).unwrap());
        let ids: Vec<_> = found.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["m-5.14.0-21", "m-5.14.0-3", "m-5.9.1-1"]);
    }
}
