//! Who a container's program is, by the files of its image.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The longest file that is read, bytes: users and groups by the ten thousands.
const LONGEST: u64 = 1 << 20;

/// A user, and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Its other groups.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

impl User {
    /// The user `NAME-OR-ID[:GROUP-OR-ID]` of an image's configuration, in the root of the calling
    /// thread; root if it is empty.
    pub(super) fn look_up(named: &str) -> Result<Self, String> {
        Self::of(named, &read("/etc/passwd")?, &read("/etc/group")?)
    }

    /// passwd(5), group(5).
    fn of(named: &str, passwd: &str, group: &str) -> Result<Self, String> {
        let (user, of_group) = match named.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (named, None),
        };
        let user = if user.is_empty() { "0" } else { user };
        let id: Option<u32> = user.parse().ok();
        let field = |line: &[&str], at: usize| line.get(at).copied().unwrap_or_default().to_owned();
        let known = lines(passwd).find(|line| {
            field(line, 0) == user || id.is_some_and(|id| field(line, 2) == id.to_string())
        });
        let (uid, own_group, name, home) = match (&known, id) {
            (Some(line), _) => {
                let number = |at| field(line, at).parse().map_err(|_| broken("/etc/passwd", line));
                (number(2)?, number(3)?, field(line, 0), field(line, 5))
            }
            (None, Some(id)) => (id, 0, String::new(), String::new()),
            (None, None) => return Err("it is not in the image's /etc/passwd".into()),
        };
        let gid = match of_group {
            None | Some("") => own_group,
            Some(group_name) => match group_name.parse() {
                Ok(id) => id,
                Err(_) => {
                    let line = lines(group).find(|line| field(line, 0) == group_name);
                    let line = line.ok_or_else(|| {
                        format!("its group {group_name:?} is not in the image's /etc/group")
                    })?;
                    field(&line, 2).parse().map_err(|_| broken("/etc/group", &line))?
                }
            },
        };
        // A group that is named stands alone.
        let is_member = |line: &Vec<&str>| {
            of_group.is_none()
                && !name.is_empty()
                && field(line, 3).split(',').any(|member| member == name)
        };
        let groups = lines(group).filter(is_member).filter_map(|line| field(&line, 2).parse().ok());
        let home = if home.is_empty() { "/".into() } else { home };
        Ok(Self { uid, gid, groups: groups.collect(), home })
    }
}

/// A file of an image; empty if none is there. An image may have anything in its place, of which a
/// FIFO would never be open and a device never be read.
fn read(path: impl AsRef<Path>) -> Result<String, String> {
    let path = path.as_ref();
    let failed = |cause: std::io::Error| format!("reading the image's {}: {cause}", path.display());
    match path.metadata() {
        Ok(found) if !found.is_file() => {
            return Err(format!("expected a file at the image's {}", path.display()));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        found => found.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("the image's {} has more than {LONGEST} bytes", path.display()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn lines(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(|line| line.split(':').collect())
}

fn broken(file: &str, line: &[&str]) -> String {
    format!("its line in the image's {file} has no id: {:?}", line.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnats:x:1000:1001::/home/nats:/bin/sh\n";
    const GROUP: &str = "root:x:0:root\ndisk:x:6:root,nats\nnats:x:1001:\n";

    #[test]
    fn users_are_found_by_name_and_by_number() {
        for (named, uid, gid, groups, home) in [
            ("", 0, 0, vec![0, 6], "/root"),
            ("nats", 1000, 1001, vec![6], "/home/nats"),
            ("1000", 1000, 1001, vec![6], "/home/nats"),
            ("nats:disk", 1000, 6, vec![], "/home/nats"),
            ("1000:50", 1000, 50, vec![], "/home/nats"),
            ("4242", 4242, 0, vec![], "/"),
        ] {
            let user = User::of(named, PASSWD, GROUP).unwrap();
            assert_eq!((user.uid, user.gid, &*user.home), (uid, gid, home), "{named}");
            assert_eq!(user.groups, groups, "{named}");
        }
        for (named, why) in [
            ("nobody", "not in the image's /etc/passwd"),
            ("root:nobody", "\"nobody\" is not in the image's /etc/group"),
        ] {
            let error = User::of(named, PASSWD, GROUP).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(User::of("", "", "").unwrap().home, "/");
    }

    #[test]
    fn only_files_of_a_moderate_length_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwd");
        assert_eq!(read(&path).unwrap(), "");
        std::fs::write(&path, b"r\xf6ot\n").unwrap();
        assert_eq!(read(&path).unwrap(), "r\u{fffd}ot\n");
        File::create(&path).unwrap().set_len(LONGEST).unwrap();
        assert_eq!(read(&path).unwrap().len() as u64, LONGEST);
        File::create(&path).unwrap().set_len(LONGEST + 1).unwrap();
        assert!(read(&path).unwrap_err().contains("has more than 1048576 bytes"));
        for other in ["/dev/null", "/dev"] {
            assert!(read(other).unwrap_err().contains("expected a file at the image's /dev"));
        }
    }
}
