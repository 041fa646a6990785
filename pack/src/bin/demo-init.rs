//! PID 1 of the demo image: tells, on every console, what an installer left on the disk.
//!
//! ```text
//! nibs-demo: mode 0600 /user-data.toml     every regular file at the root of PRIVATE
//! nibs-demo: sha256 <hex> /user-data.toml
//! nibs-demo: cmdline <text>                /proc/cmdline
//! nibs-demo: bootconfig <line>             each line of /proc/bootconfig
//! nibs-demo: data blank                    or not-blank: both ends of the data partition
//! nibs-demo: gpt ok                        or what is wrong with either copy
//! nibs-demo: ready                         or error <what>, and nothing more
//! ```
//!
//! It never exits, since the kernel panics when PID 1 does.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nibs_bottlerocket::partitions::PRIVATE_NAME;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::wait;
use nix::unistd::pause;
use sha2::{Digest, Sha256};

const PRIVATE_MOUNT: &str = "/mnt";
const DATA_NUMBER: u32 = 13;
const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;

/// Disks may appear after PID 1 has started.
const DISK_WAIT: Duration = Duration::from_secs(10);
const DISK_POLL: Duration = Duration::from_millis(100);

fn main() {
    let mut consoles = Consoles::default();
    if let Err(error) = mount_kernel_filesystems() {
        consoles.say(format_args!("error {error:#}"));
        idle();
    }
    // Messages of the kernel would otherwise land in the middle of our lines. Failing is harmless.
    let _ = fs::write("/proc/sys/kernel/printk", "1");
    consoles.open_all();
    match report(&mut consoles) {
        Ok(()) => consoles.say("ready"),
        Err(error) => consoles.say(format_args!("error {error:#}")),
    }
    idle();
}

/// Reaps whatever is handed to PID 1, for ever.
fn idle() -> ! {
    loop {
        if let Err(Errno::ECHILD) = wait() {
            pause();
        }
    }
}

/// Every console that the kernel was given, so that it does not matter which came last.
#[derive(Debug, Default)]
struct Consoles {
    open: Vec<File>,
}

impl Consoles {
    fn open_all(&mut self) {
        let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let names = active.split_whitespace().map(|name| Path::new("/dev").join(name));
        self.open =
            names.filter_map(|path| OpenOptions::new().write(true).open(path).ok()).collect();
    }

    /// Writes one whole line at once. Before the consoles are open it goes to stderr, which the
    /// kernel has connected to the last of them.
    fn say(&mut self, what: impl Display) {
        let line = format!("nibs-demo: {}\n", what.to_string().replace('\n', " "));
        if self.open.is_empty() {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        for console in &mut self.open {
            // A console that cannot be written to has nobody to tell.
            let _ = console.write_all(line.as_bytes());
        }
    }
}

fn mount_kernel_filesystems() -> Result<()> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        match mount(Some(kind), target, Some(kind), flags, None::<&str>) {
            // The kernel may have mounted devtmpfs itself (CONFIG_DEVTMPFS_MOUNT).
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(error) => bail!("mounting {target}: {error}"),
        }
    }
    Ok(())
}

fn report(consoles: &mut Consoles) -> Result<()> {
    let private = wait_for_private()?;
    let device = device_node(&private)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(&device), PRIVATE_MOUNT, Some("ext4"), flags, None::<&str>)
        .with_context(|| format!("mounting {}", device.display()))?;
    for line in describe_files(Path::new(PRIVATE_MOUNT))? {
        consoles.say(line);
    }
    let cmdline = fs::read_to_string("/proc/cmdline").context("reading /proc/cmdline")?;
    consoles.say(format_args!("cmdline {}", cmdline.trim_end()));
    let bootconfig = fs::read_to_string("/proc/bootconfig")
        .context("reading /proc/bootconfig (needs CONFIG_BOOT_CONFIG)")?;
    for line in bootconfig.lines() {
        consoles.say(format_args!("bootconfig {line}"));
    }
    let disk = private.parent().context("the private partition has no disk")?;
    let mut data = File::open(device_node(&partition(disk, DATA_NUMBER)?)?)
        .context("opening the data partition")?;
    consoles.say(if is_blank(&mut data)? { "data blank" } else { "data not-blank" });
    let mut disk = File::open(device_node(disk)?).context("opening the disk")?;
    match check_gpt(&mut disk) {
        Ok(()) => consoles.say("gpt ok"),
        Err(error) => consoles.say(format_args!("gpt {error:#}")),
    }
    Ok(())
}

fn wait_for_private() -> Result<PathBuf> {
    let deadline = Instant::now() + DISK_WAIT;
    loop {
        let mut found = find_private(Path::new("/sys/class/block"))?;
        match found.len() {
            1 => return Ok(found.remove(0)),
            0 if Instant::now() < deadline => thread::sleep(DISK_POLL),
            0 => bail!("finding {PRIVATE_NAME}: no disk has it"),
            _ => bail!("finding {PRIVATE_NAME}: several disks have it: {found:?}"),
        }
    }
}

