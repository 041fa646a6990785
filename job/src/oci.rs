//! References to images in OCI registries, as URLs: `oci://registry/repository:tag` and
//! `oci://registry/repository@sha256:…`.
//!
//! The grammar of names, tags and digests is that of the OCI Distribution Specification 1.1,
//! "Pulling manifests"; the schemes are ours. Nothing is filled in: a registry is always named.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::HexDigest;

/// Scheme of a registry that speaks HTTPS.
const HTTPS: &str = "oci";
/// Scheme of a registry that speaks plain HTTP.
const HTTP: &str = "oci+http";

/// The longest tag that registries take, characters.
const MAX_TAG: usize = 128;

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciReference {
    /// Host of the registry, with its port if one is given.
    pub registry: String,
    /// Name of the repository, such as `os/bottlerocket`.
    pub repository: String,
    /// Which of the repository's manifests.
    pub version: OciVersion,
    /// Whether the registry is spoken to without TLS.
    pub plain_http: bool,
}

/// What names a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OciVersion {
    /// A name that may come to mean another manifest.
    Tag(String),
    /// The SHA-256 of the manifest.
    Digest(HexDigest<32>),
}

impl OciReference {
    /// Whether a URL with this scheme is such a reference.
    pub(crate) fn has_scheme(scheme: &str) -> bool {
        [HTTPS, HTTP].contains(&scheme)
    }

    /// Where the registry's API is.
    pub fn api(&self) -> String {
        let scheme = if self.plain_http { "http" } else { "https" };
        format!("{scheme}://{}/v2/{}", self.registry, self.repository)
    }
}

impl FromStr for OciReference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected oci://REGISTRY/REPOSITORY:TAG or …@sha256:DIGEST";
        let url = Url::parse(text).map_err(|e| format!("not a URL ({e}); {EXPECTED}"))?;
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        let host = url.host_str().filter(|host| !host.is_empty());
        let (true, true, Some(host)) = (Self::has_scheme(url.scheme()), bare, host) else {
            return Err(format!("no reference to a registry; {EXPECTED}"));
        };
        let registry = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let path = url.path().trim_start_matches('/');
        let (repository, version) = match path.split_once('@') {
            Some((name, digest)) => {
                let hex = digest
                    .strip_prefix("sha256:")
                    .ok_or_else(|| format!("digest {digest:?} is not sha256; {EXPECTED}"))?;
                // A tag beside a digest says nothing more.
                let name = name.split_once(':').map_or(name, |(name, _)| name);
                (name, OciVersion::Digest(hex.parse()?))
            }
            None => match path.split_once(':') {
                Some((name, tag)) => (name, OciVersion::Tag(tag.to_owned())),
                None => return Err(format!("neither a tag nor a digest; {EXPECTED}")),
            },
        };
        if !is_repository(repository) {
            return Err(format!("repository {repository:?} is not valid; {EXPECTED}"));
        }
        if let OciVersion::Tag(tag) = &version
            && !is_tag(tag)
        {
            return Err(format!("tag {tag:?} is not valid; {EXPECTED}"));
        }
        let plain_http = url.scheme() == HTTP;
        Ok(Self { registry, repository: repository.to_owned(), version, plain_http })
    }
}

fn is_repository(name: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.split('/').all(|part| {
        let bytes = part.as_bytes();
        let ends = bytes.first().zip(bytes.last());
        ends.is_some_and(|(first, last)| alphanumeric(*first) && alphanumeric(*last))
            && bytes.iter().all(|byte| alphanumeric(*byte) || b"._-".contains(byte))
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || b".-".contains(&byte))
}

impl fmt::Display for OciVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "sha256:{digest}"),
        }
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.plain_http { HTTP } else { HTTPS };
        let before = match self.version {
            OciVersion::Tag(_) => ':',
            OciVersion::Digest(_) => '@',
        };
        write!(f, "{scheme}://{}/{}{before}{}", self.registry, self.repository, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn references_are_read_and_written() {
        for text in [
            "oci://registry.example/os/demo:1.2".to_owned(),
            "oci://registry.example:5000/demo:latest".to_owned(),
            "oci+http://127.0.0.1:5000/a/b-c/d_e:v1".to_owned(),
            format!("oci://registry.example/demo@sha256:{DIGEST}"),
        ] {
            assert_eq!(text.parse::<OciReference>().unwrap().to_string(), text);
        }
        let both: OciReference = format!("oci://r.example/demo:1@sha256:{DIGEST}").parse().unwrap();
        assert_eq!(both.repository, "demo");
        let plain: OciReference = "oci+http://127.0.0.1:5000/demo:1".parse().unwrap();
        assert_eq!(plain.api(), "http://127.0.0.1:5000/v2/demo");
    }

    #[test]
    fn what_no_registry_could_have_is_refused() {
        for (text, why) in [
            ("oci://registry.example/demo", "neither a tag nor a digest"),
            ("oci://registry.example/:1", "repository"),
            ("oci://registry.example/Demo:1", "repository"),
            ("oci://registry.example/a//b:1", "repository"),
            ("oci://registry.example/demo:", "tag"),
            ("oci://registry.example/demo:a/b", "tag"),
            ("oci://registry.example/demo@md5:00", "not sha256"),
            ("oci://registry.example/demo@sha256:00", "64"),
            ("oci://me:secret@registry.example/demo:1", "no reference"),
            ("oci:demo", "no reference"),
        ] {
            let error = text.parse::<OciReference>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
