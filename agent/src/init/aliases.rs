//! Which modules drive a device: the files that depmod(8) writes, and how they match.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A modules tree: `/lib/modules/RELEASE`.
#[derive(Debug, Default)]
pub(super) struct Tree {
    folder: PathBuf,
    /// Patterns over modaliases, and the module that each names.
    aliases: Vec<(String, String)>,
    /// File of each module, and the files that must be loaded before, last one first.
    files: HashMap<String, Vec<String>>,
    built_in: HashSet<String>,
}

impl Tree {
    /// Reads the tree in this folder. What is not there is empty.
    pub(super) fn read(folder: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let aliases = text("modules.alias").lines().filter_map(alias).collect();
        let files = text("modules.dep").lines().filter_map(dependencies).collect();
        let built_in = text("modules.builtin").lines().map(module_name).collect();
        Self { folder: folder.to_owned(), aliases, files, built_in }
    }

    /// The modules for a device.
    pub(super) fn matching(&self, modalias: &str) -> impl Iterator<Item = &str> {
        let modalias = normal(modalias);
        self.aliases
            .iter()
            .filter(move |(pattern, _)| matches(pattern.as_bytes(), modalias.as_bytes()))
            .map(|(_, module)| module.as_str())
            .filter(|module| !self.built_in.contains(*module))
    }

    /// The files to load for a module, in their order.
    pub(super) fn files(&self, module: &str) -> impl Iterator<Item = PathBuf> {
        let files = self.files.get(module).map(Vec::as_slice).unwrap_or_default();
        files.iter().rev().map(|file| self.folder.join(file))
    }
}

/// `alias PATTERN MODULE`
fn alias(line: &str) -> Option<(String, String)> {
    let (pattern, module) = line.strip_prefix("alias ")?.rsplit_once(' ')?;
    Some((normal(pattern), normal(module)))
}

/// `FILE: FILE FILE…`
fn dependencies(line: &str) -> Option<(String, Vec<String>)> {
    let (file, before) = line.split_once(':')?;
    let files = [file].into_iter().chain(before.split_whitespace());
    Some((module_name(file), files.map(str::to_owned).collect()))
}

/// `kernel/drivers/net/virtio-net.ko.xz` is `virtio_net`.
pub(super) fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or_default();
    normal(name.split(".ko").next().unwrap_or_default())
}

/// Dashes are underscores, except in a set of characters, where they make a range.
fn normal(text: &str) -> String {
    let mut in_set = false;
    text.trim()
        .chars()
        .map(|c| {
            in_set = match c {
                '[' => true,
                ']' => false,
                _ => in_set,
            };
            if c == '-' && !in_set { '_' } else { c }
        })
        .collect()
}

/// Whether a pattern with `*`, `?` and `[…]` covers the whole text (fnmatch(3)).
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on after the last star, taking one more byte into it.
    let mut retry = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'?') => text.get(t).map(|_| 1),
            Some(b'[') => text.get(t).and_then(|byte| set(&pattern[p..], *byte)),
            Some(literal) => text.get(t).filter(|byte| *byte == literal).map(|_| 1),
            None if t == text.len() => return true,
            None => None,
        };
        match (step, retry) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, from))) if from < text.len() => {
                retry = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Length of the set that the pattern begins with, if the byte is in it.
fn set(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|b| *b == b']')?;
    let mut rest = &pattern[1..end];
    while let Some((first, after)) = rest.split_first() {
        let (last, next) = match after {
            [b'-', last, next @ ..] => (last, next),
            _ => (first, after),
        };
        if (*first..=*last).contains(&byte) {
            return Some(end + 1);
        }
        rest = next;
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes a small modules tree.
    pub(in crate::init) fn make_tree(folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let alias = "# Aliases\n\
                     alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\n\
                     alias virtio:d00000001v* virtio-net\n\
                     alias of:N*T*Cvendor,chip virtio_net\n\
                     alias acpi*:PNP0F13:* psmouse\n\
                     alias symbol:x y\n";
        let dep = "kernel/net/virtio_net.ko.xz: kernel/net/net_failover.ko.xz kernel/net/failover.ko.xz\n\
                   kernel/net/failover.ko.xz:\n\
                   kernel/net/e1000e.ko: kernel/net/ptp.ko\n";
        fs::write(folder.join("modules.alias"), alias).unwrap();
        fs::write(folder.join("modules.dep"), dep).unwrap();
        fs::write(folder.join("modules.builtin"), "kernel/input/psmouse.ko\n").unwrap();
    }

    #[test]
    fn a_device_finds_its_module_and_what_goes_before() {
        let folder = tempfile::tempdir().unwrap();
        make_tree(folder.path());
        let tree = Tree::read(folder.path());
        let matching = |alias| tree.matching(alias).collect::<Vec<_>>();
        assert_eq!(matching("virtio:d00000001v00001AF4\n"), ["virtio_net"]);
        let nic = "pci:v00008086d000010D3sv00001028sd00000000bc02sc00i00";
        assert_eq!(matching(nic), ["e1000e"]);
        assert_eq!(matching("acpi:PNP0F13:"), Vec::<&str>::new(), "built in");
        assert_eq!(matching("pci:v00008086"), Vec::<&str>::new());
        let files: Vec<_> = tree.files("virtio_net").collect();
        let expected = ["failover", "net_failover", "virtio_net"]
            .map(|name| folder.path().join(format!("kernel/net/{name}.ko.xz")));
        assert_eq!(files, expected);
        assert_eq!(tree.files("unknown").count(), 0);
    }

    #[test]
    fn a_tree_that_is_not_there_is_empty() {
        let tree = Tree::read(Path::new("/nowhere"));
        assert_eq!(tree.matching("virtio:d00000001v00001AF4").count(), 0);
    }

    #[test]
    fn patterns_cover_as_fnmatch_does() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*", "a", true),
            ("*b", "aab", true),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xbxxa", false),
            ("?", "", false),
            ("usb:v*d[0-3]*", "usb:v12d2x", true),
            ("usb:v*d[0-3]*", "usb:v12d4x", false),
            ("[abc]z", "bz", true),
            ("[0-9A-F]z", "Cz", true),
            ("[0-9A-F]z", "Gz", false),
            ("[0-9", "1", false),
            ("ab", "abc", false),
        ] {
            let found = matches(pattern.as_bytes(), text.as_bytes());
            assert_eq!(found, expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_long_pattern_does_not_take_for_ever() {
        let began = std::time::Instant::now();
        assert!(!matches("*a".repeat(30).as_bytes(), "b".repeat(200).as_bytes()));
        assert!(!matches(format!("{}b", "*a".repeat(30)).as_bytes(), "a".repeat(200).as_bytes()));
        assert!(began.elapsed().as_millis() < 500);
    }
}
