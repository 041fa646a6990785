//! `writefile`: one file into the filesystem of a partition.
//!
//! Also what EKS Anywhere's templates ask of it, in variables that its image lost (PR 4870 of
//! eks-anywhere-build-tooling took the patches out): a file of Bottlerocket's private partition, made
//! of text, of a metadata service's answer, or of the machine's DHCP lease. Those files are checked
//! before they are written, and go to the private partition whatever its number; their mode is 0600.

use std::path::Path;

use nibs_actions::disk::split_partition_path;
use nibs_job::Task;
use serde_json::{Map, Value, json};

use super::variables::Variables;
use super::{BadInput, Inputs, target};

/// How long a DHCP server is asked.
const DHCP_TIMEOUT: &str = "2m";

/// What a metadata service's user data was called in EKS Anywhere's first templates.
const HEGEL_URL: &str = "HEGEL_URL";

/// Variables that choose among partitions, and the keys that they become.
const PARTITIONS: [(&str, &str); 3] = [
    ("PARTITION_NAME", "partition.name"),
    ("PARTITION_TYPE_GUID", "partition.type-guid"),
    ("PARTITION_LABEL", "partition.label"),
];
const NUMBER: &str = "PARTITION_NUMBER";

/// What says what the file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Contents,
    Bootconfig,
    Hegel,
    StaticBottlerocket,
    StaticNetplan,
}

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let mut variables = Variables::of(inputs);
    let source = source(&variables)?;
    let path = variables.required("DEST_PATH", "where the file goes, such as /etc/hostname")?;
    let path = plain(path)?;
    let file = file(&mut variables, &path)?;
    match source {
        Source::Bootconfig => {
            bottlerocket(&mut variables, &path, "/bootconfig.data", "BOOTCONFIG_CONTENTS")?;
            variables.copy(&[("BOOTCONFIG_CONTENTS", "bootconfig.content")]);
            variables.task("bottlerocket")
        }
        Source::Hegel => {
            bottlerocket(&mut variables, &path, "/user-data.toml", "HEGEL_URLS")?;
            let urls = variables.text("HEGEL_URLS").or(variables.text(HEGEL_URL));
            let urls = urls.unwrap_or_default().split(',').map(str::trim);
            let urls: Vec<&str> = urls.filter(|url| !url.is_empty()).collect();
            variables.put("HEGEL_URLS", "user-data.metadata", urls);
            variables.task("bottlerocket")
        }
        Source::StaticBottlerocket => {
            bottlerocket(&mut variables, &path, "/net.toml", "STATIC_BOTTLEROCKET")?;
            variables.put("STATIC_BOTTLEROCKET", "net.from", "lease");
            let timeout = variables.text("DHCP_TIMEOUT").unwrap_or(DHCP_TIMEOUT);
            variables.put("DHCP_TIMEOUT", "net.timeout", timeout);
            variables.task("bottlerocket")
        }
        Source::Contents => {
            let contents = variables.text("CONTENTS").unwrap_or_default();
            write(variables, file, "content", contents.into())
        }
        Source::StaticNetplan => {
            let timeout = variables.text("DHCP_TIMEOUT").unwrap_or(DHCP_TIMEOUT);
            let mut netplan = json!({ "timeout": timeout });
            variables.place("DHCP_TIMEOUT", "files[0].netplan.timeout");
            if let Some(interface) = variables.text("IFNAME") {
                netplan["interface"] = interface.into();
            }
            write(variables, file, "netplan", netplan)
        }
    }
}

/// What says what the file holds; an empty file if nothing does.
fn source(variables: &Variables<'_>) -> Result<Source, BadInput> {
    let says = |name: &str| variables.text(name).is_some();
    let all = [
        ("CONTENTS", says("CONTENTS"), Source::Contents),
        ("BOOTCONFIG_CONTENTS", says("BOOTCONFIG_CONTENTS"), Source::Bootconfig),
        ("HEGEL_URLS", says("HEGEL_URLS") || says(HEGEL_URL), Source::Hegel),
        ("STATIC_BOTTLEROCKET", variables.flag("STATIC_BOTTLEROCKET")?, Source::StaticBottlerocket),
        ("STATIC_NETPLAN", variables.flag("STATIC_NETPLAN")?, Source::StaticNetplan),
    ];
    let given: Vec<_> = all.iter().filter(|(_, is_given, _)| *is_given).collect();
    match given[..] {
        [] => Ok(Source::Contents),
        [(_, _, source)] => Ok(*source),
        _ => {
            let names: Vec<_> = given.iter().map(|(name, ..)| *name).collect();
            let names = names.join(" and ");
            Err(BadInput(format!("{names} all say what the file holds; expected one of them")))
        }
    }
}

