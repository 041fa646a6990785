//! The block map of an image: the one that the job names, or the one that is found beside it.
//!
//! Beside `os.img.zst` that is `os.img.zst.bmap` or `os.img.bmap`, as for `bmaptool`. One that a job
//! names has to be there. One that is found has to be the image's own all the same: to go on without
//! it is for the job to say, since a map that does not fit tells of a mistake that somebody made.
//!
//! A map is of a disk, and so is one that is named for a qcow2 image. One beside such an image may be
//! of the file just as well, and is passed over.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nibs_job::params::{Bmap, Image};
use nibs_job::{Location, LogLevel, Size};
use url::Url;

use super::source;
use crate::image::{self, Access, BlockMap, Fetch, FileSource, MAP_MAX, MapError, Source};
use crate::{Context, Error, Stop};

/// How long servers may take in all to answer for maps that may well not be there.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the names of compressed images end in.
const COMPRESSED: [&str; 6] = [".lz4", ".gz", ".xz", ".zst", ".zstd", ".bz2"];

/// The map of an image that is read from `source`; none if there is none, or none is wanted.
pub(super) fn find(
    image: &Image,
    source: &dyn Source,
    context: &Context,
    stop: &Stop,
) -> Result<Option<Arc<BlockMap>>, Error> {
    let (map, origin) = match &image.bmap {
        Some(Bmap::None) => return Ok(None),
        Some(Bmap::At(location)) => {
            (Some(given(image, location, context, stop)?), "as the job says")
        }
        None => (beside(image, source, context, stop)?, "which is beside the image"),
    };
    if let Some(map) = &map {
        let (place, mapped, all) = (map.place(), map.mapped_size(), map.image_size());
        let (mapped, all) = (Size(mapped), Size(all));
        context.info(format!(
            "using the block map {place}, {origin}: {mapped} of {all} hold something"
        ));
    }
    Ok(map.map(Arc::new))
}

/// What is left of a map that was found, once the image has shown itself as qcow2.
pub(super) fn of_qcow2(
    image: &Image,
    map: Option<Arc<BlockMap>>,
    context: &Context,
) -> Option<Arc<BlockMap>> {
    if let (Some(map), None) = (&map, &image.bmap) {
        context.info(format!(
            "passing over the block map {}: the image beside it is qcow2, and only a map that the \
             job names (image.bmap) is taken for one of the disk in it",
            map.place()
        ));
        return None;
    }
    map
}

fn given(
    image: &Image,
    location: &Location,
    context: &Context,
    stop: &Stop,
) -> Result<BlockMap, Error> {
    let mut source: Box<dyn Source> = match location {
        Location::Http(url) => fetch(image, url, context, stop)?.open()?,
        Location::File(path) => Box::new(FileSource::open(path)?),
        // No job has it: it is refused where jobs are read.
        Location::Oci(_) => return Err(not_a_map(location)),
    };
    let bytes = drain(&mut *source)?;
    Ok(BlockMap::parse(&location.to_string(), &bytes)?)
}

fn not_a_map(location: &Location) -> Error {
    let cause = MapError::Foreign { found: "a layer in a registry".into() };
    Error::Image(image::Error::Map { place: location.to_string(), cause })
}

/// All bytes, or hardly more of them than a map may have.
fn drain(source: &mut dyn Source) -> Result<Vec<u8>, image::Error> {
    let mut bytes = Vec::new();
    while bytes.len() <= MAP_MAX {
        let Some(chunk) = source.next()? else { break };
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn beside(
    image: &Image,
    source: &dyn Source,
    context: &Context,
    stop: &Stop,
) -> Result<Option<BlockMap>, Error> {
    let Some(location) = image.locations().get(source.mirror()) else { return Ok(None) };
    let until = Instant::now() + PATIENCE;
    for place in places(location) {
        let found = match &place {
            Location::Http(url) => {
                let left = until.saturating_duration_since(Instant::now());
                fetch(image, url, context, stop)?.glance(MAP_MAX, left)?
            }
            Location::File(path) => read(path),
            Location::Oci(_) => continue,
        };
        let bytes = match found {
            Ok(bytes) => bytes,
            Err(why) => {
                let message = format!("no block map {place}: {why}");
                context.sink.log(LogLevel::Debug, message);
                continue;
            }
        };
        match BlockMap::parse(&place.to_string(), &bytes) {
            // Some servers have a page for whatever they do not have.
            Err(image::Error::Map { cause: cause @ MapError::Foreign { .. }, .. }) => {
                context.info(format!("{place} is no block map, and passed over: {cause}"));
            }
            parsed => return Ok(Some(parsed?)),
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let opened = FileSource::open(path).map(|mut source| drain(&mut source));
    opened.and_then(|bytes| bytes).map_err(|error| error.to_string())
}

/// Where the map of an image is looked for.
fn places(image: &Location) -> Vec<Location> {
    let names = |path: &str| -> Vec<String> {
        if path.ends_with('/') {
            return Vec::new();
        }
        let plain = COMPRESSED.iter().find_map(|suffix| path.strip_suffix(suffix));
        [Some(path), plain].into_iter().flatten().map(|name| format!("{name}.bmap")).collect()
    };
    match image {
        Location::Http(url) => names(url.path())
            .into_iter()
            .map(|path| {
                let mut url = url.clone();
                url.set_path(&path);
                Location::Http(url)
            })
            .collect(),
        Location::File(path) => {
            let paths = path.to_str().map(names).unwrap_or_default();
            paths.into_iter().map(|path| Location::File(path.into())).collect()
        }
        Location::Oci(_) => Vec::new(),
    }
}

/// A transfer of a map. The image's credentials are for the image's own servers.
fn fetch(image: &Image, url: &Url, context: &Context, stop: &Stop) -> Result<Fetch, Error> {
    let is_its_server = image.locations().iter().any(|location| match location {
        Location::Http(of_image) => of_image.origin() == url.origin(),
        _ => false,
    });
    let fetch = source::fetch(image, vec![url.clone()], context, stop)?;
    let access = if is_its_server { fetch.access } else { Access::Open };
    // The image's digest says nothing of its map, and one stream is enough for that.
    Ok(Fetch { access, proven_by_digest: false, connections: 1, ..fetch })
}

#[cfg(test)]
mod tests;