/// The sysfs directories, each in that of its disk, of all partitions named as the private one.
fn find_private(class: &Path) -> Result<Vec<PathBuf>> {
    let wanted = format!("PARTNAME={PRIVATE_NAME}");
    let mut found = Vec::new();
    for entry in fs::read_dir(class).with_context(|| format!("listing {}", class.display()))? {
        let path = entry?.path();
        // A device that vanishes meanwhile is none of ours.
        let Ok(uevent) = fs::read_to_string(path.join("uevent")) else { continue };
        if uevent.lines().any(|line| line == wanted) {
            found.push(fs::canonicalize(&path)?);
        }
    }
    found.sort();
    Ok(found)
}

/// The sysfs directory of partition `number` of the disk at `disk`.
fn partition(disk: &Path, number: u32) -> Result<PathBuf> {
    for entry in fs::read_dir(disk).with_context(|| format!("listing {}", disk.display()))? {
        let path = entry?.path();
        let Ok(found) = fs::read_to_string(path.join("partition")) else { continue };
        if found.trim() == number.to_string() {
            return Ok(path);
        }
    }
    bail!("finding partition {number} of {}: there is none", disk.display())
}

fn device_node(sysfs: &Path) -> Result<PathBuf> {
    let name = sysfs.file_name().with_context(|| format!("{} has no name", sysfs.display()))?;
    Ok(Path::new("/dev").join(name))
}

/// Two lines for each regular file directly in `directory`, sorted by name.
fn describe_files(directory: &Path) -> Result<Vec<String>> {
    let listing = || format!("listing {}", directory.display());
    let mut lines = Vec::new();
    let mut paths: Vec<_> = fs::read_dir(directory)
        .with_context(listing)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()
        .with_context(listing)?;
    paths.sort();
    for path in paths {
        let metadata = fs::symlink_metadata(&path)?;
        if !metadata.is_file() {
            continue;
        }
        let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let name = Path::new("/").join(path.strip_prefix(directory)?);
        let name = name.display();
        lines.push(format!("mode {:04o} {name}", metadata.permissions().mode() & 0o7777));
        lines.push(format!("sha256 {} {name}", hex::encode(Sha256::digest(content))));
    }
    Ok(lines)
}

