//! Certificates of an authority that is made for one test, by openssl.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::run;

/// A certificate authority in a directory.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

impl Authority {
    /// Makes one; the directory is made too.
    pub fn new(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let authority = Self { directory: directory.to_owned() };
        let (key, certificate) = (authority.path("ca.key"), authority.path("ca.pem"));
        let new = ["req", "-x509", "-days", "2", "-subj", "/CN=authority"];
        let files = ["-keyout", &key, "-out", &certificate];
        run("openssl", &[&new[..], &KEY, &files].concat())?;
        Ok(authority)
    }

    /// The file with its own certificate.
    pub fn bundle(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Certifies these names, as in `IP:127.0.0.1,DNS:localhost`.
    pub fn certify(&self, names: &str) -> Result<Pair> {
        let path = |name: &str| self.path(name);
        let (key, request, extensions) = (path("leaf.key"), path("leaf.csr"), path("leaf.cnf"));
        let certificate = path("leaf.pem");
        let new = ["req", "-new", "-subj", "/CN=leaf"];
        run("openssl", &[&new[..], &KEY, &["-keyout", &key, "-out", &request]].concat())?;
        fs::write(&extensions, format!("subjectAltName={names}\nbasicConstraints=CA:FALSE\n"))?;
        let (ca, ca_key) = (path("ca.pem"), path("ca.key"));
        let sign = ["x509", "-req", "-days", "2", "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
        let files = ["-in", &request, "-extfile", &extensions, "-out", &certificate];
        run("openssl", &[&sign[..], &files].concat())?;
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("reading {path}"));
        Ok(Pair { certificate: read(&certificate)?, key: read(&key)? })
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}
