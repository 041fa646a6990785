//! `stream-image`: an operating system image onto a disk.
//!
//! Chooses the disk, makes sure that nothing uses it, asks for the image, streams it, and makes
//! the kernel know the new partitions.

use nibs_job::params::{Image, StreamImage};
use nibs_job::{Location, Size};

use crate::disk::{self, Claim};
use crate::image::{self, Device, Expected, Fetch, FileSource, Source, Target};
use crate::{Context, Done, Error, Stop};

/// Streams an image onto the disk that is meant.
pub fn run(params: &StreamImage, context: &Context) -> Result<Done, Error> {
    let disk = disk::find(&params.disk, &context.machine)?;
    let claim = disk::claim(&context.machine, &disk)?;
    let stop = context.stop.child();
    let source = open(&params.image, context, &stop)?;
    if !params.image.has_digest() {
        context.sink.warning(format!(
            "nothing proves {}: the job has no digest of it; add sha256 to image",
            params.image.url
        ));
    }
    let target = Device::open(&disk.path, disk.size, disk.sector_size)?;
    context.info(format!("writing {} to {disk} {}", params.image.url, target.manner()));

    let (served, whole) = expected(&params.image);
    let summary = image::stream(source, &target, served, whole, &stop, &*context.sink)?;
    drop(target);
    context.info(format!(
        "{} holds the image: {} served, {} of image, {} of it zeros{}",
        disk.path.display(),
        Size(summary.served),
        Size(summary.image),
        Size(summary.zeroed),
        if summary.backup_moved { "; its backup GPT is at the end of the disk" } else { "" },
    ));
    let degraded = settle(&claim, context);
    Ok(Done { degraded, installed_disk: Some(disk.path), then: None })
}

/// The partitions are on the disk, whether or not the kernel shows them.
fn settle(claim: &Claim, context: &Context) -> Vec<String> {
    match disk::settle(&context.machine, claim) {
        Ok(partitions) => {
            context.info(format!("{} partitions are there", partitions.len()));
            Vec::new()
        }
        Err(error) => vec![error.to_string()],
    }
}

fn open(image: &Image, context: &Context, stop: &Stop) -> Result<Box<dyn Source>, Error> {
    Ok(match &image.url {
        Location::File(path) => Box::new(FileSource::open(path)?),
        Location::Http(url) => Box::new(
            Fetch {
                url: url.clone(),
                client: context.http.clone(),
                runtime: context.runtime.clone(),
                stop: stop.clone(),
                sink: context.sink.clone(),
                stall_timeout: image.stall_timeout.0,
                proven_by_digest: image.has_digest(),
            }
            .open()?,
        ),
    })
}

/// Digests of the bytes as served, and of the image.
fn expected(image: &Image) -> (Expected, Expected) {
    (
        Expected { sha256: image.sha256, sha512: image.sha512 },
        Expected { sha256: image.uncompressed_sha256, sha512: image.uncompressed_sha512 },
    )
}
