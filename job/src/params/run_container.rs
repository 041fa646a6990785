//! `run-container`: a container image's program, on the machine itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{OciReference, Secret, Span};

/// How long a registry may bring no byte before that try has failed.
pub const DEFAULT_PULL_STALL_TIMEOUT: Span = Span(Duration::from_secs(30));

/// Runs the program of a container image: privileged, in its own mount namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    expecting = "a table with at least image"
)]
pub struct RunContainer {
    /// The image as Docker names it, such as `quay.io/tinkerbell/actions/cexec:latest`; with
    /// `@sha256:…` only that manifest will do.
    pub image: ImageName,
    /// What the container is called. Default: made from the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Arguments in place of the image's `CMD`; its `ENTRYPOINT` stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Environment beside the image's. Values may be secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Secret>,
    /// What of the machine is seen inside: `SOURCE:DESTINATION[:ro]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Which processes it sees.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pid: PidNamespace,
    /// Which network it has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub network: NetworkNamespace,
    /// User of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password of that user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Registries, `HOST[:PORT]`, whose certificates are not checked, and which may do without TLS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub insecure_registries: Vec<String>,
    /// Where the image is unpacked: a directory, or a device with a filesystem. Default: in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<PathBuf>,
    /// How long the registry may bring no byte before that try has failed.
    #[serde(default = "default_stall_timeout")]
    pub stall_timeout: Span,
}

/// An image as Docker names it: `[REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST]`. Without a registry it
/// is one of Docker Hub, without a tag and a digest it is `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName {
    text: String,
    /// Where it is.
    pub reference: OciReference,
}

/// A directory or file of the machine that is seen inside of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Volume {
    /// What of the machine.
    pub source: VolumeSource,
    /// Where in the container. Absolute, without `..`.
    pub destination: PathBuf,
    /// Whether nothing may be written to it.
    pub read_only: bool,
}

/// What of the machine a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// An absolute path. A directory is made where nothing is.
    Path(PathBuf),
    /// A directory that lasts as long as the machine is up, by its name.
    Named(String),
}

/// Which processes a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PidNamespace {
    /// Its own only.
    #[default]
    Own,
    /// All of the machine's.
    Host,
}

/// Which network a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NetworkNamespace {
    /// The machine's.
    #[default]
    Host,
    /// None but a loopback interface, which is down.
    None,
}

impl RunContainer {
    /// Fails, in words, if what was put together cannot be meant; decoding has done so already.
    pub fn checked(self) -> Result<Self, String> {
        if self.username.is_some() != self.password.is_some() {
            return Err("username and password belong together; one is missing".into());
        }
        if let Some(name) = &self.name {
            checked_name(name)?;
        }
        if let Some(key) =
            self.environment.keys().find(|key| key.is_empty() || key.contains(['=', '\0']))
        {
            return Err(format!("environment: {key:?} is no name of a variable"));
        }
        if self.scratch.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err("scratch: expected an absolute path".into());
        }
        Ok(self)
    }
}

checked_on_decode!(RunContainer);

/// Docker's rule for names of containers.
fn checked_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "name: {name:?} is no name of a container; expected letters, digits, `_`, `.` or `-`, \
         beginning with a letter or a digit"
    ))
}