/// A path without what has no meaning in it, such as a doubled slash.
fn plain(path: &str) -> Result<String, BadInput> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(BadInput(format!(
            "DEST_PATH: expected the absolute path of a file, such as /etc/hostname, found {path:?}"
        )));
    }
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    Ok(parts.fold(String::new(), |plain, part| plain + "/" + part))
}

/// The file without what it holds. All four of its owner and modes have to be said.
fn file(variables: &mut Variables<'_>, path: &str) -> Result<Map<String, Value>, BadInput> {
    let mut file = Map::new();
    file.insert("path".into(), path.into());
    variables.place("DEST_PATH", "files[0]");
    for (name, key) in [("UID", "uid"), ("GID", "gid")] {
        let text = variables.required(name, "the number of the file's owner, such as 0")?;
        let number: u32 = text.parse().map_err(|_| {
            BadInput(format!("{name}: expected a number, such as 0, found {text:?}"))
        })?;
        file.insert(key.into(), number.into());
    }
    for (name, key) in [("MODE", "mode"), ("DIRMODE", "directory-mode")] {
        let text = variables.required(name, "octal permissions, such as 0644")?;
        let mode: Result<nibs_job::params::Mode, String> = text.parse();
        mode.map_err(|error| BadInput(format!("{name}: {error}")))?;
        file.insert(key.into(), text.into());
    }
    Ok(file)
}

fn write(
    mut variables: Variables<'_>,
    mut file: Map<String, Value>,
    key: &str,
    content: Value,
) -> Result<Task, BadInput> {
    file.insert(key.into(), content);
    variables.put("CONTENTS", "files", vec![Value::Object(file)]);
    if let Some(filesystem) = variables.text("FS_TYPE") {
        variables.put("FS_TYPE", "filesystem", driver(filesystem));
    }
    partition(&mut variables)?;
    variables.task("write-files")
}

/// The partition, by its path or by what it is.
pub(super) fn partition(variables: &mut Variables<'_>) -> Result<(), BadInput> {
    if let Some(path) = target::device(variables, "DEST_DISK")? {
        // A path may be of what is on no disk, so nothing is held against it.
        let mut names = [NUMBER].into_iter().chain(PARTITIONS.map(|(name, _)| name));
        let says = |name: &&str| variables.text(name).is_some();
        if let Some(other) = names.find(says).or(target::selecting(variables)) {
            return Err(BadInput(format!(
                "{other}: DEST_DISK is the path of a partition, {path:?}; expected either that or \
                 what chooses among disks and partitions"
            )));
        }
        variables.put("DEST_DISK", "partition.path", path);
        return Ok(());
    }
    variables.copy(&PARTITIONS);
    if let Some(text) = variables.text(NUMBER) {
        let number: u32 = text
            .parse()
            .map_err(|_| BadInput(format!("{NUMBER}: expected a number from 1, found {text:?}")))?;
        variables.put(NUMBER, "partition.number", number);
    } else if PARTITIONS.iter().all(|(name, _)| variables.text(name).is_none()) {
        let others = PARTITIONS.map(|(name, _)| name).join(", ");
        return Err(BadInput(format!(
            "DEST_DISK is missing: which partition is written, such as /dev/sda1; or one of \
             {NUMBER}, {others}"
        )));
    }
    target::selectors(variables)
}

/// The driver that mounts what the original would have mounted by this name.
pub(super) fn driver(name: &str) -> &str {
    match name {
        "ext2" | "ext3" => "ext4",
        "msdos" => "vfat",
        other => other,
    }
}