/// Whether the first and the last MiB are all zeros.
fn is_blank<D: Read + Seek>(device: &mut D) -> Result<bool> {
    let size = device.seek(SeekFrom::End(0)).context("finding the size of the data partition")?;
    let mut buffer = vec![0; MIB.min(size) as usize];
    for offset in [0, size - buffer.len() as u64] {
        device.seek(SeekFrom::Start(offset))?;
        device.read_exact(&mut buffer).context("reading the data partition")?;
        if buffer.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Checks both copies of the GPT, and that the backup is where the disk ends
/// (UEFI specification, 5.3.2).
fn check_gpt<D: Read + Seek>(disk: &mut D) -> Result<()> {
    let sectors = disk.seek(SeekFrom::End(0)).context("finding the size of the disk")? / SECTOR;
    let last = sectors.saturating_sub(1);
    let primary = Header::read(disk, 1).context("primary")?;
    let backup = Header::read(disk, last).context("backup")?;
    ensure!(primary.other == last, "primary: says the backup is at {}, not {last}", primary.other);
    ensure!(backup.other == 1, "backup: says the primary is at {}", backup.other);
    ensure!(primary.table == backup.table, "primary and backup list different partitions");
    Ok(())
}

struct Header {
    other: u64,
    table: u32,
}

impl Header {
    fn read<D: Read + Seek>(disk: &mut D, at: u64) -> Result<Self> {
        const SIGNATURE: &[u8] = b"EFI PART";
        const MINIMUM_SIZE: usize = 92;
        /// Far above the 16 KiB that every tool writes; keeps a broken header from using all memory.
        const MAXIMUM_TABLE: u64 = MIB;
        let mut sector = [0; SECTOR as usize];
        disk.seek(SeekFrom::Start(at * SECTOR))?;
        disk.read_exact(&mut sector).context("reading its header")?;
        let u32_at =
            |at: usize| u32::from_le_bytes(sector[at..at + 4].try_into().expect("4 bytes"));
        let u64_at =
            |at: usize| u64::from_le_bytes(sector[at..at + 8].try_into().expect("8 bytes"));
        ensure!(sector.starts_with(SIGNATURE), "no signature in sector {at}");
        let size = u32_at(12) as usize;
        ensure!((MINIMUM_SIZE..=sector.len()).contains(&size), "header size {size}");
        let mut header = sector[..size].to_vec();
        header[16..20].fill(0);
        ensure!(crc32fast::hash(&header) == u32_at(16), "wrong checksum of its header");
        ensure!(u64_at(24) == at, "it is at sector {at} and says {}", u64_at(24));
        let length = u64::from(u32_at(80)) * u64::from(u32_at(84));
        ensure!(length <= MAXIMUM_TABLE, "partition table of {length} bytes");
        let mut table = vec![0; length as usize];
        disk.seek(SeekFrom::Start(u64_at(72).saturating_mul(SECTOR)))?;
        disk.read_exact(&mut table).context("reading its partition table")?;
        let found = crc32fast::hash(&table);
        ensure!(found == u32_at(88), "wrong checksum of its partition table");
        Ok(Self { other: u64_at(32), table: found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt::GptConfig;
    use std::io::Cursor;
    use std::os::unix::fs::symlink;

    const SIZE: usize = 4 << 20;

    fn disk() -> Cursor<Vec<u8>> {
        let config = GptConfig::new().writable(true);
        let mut disk = config.create_from_device(Cursor::new(vec![0; SIZE]), None).unwrap();
        disk.add_partition("data", MIB, gpt::partition_types::LINUX_FS, 0, None).unwrap();
        disk.write().unwrap()
    }

    fn problem(disk: &mut Cursor<Vec<u8>>) -> String {
        format!("{:#}", check_gpt(disk).unwrap_err())
    }

    #[test]
    fn a_sound_gpt_is_ok() {
        check_gpt(&mut disk()).unwrap();
    }

    #[test]
    fn each_damage_to_the_gpt_names_the_copy() {
        let backup = SIZE - SECTOR as usize;
        let cases = [
            (SECTOR as usize, "primary: no signature in sector 1"),
            (SECTOR as usize + 60, "primary: wrong checksum of its header"),
            (2 * SECTOR as usize, "primary: wrong checksum of its partition table"),
            (backup, "backup: no signature in sector 8191"),
            (backup + 60, "backup: wrong checksum of its header"),
            (backup - 32 * SECTOR as usize, "backup: wrong checksum of its partition table"),
        ];
        for (offset, expected) in cases {
            let mut disk = disk();
            disk.get_mut()[offset] ^= 1;
            assert_eq!(problem(&mut disk), expected);
        }
    }

    #[test]
    fn a_backup_that_stayed_where_the_image_ended_is_told() {
        let mut disk = disk();
        disk.get_mut().resize(2 * SIZE, 0);
        assert_eq!(problem(&mut disk), "backup: no signature in sector 16383");
    }

    #[test]
    fn data_is_blank_only_when_both_ends_are() {
        for (offset, blank) in [(None, true), (Some(0), false), (Some(SIZE - 1), false)] {
            let mut device = Cursor::new(vec![0; SIZE]);
            if let Some(offset) = offset {
                device.get_mut()[offset] = 1;
            }
            assert_eq!(is_blank(&mut device).unwrap(), blank);
        }
        assert!(is_blank(&mut Cursor::new(vec![0; 512])).unwrap());
    }

    #[test]
    fn files_are_listed_by_name_with_mode_and_digest_and_directories_are_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        for (name, mode) in [("user-data.toml", 0o600), ("net.toml", 0o644)] {
            let path = dir.path().join(name);
            fs::write(&path, b"abc").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            describe_files(dir.path()).unwrap(),
            [
                "mode 0644 /net.toml".to_owned(),
                format!("sha256 {digest} /net.toml"),
                "mode 0600 /user-data.toml".to_owned(),
                format!("sha256 {digest} /user-data.toml"),
            ]
        );
    }

    #[test]
    fn the_private_partition_leads_to_its_disk_and_its_neighbours() {
        let sys = tempfile::tempdir().unwrap();
        let class = sys.path().join("class");
        fs::create_dir(&class).unwrap();
        for (disk, partition, name, number) in [
            ("vda", "vda12", "PARTNAME=BOTTLEROCKET-PRIVATE\n", "12\n"),
            ("vda", "vda13", "PARTN=13\n", "13\n"),
            ("vdb", "vdb1", "PARTNAME=BOTTLEROCKET-PRIVATE-OLD\n", "1\n"),
        ] {
            let path = sys.path().join("devices").join(disk).join(partition);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("uevent"), name).unwrap();
            fs::write(path.join("partition"), number).unwrap();
            symlink(&path, class.join(partition)).unwrap();
        }
        let found = find_private(&class).unwrap();
        let [private] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(device_node(private).unwrap(), Path::new("/dev/vda12"));
        let disk = private.parent().unwrap();
        assert_eq!(device_node(&partition(disk, 13).unwrap()).unwrap(), Path::new("/dev/vda13"));
        let error = partition(disk, 14).unwrap_err().to_string();
        assert!(error.contains("partition 14"), "{error}");
    }
}
