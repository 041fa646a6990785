//! An image out of a TUF repository (The Update Framework, version 1.0 of the specification).
//!
//! ```text
//!  trusted root ─> newer roots ─> timestamp ─> snapshot ─> targets ─> length, sha256 ─> image
//!  digest in       each signed    each signed, not expired, not older        streamed by Fetch,
//!  the job         by the last    than seen before, as the last one says     held to both
//! ```
//!
//! The `tough` crate verifies the metadata. It could stream the target too, but in one request
//! that has to be done within 30 seconds and cannot go on where it broke. So the target is fetched
//! like any other image, and its length and digest, out of the verified metadata, are proven by
//! [`Declared`] and by the engine's verdict.
//!
//! - [`Repository`]: its metadata, verified; finds targets.
//! - [`root`]: the trusted root and its digest.
//! - [`web`]: how the metadata is fetched.
//! - [`clock`]: whether this machine's clock can tell what has expired.
//! - [`declared`]: a source that has to have the length that the metadata declares.

mod clock;
mod declared;
mod error;
mod root;
mod web;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nibs_job::{HexDigest, Location, decode};
use sha2::{Digest, Sha256};
use tough::schema::Targets;
use tough::{ExpirationEnforcement, RepositoryLoader, TargetName};
use url::Url;

use self::declared::Declared;
use self::web::Web;
use super::{Error, Fetch, FileSource, Result, Source};

pub use self::error::{Expired, TufError};
pub(super) use self::root::MAX_ROOT;
pub use self::root::{check_root, fetch_first_root, fetch_root};

/// Where in its state directory `tough` keeps the time of its last visit.
const LAST_VISIT: &str = "latest_known_time.json";

/// What is done about metadata that has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It is refused.
    Refuse,
    /// It is taken, with a warning.
    Warn,
}

/// Where a repository is, and what of it is trusted. URLs are `http`, `https` or `file`, and name
/// directories.
#[derive(Debug, Clone)]
pub struct Repo {
    /// The directory with `timestamp.json`.
    pub metadata: Url,
    /// The directory with the targets.
    pub targets: Url,
    /// The trusted `root.json`; see [`check_root`].
    pub root: Vec<u8>,
    /// What is done about metadata that has expired.
    pub expiry: Expiry,
    /// The newest metadata that was seen is kept below this directory, so that older is refused
    /// from then on. Directories are made as needed.
    pub state: PathBuf,
}

/// A repository whose metadata is verified.
#[derive(Debug)]
pub struct Repository {
    repository: tough::Repository,
    /// With a slash at its end.
    targets: Url,
}

/// A target as the verified metadata describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TufTarget {
    /// Its name, without the digest that its file may have in front.
    pub name: String,
    /// Its length, bytes.
    pub length: u64,
    /// SHA-256 of it as served.
    pub sha256: HexDigest<32>,
    url: Url,
}

impl Repository {
    /// Fetches the metadata and verifies it. `fetch` says how requests are made; its URLs do not
    /// count.
    pub fn load(repo: &Repo, fetch: &Fetch) -> Result<Self> {
        let now = SystemTime::now();
        clock::check(now)?;
        let state = prepare(&repo.state, &repo.metadata)?;
        let load = |enforcement| load(repo, enforcement, &state, fetch);
        let repository = match repo.expiry {
            Expiry::Refuse => match load(ExpirationEnforcement::Safe) {
                // `tough` says which role has expired, but not when. The second visit is only
                // for those dates: what it brings is not used.
                Err(Error::Tuf(TufError::Expired { .. })) => {
                    let expired = expired(&load(ExpirationEnforcement::Unsafe)?, now);
                    let (url, now) = (shown(&repo.metadata), clock::date(now));
                    return Err(TufError::Expired { url, expired, now }.into());
                }
                other => other?,
            },
            Expiry::Warn => {
                let repository = load(ExpirationEnforcement::Unsafe)?;
                for Expired { role, date } in expired(&repository, now) {
                    fetch.sink.warning(format!(
                        "{}: the {role} metadata expired on {date}, which the job says to ignore: \
                         nothing shows that the repository is not an old copy",
                        shown(&repo.metadata)
                    ));
                }
                repository
            }
        };
        Ok(Self { repository, targets: directory(repo.targets.clone()) })
    }

    /// The names of all targets.
    pub fn names(&self) -> Vec<&str> {
        self.repository.all_targets().map(|(name, _)| name.resolved()).collect()
    }

    /// Finds a target by its name.
    pub fn target(&self, name: &str) -> Result<TufTarget> {
        let missing = || TufError::NoTarget {
            name: name.to_owned(),
            targets: shown(&self.targets),
            nearest: decode::nearest(name, &self.names()).map(ToOwned::to_owned),
        };
        let parsed = TargetName::new(name).map_err(|_| missing())?;
        let targets = &self.repository.targets().signed;
        let found = targets.find_target(&parsed, false).map_err(|_| missing())?;
        let sha256 = found.hashes.sha256.as_ref().try_into().map(HexDigest).map_err(|_| {
            TufError::Metadata {
                url: shown(&self.targets),
                cause: format!("the sha256 of the target {name} is none"),
            }
        })?;
        let file = match self.repository.root().signed.consistent_snapshot {
            true => format!("{sha256}.{}", parsed.resolved()),
            false => parsed.resolved().to_owned(),
        };
        let url = below(&self.targets, &file).ok_or_else(missing)?;
        Ok(TufTarget { name: name.to_owned(), length: found.length, sha256, url })
    }
}

