//! The Debian 12 image: an operating system that nobody here wrote, to install and boot.
//!
//! systemd, Debian's cloud kernel, its signed shim and GRUB on the ESP (under `\EFI\debian` and on
//! the removable path), a root filesystem labelled [`ROOT_LABEL`], DHCP on every wired interface, a
//! login on the serial console for root without a password, and `unset` for a hostname, which the
//! installer is to replace. Packages come from the mirror that apt on this machine is set up with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use uuid::{Uuid, uuid};

use crate::digest::Identifiers;
use crate::filesystem::Fat;
use crate::output::Output;
use crate::tool::{APT_GET, MMDEBSTRAP, SH, UNSHARE};
use crate::{compress, disk, manifest};

/// Label of the root filesystem.
pub const ROOT_LABEL: &str = "debian-root";

const SUITE: &str = "bookworm";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Beyond the essential packages: what boots, what gets an address, what one needs to look around.
const PACKAGES: [&str; 15] = [
    "dbus",
    "e2fsprogs",
    "grub-efi-amd64-signed",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "linux-image-cloud-amd64",
    "login",
    "passwd",
    "shim-signed",
    // Has shim's BOOTX64.CSV, by which an installer knows loader and label.
    "shim-unsigned",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
    "zstd",
];

/// Left out of every package. Copyright files stay: they must go where the programs go.
const DPKG_OPTIONS: [&str; 6] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/lintian/*",
];

/// Run by mmdebstrap when all packages are in; `$1` is the new root.
const HOOKS: [&str; 3] = [
    r#"chroot "$1" passwd --quiet --delete root"#,
    r#"chroot "$1" systemctl --quiet enable systemd-networkd"#,
    // Empty, not absent: absent means a first boot, at which systemd resets what is enabled.
    r#": > "$1/etc/machine-id""#,
];

/// Type of a root partition for x86-64 (Discoverable Partitions Specification).
const ROOT_TYPE: Uuid = uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
const ESP_TYPE: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");

/// Sizes in MiB; the whole image is 1 GiB with the MiB at each end.
const ESP_MIB: u64 = 64;
const ROOT_MIB: u64 = 958;

const ROOT_SCRIPT: &str = include_str!("../assets/debian/root.sh");
const ESP_GRUB: &str = include_str!("../assets/debian/esp-grub.cfg");

/// Files put over those of the packages.
const OVERLAY: [(&str, &str); 5] = [
    ("boot/grub/grub.cfg", include_str!("../assets/debian/root-grub.cfg")),
    ("etc/default/grub", include_str!("../assets/debian/default-grub")),
    ("etc/fstab", include_str!("../assets/debian/fstab")),
    ("etc/hostname", "unset\n"),
    ("etc/systemd/network/80-dhcp.network", include_str!("../assets/debian/dhcp.network")),
];

/// Writes the image to `out`, packed with zstd, and its manifest beside it.
///
/// As root it works in a chroot; otherwise in user namespaces, which need Debian's `uidmap` and
/// an entry for the user in `/etc/subuid` and `/etc/subgid`.
pub fn write(out: &Path) -> Result<()> {
    let output = Output::new(out)?;
    let archive = output.scratch("root.tar");
    bootstrap(&archive, &output)?;
    let image = output.scratch("disk.img");
    make(&archive, &output, &image)?;
    let packed = output.scratch("disk.img.zst");
    compress::zstd(&image, &packed)?;
    manifest::publish(output, &packed, &image)
}

fn bootstrap(archive: &Path, output: &Output) -> Result<()> {
    let sources = output.scratch("sources.list");
    put(&apt_sources()?, &sources)?;
    let mut command = MMDEBSTRAP.command();
    command
        .args(["--quiet", "--variant=minbase", "--format=tar"])
        .arg(format!("--keyring={KEYRING}"))
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .args(DPKG_OPTIONS.map(|option| format!("--dpkgopt={option}")))
        .args(HOOKS.map(|hook| format!("--customize-hook={hook}")))
        .arg(SUITE)
        .args([archive, &sources]);
    MMDEBSTRAP.run(&mut command)?;
    Ok(())
}

/// The lines of a `sources.list` for Debian itself, from all that apt here is set up with.
fn apt_sources() -> Result<String> {
    const FORMAT: &str = "$(ORIGIN) $(RELEASE) deb $(REPO_URI) $(RELEASE) $(COMPONENT)";
    let mut command = APT_GET.command();
    let targets =
        APT_GET.run(command.args(["indextargets", "--format", FORMAT, "Created-By: Packages"]))?;
    let sources = select_sources(&String::from_utf8_lossy(&targets));
    ensure!(
        !sources.is_empty(),
        "looking for a mirror of Debian {SUITE}: apt here has none; add one and run apt-get update"
    );
    Ok(sources)
}

fn select_sources(targets: &str) -> String {
    let mut lines: Vec<_> = targets
        .lines()
        .filter_map(|line| line.strip_prefix("Debian "))
        .filter_map(|line| line.split_once(' '))
        .filter(|(release, _)| {
            release
                .strip_prefix(SUITE)
                .is_some_and(|rest| ["", "-updates", "-security"].contains(&rest))
        })
        .map(|(_, source)| format!("{source}\n"))
        .collect();
    lines.sort();
    lines.dedup();
    lines.concat()
}

fn make(archive: &Path, output: &Output, image: &Path) -> Result<()> {
    let identifiers = Identifiers::of_files(&[archive])?;
    let root_uuid = identifiers.guid("root filesystem");
    let volume_id = identifiers.volume_id("ESP");
    let fill = |text: &str| {
        let dashed = format!("{}-{}", &volume_id[..4], &volume_id[4..]).to_uppercase();
        text.replace("@ROOT_UUID@", &root_uuid.to_string()).replace("@ESP_ID@", &dashed)
    };

    let overlay = output.scratch_dir("overlay")?;
    for (name, text) in OVERLAY {
        put(&fill(text), &overlay.join(name))?;
    }
    let esp_tree = output.scratch_dir("esp")?;
    let loaders = esp_tree.join("EFI");
    put(&fill(ESP_GRUB), &loaders.join("debian/grub.cfg"))?;
    let removable = loaders.join("BOOT");
    fs::create_dir(&removable).with_context(|| format!("creating {}", removable.display()))?;

    let root = Root { archive, overlay: &overlay, loaders: &loaders, uuid: root_uuid };
    let root = root.make(output)?;
    let esp = output.scratch("esp.fat");
    // FAT32, as the UEFI specification wants it on a fixed disk (13.3.1.1).
    Fat { mib: ESP_MIB, volume_id: &volume_id, label: "ESP", options: &["-F", "32"] }
        .make(&esp_tree, &esp)?;

    let partition = |name: &str, kind, mib, content| disk::Partition {
        name: name.to_owned(),
        kind,
        guid: identifiers.guid(name),
        attributes: 0,
        mib,
        content: Some(content),
    };
    let partitions =
        [partition("esp", ESP_TYPE, ESP_MIB, esp), partition("root", ROOT_TYPE, ROOT_MIB, root)];
    disk::write(image, identifiers.guid("disk"), &partitions)
}

/// What the root filesystem is made of, and where its boot loaders go.
struct Root<'a> {
    archive: &'a Path,
    overlay: &'a Path,
    loaders: &'a Path,
    uuid: Uuid,
}

impl Root<'_> {
    fn make(&self, output: &Output) -> Result<PathBuf> {
        let script = output.scratch("root.sh");
        put(ROOT_SCRIPT, &script)?;
        let image = output.scratch("root.ext4");
        let tool = if nix::unistd::geteuid().is_root() { SH } else { UNSHARE };
        let mut command = tool.command();
        if !nix::unistd::geteuid().is_root() {
            command.args(["--map-root-user", "--map-auto", "--", "sh"]);
        }
        command
            .args([&script, self.archive, self.overlay, &output.scratch_dir("root")?])
            .args([self.loaders, &image])
            .args([format!("{ROOT_MIB}M"), self.uuid.to_string(), ROOT_LABEL.to_owned()]);
        tool.run(&mut command)?;
        Ok(image)
    }
}

fn put(text: &str, path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debians_own_sources_of_the_suite_are_taken_once_each() {
        let targets = "\
            Debian bookworm-updates deb http://mirror.invalid/debian/ bookworm-updates main\n\
            Debian bookworm deb http://mirror.invalid/debian/ bookworm main\n\
            Debian bookworm deb http://mirror.invalid/debian/ bookworm main\n\
            Debian bookworm-backports deb http://mirror.invalid/debian/ bookworm-backports main\n\
            Debian trixie deb http://mirror.invalid/debian/ trixie main\n\
            Somebody bookworm deb http://other.invalid/ bookworm main\n";
        assert_eq!(
            select_sources(targets),
            "deb http://mirror.invalid/debian/ bookworm main\n\
             deb http://mirror.invalid/debian/ bookworm-updates main\n"
        );
        assert_eq!(select_sources(""), "");
    }
}