impl FromStr for ImageName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const HUB: &str = "registry-1.docker.io";
        let wrong = |cause: &str| {
            format!(
                "{text:?} is no image: {cause}; expected [REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST]"
            )
        };
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '?' || c == '#') {
            return Err(wrong("it is empty or has a character that no image has"));
        }
        // Docker's rule: what could not be part of a name on Docker Hub is a registry.
        let (registry, rest) = match text.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => {
                (first, rest.to_owned())
            }
            Some(_) => ("docker.io", text.to_owned()),
            None => ("docker.io", format!("library/{text}")),
        };
        let registry = match registry {
            "docker.io" | "index.docker.io" => HUB,
            other => other,
        };
        let named = rest.contains('@') || rest.contains(':');
        let tag = if named { "" } else { ":latest" };
        let url = format!("oci://{registry}/{rest}{tag}");
        let reference = url
            .parse()
            .map_err(|error: String| wrong(error.split(';').next().unwrap_or_default()))?;
        Ok(Self { text: text.to_owned(), reference })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected SOURCE:DESTINATION[:ro]";
        let mut parts = text.split(':');
        let (Some(source), Some(destination), options, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(format!("volume {text:?}: {EXPECTED}"));
        };
        let destination = PathBuf::from(destination);
        let climbs = destination.components().any(|part| part == Component::ParentDir);
        if !destination.is_absolute() || climbs || destination == Path::new("/") {
            return Err(format!(
                "volume {text:?}: its destination is no absolute path below /; {EXPECTED}"
            ));
        }
        let source = if source.starts_with('/') {
            VolumeSource::Path(source.into())
        } else {
            checked_name(source).map_err(|_| {
                format!(
                    "volume {text:?}: its source is neither an absolute path nor a name; {EXPECTED}"
                )
            })?;
            VolumeSource::Named(source.to_owned())
        };
        let mut read_only = false;
        for option in options.unwrap_or_default().split(',') {
            match option {
                "ro" => read_only = true,
                // What is so in any case, and what says something of SELinux only. What is mounted in
                // a volume never shows up on the machine, so `shared` would be a promise not kept.
                "" | "rw" | "z" | "Z" | "nocopy" | "private" | "rprivate" | "slave" | "rslave" => {}
                other => {
                    return Err(format!(
                        "volume {text:?}: option {other:?} is not known; expected ro or rw"
                    ));
                }
            }
        }
        Ok(Self { source, destination, read_only })
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            VolumeSource::Path(path) => write!(f, "{}", path.display())?,
            VolumeSource::Named(name) => f.write_str(name)?,
        }
        let option = if self.read_only { ":ro" } else { "" };
        write!(f, ":{}{option}", self.destination.display())
    }
}

impl TryFrom<String> for ImageName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Volume {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.text
    }
}

impl From<Volume> for String {
    fn from(volume: Volume) -> Self {
        volume.to_string()
    }
}

fn default_stall_timeout() -> Span {
    DEFAULT_PULL_STALL_TIMEOUT
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_where_docker_would_find_them() {
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let pinned = format!("quay.io/a/b:v1@sha256:{digest}");
        for (text, url) in [
            ("alpine", "oci://registry-1.docker.io/library/alpine:latest"),
            ("alpine:3.20", "oci://registry-1.docker.io/library/alpine:3.20"),
            ("jacob/waitdaemon", "oci://registry-1.docker.io/jacob/waitdaemon:latest"),
            ("docker.io/library/alpine", "oci://registry-1.docker.io/library/alpine:latest"),
            ("127.0.0.1/embedded/cexec", "oci://127.0.0.1/embedded/cexec:latest"),
            ("localhost/a", "oci://localhost/a:latest"),
            ("registry:5000/a:1", "oci://registry:5000/a:1"),
            (&pinned[..], &format!("oci://quay.io/a/b@sha256:{digest}")[..]),
        ] {
            let name: ImageName = text.parse().unwrap();
            assert_eq!(name.reference.to_string(), url, "{text}");
            assert_eq!(name.to_string(), text);
        }
        for text in ["", "a b", "quay.io/A", "quay.io/a@sha256:00", "quay.io/", "a?b", "quay.io/a:"]
        {
            let error = text.parse::<ImageName>().unwrap_err();
            assert!(error.contains("expected [REGISTRY/]"), "{text}: {error}");
        }
    }

    #[test]
    fn volumes_are_read_and_written() {
        for text in ["/dev:/dev", "/lib/firmware:/lib/firmware:ro", "state:/state"] {
            assert_eq!(text.parse::<Volume>().unwrap().to_string(), text);
        }
        assert_eq!("/a:/b:rw,z".parse::<Volume>().unwrap().to_string(), "/a:/b");
        for (text, why) in [
            ("/dev", "expected SOURCE"),
            ("/dev:dev", "no absolute path below /"),
            ("/dev:/", "no absolute path below /"),
            ("/dev:/a/../..", "no absolute path below /"),
            ("../dev:/dev", "neither an absolute path nor a name"),
            (":/dev", "neither an absolute path nor a name"),
            ("/a:/b:rshared", "\"rshared\" is not known"),
            ("/a:/b:ro:rw", "expected SOURCE"),
        ] {
            let error = text.parse::<Volume>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
