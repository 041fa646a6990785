//! Loads the drivers of the devices that are there, where the initramfs has a modules tree.
//!
//! A driver brings new devices to light (a bus, then what is on it), so devices are looked for
//! again until a while has brought none. Devices that come later get no driver.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::aliases::Tree;
use super::kmod;

/// How often new devices are looked for, and how many looks without any mean that it is enough.
const LOOK_PERIOD: Duration = Duration::from_millis(100);
const QUIET_LOOKS: u32 = 5;

/// How long this may take in all; a machine with slow buses goes on without the rest.
const LIMIT: Duration = Duration::from_secs(30);

/// Loads what the devices ask for, and says how many modules that were. `root` is where the tree
/// of the running kernel and sysfs are sought; failures are told line by line.
pub(super) fn load_all(root: &Path, say: &mut dyn FnMut(&str)) -> usize {
    let Ok(system) = nix::sys::utsname::uname() else { return 0 };
    let folder = root.join("lib/modules").join(system.release());
    if !folder.exists() {
        return 0;
    }
    let mut loader = Loader {
        tree: Tree::read(&folder),
        load: kmod::load,
        aliases: HashSet::new(),
        files: HashSet::new(),
        loaded: 0,
    };
    let devices = root.join("sys/devices");
    let began = Instant::now();
    let mut quiet = 0;
    while quiet < QUIET_LOOKS && began.elapsed() < LIMIT {
        match loader.look(&devices, say) {
            0 => quiet += 1,
            _ => quiet = 0,
        }
        sleep(LOOK_PERIOD);
    }
    loader.loaded
}

struct Loader<F> {
    tree: Tree,
    load: F,
    /// Modaliases and files that were dealt with.
    aliases: HashSet<String>,
    files: HashSet<PathBuf>,
    loaded: usize,
}

impl<F: FnMut(&Path) -> io::Result<bool>> Loader<F> {
    /// Deals with every device that is new, and says how many kinds those were.
    fn look(&mut self, devices: &Path, say: &mut dyn FnMut(&str)) -> usize {
        let mut found = HashSet::new();
        collect_aliases(devices, &mut found);
        found.retain(|alias| !self.aliases.contains(alias));
        for alias in &found {
            let modules: Vec<String> = self.tree.matching(alias).map(str::to_owned).collect();
            for module in modules {
                self.load_module(&module, say);
            }
        }
        let count = found.len();
        self.aliases.extend(found);
        count
    }

    fn load_module(&mut self, module: &str, say: &mut dyn FnMut(&str)) {
        let files: Vec<_> = self.tree.files(module).collect();
        for file in files {
            if !self.files.insert(file.clone()) {
                continue;
            }
            match (self.load)(&file) {
                Ok(true) => self.loaded += 1,
                Ok(false) => {}
                Err(e) => say(&format!("warning: loading {}: {e}", file.display())),
            }
        }
    }
}

/// The modaliases of the devices in and below a folder. Links lead to other devices that are
/// below it too, or round in circles.
fn collect_aliases(folder: &Path, found: &mut HashSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            collect_aliases(&entry.path(), found);
        } else if kind.is_file() && entry.file_name() == "modalias" {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            found.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::aliases::tests::make_tree;
    use super::*;
    use std::cell::RefCell;

    fn device(devices: &Path, name: &str, alias: &str) {
        fs::create_dir_all(devices.join(name)).unwrap();
        fs::write(devices.join(name).join("modalias"), format!("{alias}\n")).unwrap();
    }

    #[test]
    fn drivers_are_loaded_once_each_and_a_failure_is_told_and_passed_by() {
        let root = tempfile::tempdir().unwrap();
        let (folder, devices) = (root.path().join("modules"), root.path().join("devices"));
        make_tree(&folder);
        device(&devices, "pci0/0000:01", "pci:v00008086d000010D3sv0sd0bc02sc00i00");
        device(&devices, "pci0/0000:01/nested", "virtio:d00000001v1");
        device(&devices, "pci0/0000:02", "virtio:d00000001v2");
        std::os::unix::fs::symlink(&devices, devices.join("pci0/circle")).unwrap();
        let calls = RefCell::new(Vec::new());
        let load = |file: &Path| {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            calls.borrow_mut().push(name.clone());
            match name.as_str() {
                "failover.ko.xz" => Ok(false),
                "ptp.ko" => Err(io::Error::other("unknown symbol")),
                _ => Ok(true),
            }
        };
        let mut loader = Loader {
            tree: Tree::read(&folder),
            load,
            aliases: HashSet::new(),
            files: HashSet::new(),
            loaded: 0,
        };
        let mut said = Vec::new();
        assert_eq!(loader.look(&devices, &mut |line| said.push(line.to_owned())), 3);
        assert_eq!(loader.look(&devices, &mut |_| {}), 0);
        assert_eq!(loader.loaded, 3);
        device(&devices, "pci0/late", "virtio:d00000001v3");
        assert_eq!(loader.look(&devices, &mut |_| {}), 1);
        drop(loader);
        let mut calls = calls.into_inner();
        let virtio = calls.iter().position(|name| name == "virtio_net.ko.xz").unwrap();
        let failover = calls.iter().position(|name| name == "failover.ko.xz").unwrap();
        assert!(failover < virtio, "{calls:?}");
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), 5, "{calls:?}");
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("ptp.ko: unknown symbol"), "{said:?}");
    }

    #[test]
    fn without_a_tree_nothing_waits() {
        let began = Instant::now();
        let root = tempfile::tempdir().unwrap();
        assert_eq!(load_all(root.path(), &mut |_| {}), 0);
        assert!(began.elapsed() < LOOK_PERIOD);
    }
}
