//! The demo image: a disk in the shape of Bottlerocket's `metal-dev`, which really boots.
//!
//! The 13 partitions have upstream's numbers, names, types, order and attributes; their sizes are
//! smaller, so that an emulated machine writes the image quickly. The loader is Debian's GRUB and
//! works as upstream's does: from the ESP it finds BOOT-A and PRIVATE on its own disk, and hands
//! the kernel PRIVATE's `bootconfig.data` as the initrd. The root filesystem holds one program,
//! which reports what it finds (`src/bin/demo-init.rs`).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nibs_bottlerocket::partitions::{DATA_PARTUUID, METAL_DEV, Partition, kind, private_file};
use nibs_bottlerocket::{bootconfig, partitions};

use crate::digest::Identifiers;
use crate::filesystem::{Ext4, Fat};
use crate::output::Output;
use crate::tool::GRUB_MKIMAGE;
use crate::{compress, disk, manifest};

const ESP_CONFIG: &str = include_str!("../assets/bottlerocket/esp.cfg");
const BOOT_CONFIG: &str = include_str!("../assets/bottlerocket/grub.cfg");

/// Sizes in MiB that differ from upstream's: a root that fits this one, and little data.
const ROOT_MIB: u64 = 64;
const DATA_MIB: u64 = 64;

/// What GRUB needs to find and start the kernel.
const GRUB_MODULES: [&str; 14] = [
    "all_video",
    "boot",
    "configfile",
    "echo",
    "ext2",
    "fat",
    "linux",
    "normal",
    "part_gpt",
    "probe",
    "reboot",
    "regexp",
    "sleep",
    "test",
];

/// Mount points of the demo's init.
const MOUNT_POINTS: [&str; 4] = ["dev", "mnt", "proc", "sys"];

/// The demo image's partitions: `metal-dev`'s, shrunk.
pub fn layout() -> [Partition; 13] {
    METAL_DEV.map(|partition| {
        let mib = match partition.kind {
            kind::ROOT => ROOT_MIB,
            kind::DATA => DATA_MIB,
            _ => partition.mib,
        };
        Partition { mib, ..partition }
    })
}

/// Writes the image of `kernel` (an x86-64 bzImage) and `init` (a static program) to `out`, packed
/// as upstream's, and its manifest beside it.
pub fn write(kernel: &Path, init: &Path, out: &Path) -> Result<()> {
    let output = Output::new(out)?;
    let image = output.scratch("disk.img");
    make(kernel, init, &output, &image)?;
    let packed = output.scratch("disk.img.lz4");
    compress::lz4(&image, &packed)?;
    manifest::publish(output, &packed, &image)
}

fn make(kernel: &Path, init: &Path, output: &Output, image: &Path) -> Result<()> {
    let identifiers = Identifiers::of_files(&[kernel, init])?;
    let mut parts = Vec::new();
    for partition in layout() {
        let content = match partition.name {
            "EFI-SYSTEM" => Some(esp(&partition, &identifiers, output)?),
            "BOTTLEROCKET-BOOT-A" => Some(boot(&partition, &identifiers, kernel, output)?),
            "BOTTLEROCKET-ROOT-A" => Some(root(&partition, &identifiers, init, output)?),
            partitions::PRIVATE_NAME => Some(private(&partition, &identifiers, output)?),
            _ => None,
        };
        let guid = match partition.kind {
            kind::DATA => DATA_PARTUUID,
            _ => identifiers.guid(partition.name),
        };
        parts.push(disk::Partition {
            name: partition.name.to_owned(),
            kind: partition.kind,
            guid,
            attributes: partition.attributes,
            mib: partition.mib,
            content,
        });
    }
    disk::write(image, identifiers.guid("disk"), &parts)
}

fn esp(partition: &Partition, identifiers: &Identifiers, output: &Output) -> Result<PathBuf> {
    let tree = output.scratch_dir("esp")?;
    let loaders = tree.join("EFI/BOOT");
    fs::create_dir_all(&loaders).with_context(|| format!("creating {}", loaders.display()))?;
    let config = output.scratch("esp.cfg");
    put(ESP_CONFIG.as_bytes(), &config)?;
    let mut command = GRUB_MKIMAGE.command();
    command
        .args(["--format=x86_64-efi", "--prefix=/grub", "--compression=auto", "--config"])
        .arg(&config)
        .arg("--output")
        .arg(loaders.join("bootx64.efi"))
        .args(GRUB_MODULES);
    GRUB_MKIMAGE.run(&mut command).context("making GRUB (package grub-efi-amd64-bin)")?;
    let image = output.scratch("esp.fat");
    let volume_id = identifiers.volume_id(partition.name);
    Fat { mib: partition.mib, volume_id: &volume_id, label: "EFI-SYSTEM", options: &[] }
        .make(&tree, &image)?;
    Ok(image)
}

fn boot(
    partition: &Partition,
    identifiers: &Identifiers,
    kernel: &Path,
    output: &Output,
) -> Result<PathBuf> {
    let tree = output.scratch_dir("boot")?;
    fs::create_dir(tree.join("grub")).context("creating boot/grub")?;
    copy(kernel, &tree.join("vmlinuz"))?;
    put(BOOT_CONFIG.as_bytes(), &tree.join("grub/grub.cfg"))?;
    let options = ["-b", "1024", "-L", "BOTTLEROCKET-BOOT-A"];
    ext4(partition, identifiers, false, &options, &tree, output.scratch("boot.ext4"))
}