/// The disk that Bottlerocket is on, for a file of its private partition.
fn bottlerocket(
    variables: &mut Variables<'_>,
    path: &str,
    expected: &str,
    by: &str,
) -> Result<(), BadInput> {
    if path != expected {
        return Err(BadInput(format!(
            "DEST_PATH: {by} is about Bottlerocket's {expected}, found {path:?}"
        )));
    }
    if let Some(partition) = target::device(variables, "DEST_DISK")? {
        let disk = split_partition_path(Path::new(partition)).map(|(disk, _)| disk);
        let disk = disk.map_or(partition.into(), |disk| disk.to_string_lossy().into_owned());
        variables.put("DEST_DISK", "disk.path", disk);
    }
    target::selectors(variables)
}

#[cfg(test)]
mod tests {
    use super::super::tests::translated;
    use super::*;

    const OWNER: [(&str, &str); 4] =
        [("UID", "0"), ("GID", "0"), ("MODE", "0644"), ("DIRMODE", "0700")];

    fn with(more: &[(&str, &str)]) -> Result<Task, String> {
        translated(translate, &[&OWNER[..], more].concat())
    }

    fn task(uses: &str, with: Value) -> Result<Task, String> {
        Ok(Task::decode(uses, with).unwrap())
    }

    #[test]
    fn the_originals_variables_make_the_same_of_it() {
        for (path, contents, filesystem, expected) in [
            ("/etc/hostname", "node\n", "ext4", "ext4"),
            ("/etc//./hostname", "", "ext3", "ext4"),
            ("/etc/hostname", "{\"a\": 1}", "xfs", "xfs"),
        ] {
            let made = with(&[
                ("DEST_DISK", "/dev/sda1"),
                ("FS_TYPE", filesystem),
                ("DEST_PATH", path),
                ("CONTENTS", contents),
            ]);
            let file = json!({
                "path": "/etc/hostname", "content": contents,
                "mode": "0644", "directory-mode": "0700", "uid": 0, "gid": 0,
            });
            let partition = json!({ "path": "/dev/sda1" });
            let with = json!({ "partition": partition, "filesystem": expected, "files": [file] });
            assert_eq!(made, task("write-files", with));
        }
    }

    #[test]
    fn a_partition_can_be_chosen_by_what_it_is() {
        let made = with(&[
            ("DISK_SERIAL", "S1"),
            ("PARTITION_NUMBER", "3"),
            ("PARTITION_LABEL", "root"),
            ("DEST_PATH", "/a"),
        ]);
        let file = json!({ "path": "/a", "content": "", "directory-mode": "0700" });
        let partition = json!({ "number": 3, "label": "root" });
        let with = json!({ "disk": { "serial": "S1" }, "partition": partition, "files": [file] });
        assert_eq!(made, task("write-files", with));
    }

    #[test]
    fn what_chooses_among_disks_is_held_against_a_path_or_refused_beside_it() {
        let on = [("DEST_DISK", "/dev/sda12"), ("DISK_SERIAL", "S1")];
        let with_net = [("DEST_PATH", "/net.toml"), ("STATIC_BOTTLEROCKET", "true")];
        let disk = json!({ "path": "/dev/sda", "serial": "S1" });
        let net = json!({ "from": "lease", "timeout": "2m" });
        assert_eq!(
            with(&[&on[..], &with_net].concat()),
            task("bottlerocket", json!({ "disk": disk, "net": net }))
        );
        for beside in [
            ("DISK_SERIAL", "S1"),
            ("DISK_BY_ID", "nvme-x"),
            ("DISK_MIN_SIZE", "1G"),
            ("PARTITION_NUMBER", "3"),
            ("PARTITION_LABEL", "root"),
        ] {
            let file = [("DEST_DISK", "/dev/sda1"), ("DEST_PATH", "/a"), beside];
            let error = with(&file).unwrap_err();
            let says = format!("{}: DEST_DISK is the path of a partition, \"/dev/sda1\"", beside.0);
            assert!(error.starts_with(&says), "{error}");
        }
    }

