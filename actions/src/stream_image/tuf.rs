//! An image out of a TUF repository, as a job describes it.

use nibs_bottlerocket::tuf::{MANIFEST, Manifest, Wanted};
use nibs_job::Location;
use nibs_job::params::{Tuf, TufExpiration, TufRoot, TufVersion};
use url::Url;

use crate::image::tuf::{
    Expiry, Repo, Repository, TufError, TufTarget, check_root, fetch_first_root, fetch_root,
};
use crate::image::{self, Fetch};
use crate::{Context, Error};

/// Where the newest metadata that was seen is kept, below what lasts while the machine is up.
const STATE: &str = "nibs/tuf";

/// The largest manifest that is read, bytes.
const MAX_MANIFEST: u64 = 16 << 20;

/// Finds the target that is meant. `fetch` says how requests are made; its URLs do not count.
pub(super) fn find(tuf: &Tuf, fetch: &Fetch, context: &Context) -> Result<TufTarget, Error> {
    let metadata = url(&tuf.metadata_url)?;
    let repo = Repo {
        root: root(tuf, &metadata, fetch)?,
        metadata,
        targets: url(&tuf.targets_url)?,
        expiry: match tuf.expiration {
            TufExpiration::Enforce => Expiry::Refuse,
            TufExpiration::Ignore => Expiry::Warn,
        },
        state: context.machine.run.join(STATE),
    };
    let repository = Repository::load(&repo, fetch)?;
    let name = match &tuf.target {
        Some(name) => name.clone(),
        None => choose(tuf, &repository, fetch, context)?,
    };
    let target = repository.target(&name)?;
    context.info(format!(
        "the image is {name}, {} bytes with sha256 {}, of the repository {}",
        target.length, target.sha256, tuf.metadata_url
    ));
    Ok(target)
}

/// The addresses that see the job's credentials.
pub(super) fn urls(tuf: &Tuf) -> Vec<Url> {
    let root = match &tuf.root {
        Some(TufRoot::At(location)) => Some(location),
        _ => None,
    };
    let locations = [Some(&tuf.metadata_url), Some(&tuf.targets_url), root];
    let http = |location: &Location| match location {
        Location::Http(url) => Some(url.clone()),
        _ => None,
    };
    locations.into_iter().flatten().filter_map(http).collect()
}

fn choose(
    tuf: &Tuf,
    repository: &Repository,
    fetch: &Fetch,
    context: &Context,
) -> Result<String, Error> {
    let manifest = repository.target(MANIFEST)?.read(fetch, MAX_MANIFEST)?;
    let wanted = Wanted {
        variant: tuf.variant.clone().unwrap_or_default(),
        arch: tuf.arch.map_or_else(|| std::env::consts::ARCH.into(), |arch| arch.to_string()),
        version: match &tuf.version {
            TufVersion::Latest => None,
            TufVersion::Exactly(version) => Some(version.clone()),
        },
    };
    let choice = Manifest::parse(&manifest)?.choose(&wanted, &repository.names())?;
    for remark in choice.remarks {
        context.sink.warning(remark);
    }
    Ok(choice.target)
}

fn root(tuf: &Tuf, metadata: &Url, fetch: &Fetch) -> Result<Vec<u8>, Error> {
    match (&tuf.root, &tuf.root_sha512) {
        (Some(TufRoot::Inline(text)), None) => Ok(text.clone().into_bytes()),
        (Some(TufRoot::Inline(text)), Some(digest)) => {
            check_root(text.as_bytes(), digest, "in the job")?;
            Ok(text.clone().into_bytes())
        }
        (Some(TufRoot::At(place)), Some(digest)) => Ok(fetch_root(fetch, &url(place)?, digest)?),
        (None, Some(digest)) => Ok(fetch_first_root(fetch, metadata, digest)?),
        // Decoding refuses such a job.
        (_, None) => Err(image::Error::from(TufError::NoTrust).into()),
    }
}

fn url(location: &Location) -> Result<Url, Error> {
    let wrong = || image::Error::Request {
        url: location.to_string(),
        cause: "expected http://…, https://… or an absolute path".into(),
    };
    let url = match location {
        Location::Http(url) => Some(url.clone()),
        Location::File(path) => Url::from_file_path(path).ok(),
        Location::Oci(_) => None,
    };
    Ok(url.ok_or_else(wrong)?)
}
