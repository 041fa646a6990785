//! The source of an image, as a job describes it.

use std::fmt;

use nibs_job::params::{Image, ImageFormat, Tuf};
use nibs_job::{Location, OciReference, Secret};
use url::Url;

use super::tuf;
use crate::disk::Disk;
use crate::http::{self, ClientCertificate};
use crate::image::tuf::TufError;
use crate::image::{
    self, Access, Credentials, Expected, Fetch, FileSource, Place, Qcow2, Qcow2File, Registry,
    Source, xz_size,
};
use crate::{Context, Error, Stop};

/// An image that is there to be read.
pub(crate) struct Opened {
    pub(crate) source: Box<dyn Source>,
    /// Digests of the bytes as served.
    pub(crate) served: Expected,
    /// Digests of the image.
    pub(crate) whole: Expected,
    /// Bytes that the image has at least, where its end tells.
    pub(crate) at_least: Option<u64>,
    /// Ends the source, and what reads from it.
    pub(crate) stop: Stop,
}

impl Opened {
    /// Whether any digest proves the bytes.
    pub(crate) fn is_proven(&self) -> bool {
        !self.served.is_empty() || !self.whole.is_empty()
    }

    /// Refuses a disk for which the image is known to be too large.
    pub(crate) fn check_fits(&self, disk: &Disk) -> Result<(), image::Error> {
        match self.at_least {
            Some(needed) if needed > disk.size => Err(image::Error::TooSmall {
                disk: disk.path.clone(),
                size: disk.size,
                needed,
                at_least: true,
            }),
            _ => Ok(()),
        }
    }
}

/// Asks for the image.
pub(crate) fn open(image: &Image, context: &Context, stop: &Stop) -> Result<Opened, Error> {
    if image.insecure {
        context.sink.warning(format!(
            "whoever serves {} is believed to be the right one: the job says insecure",
            place(image)
        ));
    }
    if let Some(tuf) = &image.tuf {
        return open_target(image, tuf, context, stop);
    }
    let mut served = Expected { sha256: image.sha256, sha512: image.sha512 };
    let whole = Expected { sha256: image.uncompressed_sha256, sha512: image.uncompressed_sha512 };
    let source: Box<dyn Source> = match image.locations() {
        [Location::File(path)] => Box::new(FileSource::open(path)?),
        [Location::Oci(reference)] => {
            if reference.plain_http && image.password.is_some() {
                context.sink.warning(in_plain_text(reference, "oci"));
            }
            layer(image, reference, &mut served, context, stop)?.open()?
        }
        mirrors => {
            let http = |location: &Location| match location {
                Location::Http(url) => Some(url.clone()),
                _ => None,
            };
            let urls: Vec<Url> = mirrors.iter().filter_map(http).collect();
            warn_of_plain_text(image, &urls, context);
            fetch(image, urls, context, stop)?.open()?
        }
    };
    // The name is no more than a hint: it saves all other images a request.
    let is_xz = image.locations().iter().any(|location| location.to_string().ends_with(".xz"));
    let at_least = if is_xz { xz_size(&*source) } else { None };
    Ok(Opened { source, served, whole, at_least, stop: stop.clone() })
}

/// Whether the disk in an image is taken where that shows itself as qcow2. Not in one of a TUF
/// repository.
pub(crate) fn may_be_qcow2(image: &Image) -> bool {
    image.tuf.is_none() && image.format != Some(ImageFormat::Raw)
}

/// Asks for the disk in a qcow2 image, as which the image has shown itself.
pub(crate) fn open_qcow2(image: &Image, context: &Context, stop: &Stop) -> Result<Opened, Error> {
    let mut served = Expected { sha256: image.sha256, sha512: image.sha512 };
    let whole = Expected { sha256: image.uncompressed_sha256, sha512: image.uncompressed_sha512 };
    let place = match image.locations() {
        [Location::File(path)] => Place::Local(path.clone()),
        [Location::Oci(reference)] => {
            let layer = layer(image, reference, &mut served, context, stop)?;
            Place::Http(Box::new(layer))
        }
        mirrors => {
            let urls = mirrors.iter().filter_map(|location| match location {
                Location::Http(url) => Some(url.clone()),
                _ => None,
            });
            Place::Http(Box::new(fetch(image, urls.collect(), context, stop)?))
        }
    };
    if !served.is_empty() {
        context
            .info("reading the qcow2 image once to prove it, since it is written in another order");
    }
    let file = Qcow2File::open(place, served, stop)?;
    let source: Box<dyn Source> = Box::new(Qcow2::open(file)?);
    let at_least = source.total();
    let served = Expected::default();
    Ok(Opened { source, served, whole, at_least, stop: stop.clone() })
}

