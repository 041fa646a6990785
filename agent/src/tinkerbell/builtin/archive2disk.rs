//! `archive2disk`: a tar archive into the filesystem of a partition.
//!
//! `TARFILE_CHECKSUM` is of the archive as it is served. Its `ARCHIVE_TYPE` does not count: whether
//! and how an archive is compressed is told by its first bytes. `HTTP_CLIENT_TIMEOUT_MINUTES` bounds
//! the time in which no byte comes, not the time for all of them.

use nibs_job::Task;

use super::variables::Variables;
use super::{BadInput, Inputs, image, writefile};

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let mut variables = Variables::of(inputs);
    let url =
        variables.required("ARCHIVE_URL", "where the archive is, such as http://host/os.tgz")?;
    variables.put("ARCHIVE_URL", "archive.url", url);
    if !variables.flag("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION")? {
        checksum(&mut variables)?;
    }
    let minutes = variables.text("HTTP_CLIENT_TIMEOUT_MINUTES").and_then(|text| text.parse().ok());
    if let Some(minutes) = minutes.filter(|minutes: &u64| *minutes > 0) {
        let span = format!("{minutes}m");
        variables.put("HTTP_CLIENT_TIMEOUT_MINUTES", "archive.stall-timeout", span);
    }
    image::proxies(
        &mut variables,
        ["archive.http-proxy", "archive.https-proxy", "archive.no-proxy"],
    );
    variables.copy(&[
        ("ARCHIVE_CA", "archive.ca"),
        ("ARCHIVE_CA_FILE", "archive.ca-file"),
        ("ARCHIVE_BEARER_TOKEN", "archive.bearer-token"),
    ]);
    let user = ("ARCHIVE_USERNAME", "archive.username");
    image::credentials(&mut variables, user, ("ARCHIVE_PASSWORD", "archive.password"))?;
    if let Some(path) = variables.text("DEST_PATH") {
        variables.put("DEST_PATH", "path", format!("/{}", path.trim_start_matches('/')));
    }
    if let Some(filesystem) = variables.text("FS_TYPE") {
        variables.put("FS_TYPE", "filesystem", writefile::driver(filesystem));
    }
    writefile::partition(&mut variables)?;
    variables.task("extract-archive")
}

fn checksum(variables: &mut Variables<'_>) -> Result<(), BadInput> {
    const EXPECTED: &str = "expected sha256:… or sha512:… of the archive as it is served";
    const UNLESS: &str = "or INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION=true, to trust the server";
    let text = variables.required("TARFILE_CHECKSUM", &format!("{EXPECTED}, {UNLESS}"))?;
    let (key, digest) = match text.split_once(':') {
        Some(("sha256", digest)) => ("archive.sha256", digest),
        Some(("sha512", digest)) => ("archive.sha512", digest),
        _ => return Err(BadInput(format!("TARFILE_CHECKSUM: {EXPECTED}, found {text:?}"))),
    };
    variables.put("TARFILE_CHECKSUM", key, digest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::translated;
    use super::*;

    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const BASIC: [(&str, &str); 3] = [
        ("ARCHIVE_URL", "http://h/root.tar.gz?x=1"),
        ("ARCHIVE_TYPE", "TarGz"),
        ("DEST_DISK", "/dev/sda3"),
    ];

    fn with(more: &[(&str, &str)]) -> Result<Task, String> {
        translated(translate, &[&BASIC[..], more].concat())
    }

    #[test]
    fn the_originals_variables_make_the_same_of_it() {
        let checksum = format!("sha256:{SHA256}");
        let made = with(&[
            ("TARFILE_CHECKSUM", &checksum),
            ("FS_TYPE", "ext4"),
            ("DEST_PATH", "opt/os"),
            ("HTTP_CLIENT_TIMEOUT_MINUTES", "30"),
            ("HTTPS_PROXY", "http://proxy:3128"),
        ]);
        let archive = json!({
            "url": "http://h/root.tar.gz?x=1", "sha256": SHA256, "stall-timeout": "30m",
            "https-proxy": "http://proxy:3128",
        });
        let partition = json!({ "path": "/dev/sda3" });
        let expected = json!({
            "archive": archive, "partition": partition, "filesystem": "ext4", "path": "/opt/os",
        });
        assert_eq!(made, Ok(Task::decode("extract-archive", expected).unwrap()));

        let insecure = [
            ("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION", "true"),
            ("TARFILE_CHECKSUM", "sha256:of-something-else"),
            ("HTTP_CLIENT_TIMEOUT_MINUTES", "soon"),
        ];
        let archive = json!({ "url": "http://h/root.tar.gz?x=1" });
        let expected = json!({ "archive": archive, "partition": { "path": "/dev/sda3" } });
        assert_eq!(with(&insecure), Ok(Task::decode("extract-archive", expected).unwrap()));
    }

    #[test]
    fn what_cannot_be_is_told_of_the_variable_that_says_it() {
        let checksum = format!("sha256:{SHA256}");
        let proven = ("TARFILE_CHECKSUM", &*checksum);
        for (more, says) in [
            (&[("ARCHIVE_URL", ""), proven][..], "ARCHIVE_URL is missing"),
            (&[], "TARFILE_CHECKSUM is missing: expected sha256:…"),
            (&[("TARFILE_CHECKSUM", SHA256)], "TARFILE_CHECKSUM: expected sha256:…"),
            (&[("TARFILE_CHECKSUM", "sha256:12")], "TARFILE_CHECKSUM: \"12\" is not a digest"),
            (&[proven, ("DEST_DISK", "")], "DEST_DISK is missing"),
            (&[proven, ("DISK_WWN", "0x5")], "DISK_WWN: DEST_DISK is the path of a partition"),
            (&[proven, ("FS_TYPE", "ntfs")], "FS_TYPE: name `ntfs` is not known"),
            (&[proven, ("DEST_PATH", "/a/../..")], "path \"/a/../..\" must be absolute"),
            (
                &[("INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION", "sure")],
                "INSECURE_NO_TARFILE_CHECKSUM_VERIFICATION: expected true or false",
            ),
        ] {
            let error = with(more).unwrap_err();
            assert!(error.starts_with(says), "{says}: {error}");
        }
    }
}
