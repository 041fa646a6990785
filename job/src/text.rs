//! Text that must not be shown whole: contents that may hold secrets, and URLs that may.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::OciReference;

/// Text whose contents stay out of logs: only its length is shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes text into custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for its one use.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

/// Where bytes come from: `http://`, `https://`, `file://`, `oci://` or `oci+http://` URL, or an
/// absolute path.
///
/// `Display` and `Debug` leave out user, password and query, which may hold secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Location {
    /// Fetched over HTTP or HTTPS.
    Http(Url),
    /// A file on this machine.
    File(PathBuf),
    /// A layer in an OCI registry.
    Oci(OciReference),
}

impl TryFrom<String> for Location {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::File(PathBuf::from(text)));
        }
        const EXPECTED: &str =
            "expected http://…, https://…, oci://…, file:///… or an absolute path";
        let url = Url::parse(&text).map_err(|e| format!("not a URL ({e}); {EXPECTED}"))?;
        match url.scheme() {
            "http" | "https" => Ok(Self::Http(url)),
            "file" => url
                .to_file_path()
                .map(Self::File)
                .map_err(|()| format!("names another host or no path; {EXPECTED}")),
            oci if OciReference::has_scheme(oci) => Ok(Self::Oci(text.parse()?)),
            other => Err(format!("scheme {other:?} is not known; {EXPECTED}")),
        }
    }
}

impl From<Location> for String {
    fn from(location: Location) -> Self {
        match location {
            Location::Http(url) => url.into(),
            Location::File(path) => path.to_string_lossy().into_owned(),
            Location::Oci(reference) => reference.to_string(),
        }
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => {
                let host = url.host_str().unwrap_or_default();
                write!(f, "{}://{host}", url.scheme())?;
                if let Some(port) = url.port() {
                    write!(f, ":{port}")?;
                }
                f.write_str(url.path())
            }
            Self::File(path) => path.display().fmt(f),
            Self::Oci(reference) => reference.fmt(f),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(text: &str) -> Result<Location, String> {
        Location::try_from(text.to_owned())
    }

    #[test]
    fn a_location_shows_neither_password_nor_query() {
        let shown = location("https://me:hunter2@h.example:8443/a.img?token=s3cret").unwrap();
        assert_eq!(shown.to_string(), "https://h.example:8443/a.img");
        assert_eq!(String::from(shown), "https://me:hunter2@h.example:8443/a.img?token=s3cret");
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[7 bytes]");
    }

    #[test]
    fn schemes_that_nobody_serves_are_refused() {
        assert!(location("ftp://h/a").unwrap_err().contains("http://"));
        assert!(location("image.img").unwrap_err().contains("absolute path"));
        assert!(location("file://elsewhere/a").is_err());
        assert_eq!(location("file:///a%20b").unwrap(), Location::File("/a b".into()));
        assert_eq!(location("file://localhost/a").unwrap(), Location::File("/a".into()));
    }
}