/// Finds the layer of a registry that the image is. Its digest is what the bytes have to have, and
/// what the job says of them, if it says anything: a tag may lead elsewhere whenever it is asked.
fn layer(
    image: &Image,
    reference: &OciReference,
    served: &mut Expected,
    context: &Context,
    stop: &Stop,
) -> Result<Fetch, Error> {
    let fetch = fetch(image, Vec::new(), context, stop)?;
    let layer = Registry::new(reference.clone(), credentials(image)).resolve(&fetch)?;
    let asked = *served.sha256.get_or_insert(layer.sha256);
    if asked != layer.sha256 {
        return Err(Error::Image(image::Error::Registry {
            reference: reference.to_string(),
            cause: format!(
                "expected a layer with sha256 {asked}, the manifest has {}",
                layer.sha256
            ),
        }));
    }
    Ok(layer.fetch)
}

/// Finds the image in its repository, whose digest of it goes beside those of the job.
fn open_target(image: &Image, tuf: &Tuf, context: &Context, stop: &Stop) -> Result<Opened, Error> {
    warn_of_plain_text(image, &tuf::urls(tuf), context);
    let fetch = fetch(image, Vec::new(), context, stop)?;
    let target = tuf::find(tuf, &fetch, context)?;
    if let Some(expected) = image.sha256.filter(|expected| *expected != target.sha256) {
        let (expected, found) = (Box::new(expected), Box::new(target.sha256));
        let error = TufError::OtherDigest { name: target.name, expected, found };
        return Err(image::Error::from(error).into());
    }
    let served = Expected { sha256: Some(target.sha256), sha512: image.sha512 };
    let whole = Expected { sha256: image.uncompressed_sha256, sha512: image.uncompressed_sha512 };
    let source = target.open(&fetch)?;
    let at_least = if target.name.ends_with(".xz") { xz_size(&*source) } else { None };
    Ok(Opened { source, served, whole, at_least, stop: stop.clone() })
}

/// The places where the image may be, in words.
pub(crate) fn places(image: &Image) -> Vec<String> {
    match &image.tuf {
        Some(tuf) => vec![format!("an image of the TUF repository {}", tuf.metadata_url)],
        None => image.locations().iter().map(ToString::to_string).collect(),
    }
}

/// Where the image is, in words.
pub(crate) fn place(image: &Image) -> impl fmt::Display {
    places(image).join(" or ")
}

/// A transfer of the image, or of what belongs to it.
pub(crate) fn fetch(
    image: &Image,
    urls: Vec<Url>,
    context: &Context,
    stop: &Stop,
) -> Result<Fetch, Error> {
    Ok(Fetch {
        urls,
        client: http::client(&options(image, &context.http)?)?,
        access: access(image),
        accept: None,
        runtime: context.runtime.clone(),
        stop: stop.clone(),
        sink: context.sink.clone(),
        stall_timeout: image.stall_timeout.0,
        proven_by_digest: image.has_digest(),
        connections: image.connections,
    })
}

/// How a client for this image differs from others on this machine.
fn options(image: &Image, machine: &http::Options) -> Result<http::Options, http::Error> {
    let mut options = machine.clone();
    if let Some(path) = &image.ca_file {
        // A bundle that is not there is passed over; one that a job names has to be.
        if let Err(cause) = path.metadata() {
            return Err(http::Error::ReadBundle { path: path.clone(), cause });
        }
        options.ca_bundles.push(path.clone());
    }
    options.ca = image.ca.clone().or(options.ca);
    options.insecure |= image.insecure;
    if let (Some(certificate), Some(key)) = (&image.client_cert, &image.client_key) {
        let (certificate, key) = (certificate.clone(), key.clone());
        options.client_certificate = Some(ClientCertificate { certificate, key });
    }
    for (asked, proxy) in [
        (&image.http_proxy, &mut options.proxies.http),
        (&image.https_proxy, &mut options.proxies.https),
    ] {
        if let Some(Location::Http(url)) = asked {
            *proxy = Some(url.clone());
        }
    }
    if let Some(no) = &image.no_proxy {
        options.proxies.no.clone_from(no);
    }
    Ok(options)
}

fn credentials(image: &Image) -> Option<Credentials> {
    let (username, password) = (image.username.clone()?, image.password.clone()?);
    Some(Credentials { username, password })
}

fn access(image: &Image) -> Access {
    let bearer = image.bearer_token.clone().map(Access::Bearer);
    bearer.or_else(|| credentials(image).map(Access::Basic)).unwrap_or(Access::Open)
}

fn warn_of_plain_text(image: &Image, urls: &[Url], context: &Context) {
    let shows = |secret: &Option<Secret>| secret.is_some();
    if !shows(&image.bearer_token) && !shows(&image.password) {
        return;
    }
    for url in urls.iter().filter(|url| url.scheme() == "http") {
        context.sink.warning(in_plain_text(Location::Http(url.clone()), "https"));
    }
}

fn in_plain_text(place: impl fmt::Display, secure: &str) -> String {
    format!("{place} gets the job's credentials in plain text; use {secure}://")
}