fn root(
    partition: &Partition,
    identifiers: &Identifiers,
    init: &Path,
    output: &Output,
) -> Result<PathBuf> {
    let tree = output.scratch_dir("root")?;
    for name in MOUNT_POINTS.iter().chain(&["sbin"]) {
        fs::create_dir(tree.join(name)).with_context(|| format!("creating root/{name}"))?;
    }
    let program = tree.join("sbin/init");
    copy(init, &program)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", program.display()))?;
    let options = ["-b", "4096", "-L", "BOTTLEROCKET-ROOT-A"];
    ext4(partition, identifiers, false, &options, &tree, output.scratch("root.ext4"))
}

fn private(partition: &Partition, identifiers: &Identifiers, output: &Output) -> Result<PathBuf> {
    let tree = output.scratch_dir("private")?;
    put(&bootconfig::pack(bootconfig::EMPTY)?, &tree.join(private_file::BOOT_CONFIG))?;
    let options = ["-b", "4096", "-i", "4096", "-I", "256"];
    ext4(partition, identifiers, true, &options, &tree, output.scratch("private.ext4"))
}

fn ext4(
    partition: &Partition,
    identifiers: &Identifiers,
    journal: bool,
    options: &[&str],
    tree: &Path,
    image: PathBuf,
) -> Result<PathBuf> {
    let uuid = identifiers.guid(&format!("filesystem of {}", partition.name));
    Ext4 { mib: partition.mib, uuid, journal, options }.make(tree, &image)?;
    Ok(image)
}

fn put(bytes: &[u8], path: &Path) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest;
    use crate::disk::MIB;
    use gpt::GptConfig;
    use sha2::Sha256;

    fn inputs(dir: &Path) -> Option<(PathBuf, PathBuf)> {
        let grub = Path::new("/usr/lib/grub/x86_64-efi");
        if !grub.is_dir() {
            eprintln!("skipped: no {}; install grub-efi-amd64-bin", grub.display());
            return None;
        }
        let kernel = dir.join("vmlinuz");
        let init = dir.join("demo-init");
        put(b"a kernel", &kernel).unwrap();
        put(b"an init", &init).unwrap();
        Some((kernel, init))
    }

    #[test]
    fn the_layout_is_metal_devs_but_for_sizes_of_root_and_data() {
        for (ours, theirs) in layout().iter().zip(&METAL_DEV) {
            let smaller = [kind::ROOT, kind::DATA].contains(&ours.kind);
            assert_eq!(ours.mib == theirs.mib, !smaller, "{}", ours.name);
            assert_eq!(Partition { mib: theirs.mib, ..*ours }, *theirs);
        }
        let size = 2 + layout().iter().map(|partition| partition.mib).sum::<u64>();
        assert!(size <= 400, "{size} MiB");
    }

    #[test]
    fn the_image_has_the_layout_the_files_and_the_same_bytes_every_time() {
        let dir = tempfile::tempdir().unwrap();
        let Some((kernel, init)) = inputs(dir.path()) else { return };
        let image = dir.path().join("disk.img");
        let output = Output::new(&image).unwrap();
        make(&kernel, &init, &output, &image).unwrap();

        let disk = GptConfig::new().only_valid_headers(true).open(&image).unwrap();
        let mut next = MIB / 512;
        for (partition, found) in layout().iter().zip(disk.partitions().values()) {
            assert_eq!(found.name, partition.name);
            assert_eq!(found.part_type_guid.guid, partition.kind);
            assert_eq!(found.flags, partition.attributes);
            assert_eq!(found.first_lba, next);
            next += partition.mib * MIB / 512;
            assert_eq!(found.last_lba, next - 1);
        }
        assert_eq!(disk.partitions().len(), 13);
        assert_eq!(disk.partitions()[&13].part_guid, DATA_PARTUUID);

        let shipped = fs::read(output.scratch("private").join("bootconfig.data")).unwrap();
        assert_eq!(bootconfig::unpack(&shipped), Ok(bootconfig::EMPTY));

        let again = dir.path().join("again.img");
        let output = Output::new(&again).unwrap();
        make(&kernel, &init, &output, &again).unwrap();
        let digest = |path: &Path| digest::file::<Sha256>(path).unwrap();
        assert_eq!(digest(&image), digest(&again));
    }

    #[test]
    fn another_kernel_gives_other_guids_but_data_keeps_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let Some((kernel, init)) = inputs(dir.path()) else { return };
        let guids = |name: &str| {
            let image = dir.path().join(name);
            let output = Output::new(&image).unwrap();
            make(&kernel, &init, &output, &image).unwrap();
            let disk = GptConfig::new().open(&image).unwrap();
            disk.partitions().values().map(|partition| partition.part_guid).collect::<Vec<_>>()
        };
        let before = guids("before.img");
        put(b"another kernel", &kernel).unwrap();
        let after = guids("after.img");
        assert!(before[..12].iter().all(|guid| !after.contains(guid)));
        assert_eq!(before[12], after[12]);
    }

    #[test]
    fn the_packed_image_is_upstreams_frame_and_its_manifest_says_its_sizes() {
        let dir = tempfile::tempdir().unwrap();
        let Some((kernel, init)) = inputs(dir.path()) else { return };
        let out = dir.path().join("out/demo.img.lz4");
        write(&kernel, &init, &out).unwrap();
        let manifest = fs::read_to_string(manifest::path_of(&out)).unwrap();
        let manifest: manifest::Manifest = serde_json::from_str(&manifest).unwrap();
        let (sha256, size) = digest::file::<Sha256>(&out).unwrap();
        assert_eq!((manifest.sha256, manifest.size), (hex::encode(sha256), size));
        assert_eq!(manifest.file, "demo.img.lz4");
        let whole: u64 = 2 + layout().iter().map(|partition| partition.mib).sum::<u64>();
        assert_eq!(manifest.uncompressed_size, whole * MIB);
        let left: Vec<_> = fs::read_dir(dir.path().join("out")).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