impl TufTarget {
    /// Starts to fetch it. Its length is proven by the source, its digest has to be proven by who
    /// reads it. `fetch` says how requests are made; its URLs do not count.
    pub fn open(&self, fetch: &Fetch) -> Result<Box<dyn Source>> {
        let source = open(&Fetch { proven_by_digest: true, ..fetch.clone() }, &self.url)?;
        Ok(Box::new(Declared::new(source, &self.name, self.length)?))
    }

    /// Fetches it whole into memory, at most `limit` bytes, and proves it.
    pub fn read(&self, fetch: &Fetch, limit: u64) -> Result<Vec<u8>> {
        if self.length > limit {
            let (name, length) = (self.name.clone(), self.length);
            return Err(TufError::TargetTooLarge { name, length, limit }.into());
        }
        let mut source = self.open(&Fetch { connections: 1, ..fetch.clone() })?;
        let mut bytes = Vec::new();
        while let Some(chunk) = source.next()? {
            bytes.extend_from_slice(&chunk);
        }
        let found = HexDigest(Sha256::digest(&bytes).into());
        if found != self.sha256 {
            return Err(Error::Digest {
                algorithm: "sha256",
                of: "target",
                expected: self.sha256.to_string(),
                found: found.to_string(),
            });
        }
        Ok(bytes)
    }
}

/// Opens what is at a URL, over HTTP or as a file.
fn open(fetch: &Fetch, url: &Url) -> Result<Box<dyn Source>> {
    match url.to_file_path() {
        Ok(path) if url.scheme() == "file" => Ok(Box::new(FileSource::open(&path)?)),
        _ => Fetch { urls: vec![url.clone()], accept: None, ..fetch.clone() }.open(),
    }
}

fn load(
    repo: &Repo,
    enforcement: ExpirationEnforcement,
    state: &Path,
    fetch: &Fetch,
) -> Result<tough::Repository> {
    let web = Web::new(fetch.clone());
    let loader =
        RepositoryLoader::new(&repo.root, repo.metadata.clone(), directory(repo.targets.clone()))
            .transport(web.clone())
            .limits(web::LIMITS)
            .datastore(state)
            .expiration_enforcement(enforcement);
    let loaded = async { fetch.stop.guard(loader.load()).await };
    fetch
        .runtime
        .block_on(loaded)?
        .map_err(|error| error::of(error, web.failure(), &shown(&repo.metadata)))
}

/// Makes the directory in which the newest metadata of one repository is kept.
fn prepare(state: &Path, metadata: &Url) -> Result<PathBuf> {
    let name = hex::encode(&Sha256::digest(metadata.as_str())[..16]);
    let directory = state.join(name);
    let failed = |cause| TufError::State { path: directory.clone(), cause };
    std::fs::create_dir_all(&directory).map_err(failed)?;
    // A clock that went back since the last visit was set right, as happens to a machine that
    // has just been switched on; `tough` would refuse to go on until the old time comes again.
    match std::fs::remove_file(directory.join(LAST_VISIT)) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(failed(cause).into()),
        _ => Ok(directory),
    }
}

/// The roles that have expired, delegated ones by their names.
fn expired(repository: &tough::Repository, now: SystemTime) -> Vec<Expired> {
    let targets = &repository.targets().signed;
    let mut dates = vec![
        ("root".to_owned(), repository.root().signed.expires),
        ("timestamp".to_owned(), repository.timestamp().signed.expires),
        ("snapshot".to_owned(), repository.snapshot().signed.expires),
        ("targets".to_owned(), targets.expires),
    ];
    let mut delegating: Vec<&Targets> = vec![targets];
    while let Some(targets) = delegating.pop() {
        for role in targets.delegations.iter().flat_map(|delegations| &delegations.roles) {
            if let Some(delegated) = &role.targets {
                dates.push((role.name.clone(), delegated.signed.expires));
                delegating.push(&delegated.signed);
            }
        }
    }
    dates.retain(|(_, date)| SystemTime::from(*date) < now);
    dates.into_iter().map(|(role, date)| Expired { role, date: date.to_string() }).collect()
}

/// A URL as that of a directory, so that what is joined to it comes below it.
fn directory(mut url: Url) -> Url {
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url
}

/// The URL of a file below a directory; none if its name leads elsewhere.
fn below(directory: &Url, file: &str) -> Option<Url> {
    let url = directory.join(file).ok()?;
    url.as_str().starts_with(directory.as_str()).then_some(url)
}

/// A URL without what may be secret in it.
fn shown(url: &Url) -> String {
    Location::Http(url.clone()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_looked_for_below_their_directory_only() {
        for base in ["http://h/t", "http://h/t/"] {
            let base = directory(base.parse().unwrap());
            assert_eq!(below(&base, "a.img").unwrap().as_str(), "http://h/t/a.img");
            assert_eq!(below(&base, "a/b").unwrap().as_str(), "http://h/t/a/b");
            for outside in ["../a", "/a", "http://elsewhere/a", "//elsewhere/a", "%2e%2e/a"] {
                assert_eq!(below(&base, outside), None, "{outside}");
            }
        }
    }

    #[test]
    fn each_repository_has_a_state_of_its_own_that_forgets_the_time() {
        let state = tempfile::tempdir().unwrap();
        let prepare = |url: &str| prepare(&state.path().join("tuf"), &url.parse().unwrap());
        let first = prepare("http://h/metal-dev/x86_64").unwrap();
        std::fs::write(first.join(LAST_VISIT), "").unwrap();
        assert_eq!(prepare("http://h/metal-dev/x86_64").unwrap(), first);
        assert!(!first.join(LAST_VISIT).exists());
        assert_ne!(prepare("http://h/metal-dev/aarch64").unwrap(), first);
    }

    #[test]
    fn a_state_that_cannot_be_kept_names_its_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = prepare(file.path(), &"http://h/m".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}