    /// The actions of EKS Anywhere's template for Bottlerocket, and of its first release.
    #[test]
    fn the_variables_that_were_lost_work_again() {
        let on = [("DEST_DISK", "/dev/nvme0n1p12"), ("FS_TYPE", "ext4")];
        let disk = json!({ "path": "/dev/nvme0n1" });
        let made =
            |path, more: &[(&str, &str)]| with(&[&on[..], &[("DEST_PATH", path)], more].concat());
        let bootconfig = "kernel { console = \"tty0\", \"ttyS0,115200n8\" }";
        assert_eq!(
            made("/bootconfig.data", &[("BOOTCONFIG_CONTENTS", bootconfig)]),
            task("bottlerocket", json!({ "disk": disk, "bootconfig": { "content": bootconfig } }))
        );
        let services = ["http://10.0.0.1:50061", "http://10.0.0.2:7172"];
        let asked =
            task("bottlerocket", json!({ "disk": disk, "user-data": { "metadata": services } }));
        let urls = format!("{}, {}", services[0], services[1]);
        assert_eq!(made("/user-data.toml", &[("HEGEL_URLS", &urls)]), asked);
        let asked = task(
            "bottlerocket",
            json!({ "disk": disk, "user-data": { "metadata": [services[0]] } }),
        );
        assert_eq!(made("/user-data.toml", &[("HEGEL_URL", services[0])]), asked);
        for (timeout, expected) in [("", "2m"), ("30s", "30s"), ("1m30s", "1m 30s")] {
            let more =
                [("STATIC_BOTTLEROCKET", "true"), ("IFNAME", "eno1"), ("DHCP_TIMEOUT", timeout)];
            let net = json!({ "from": "lease", "timeout": expected });
            assert_eq!(
                made("/net.toml", &more),
                task("bottlerocket", json!({ "disk": disk, "net": net }))
            );
        }
        let file = json!({
            "path": "/etc/netplan/config.yaml", "directory-mode": "0700",
            "netplan": { "interface": "eno1" },
        });
        let partition = json!({ "path": "/dev/nvme0n1p12" });
        assert_eq!(
            made("/etc/netplan/config.yaml", &[("STATIC_NETPLAN", "true"), ("IFNAME", "eno1")]),
            task(
                "write-files",
                json!({ "partition": partition, "filesystem": "ext4", "files": [file] })
            )
        );
    }

    #[test]
    fn what_cannot_be_is_told_of_the_variable_that_says_it() {
        let on = [("DEST_DISK", "/dev/sda1"), ("DEST_PATH", "/a")];
        for (more, says) in [
            (&[("DEST_PATH", "")][..], "DEST_PATH is missing"),
            (&[("DEST_PATH", "a")], "DEST_PATH: expected the absolute path of a file"),
            (&[("DEST_PATH", "/a/")], "DEST_PATH: expected the absolute path of a file"),
            (&[("DEST_PATH", "/a/../b")], "DEST_PATH: path \"/a/../b\" must be absolute"),
            (&[("UID", "")], "UID is missing"),
            (&[("GID", "root")], "GID: expected a number, such as 0, found \"root\""),
            (&[("MODE", "")], "MODE is missing: octal"),
            (&[("MODE", "rw")], "MODE: \"rw\" is no mode"),
            (&[("DIRMODE", "0o755")], "DIRMODE: \"0o755\" is no mode"),
            (&[("FS_TYPE", "zfs")], "FS_TYPE: name `zfs` is not known"),
            (&[("DEST_DISK", "")], "DEST_DISK is missing: which partition"),
            (&[("DEST_DISK", "sda1")], "DEST_DISK: expected the path of a device"),
            (&[("STATIC_NETPLAN", "on")], "STATIC_NETPLAN: expected true or false"),
            (
                &[("CONTENTS", "hunter2"), ("HEGEL_URLS", "http://h")],
                "CONTENTS and HEGEL_URLS all say",
            ),
            (&[("HEGEL_URLS", "http://h")], "DEST_PATH: HEGEL_URLS is about Bottlerocket's"),
            (
                &[("HEGEL_URLS", "h:7172"), ("DEST_PATH", "/user-data.toml")],
                "user-data.metadata[0]: ",
            ),
            (
                &[("STATIC_NETPLAN", "1"), ("DHCP_TIMEOUT", "soon")],
                "DHCP_TIMEOUT: \"soon\" is not a duration",
            ),
        ] {
            let error = with(&[&on[..], more].concat()).unwrap_err();
            assert!(error.starts_with(says) && !error.contains("hunter2"), "{says}: {error}");
        }
    }
}
