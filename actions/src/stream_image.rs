//! `stream-image`: an operating system image onto a disk, or onto a partition that is named.
//!
//! Chooses the disk, makes sure that nothing uses it, asks for the image, streams it, and makes
//! the kernel know the new partitions. [`explain`] tells all that without doing it.

mod block_map;
mod explain;
mod explanation;
mod restarts;
pub(crate) mod source;
mod tuf;

use std::ops::Range;
use std::sync::Arc;

use nibs_job::Size;
use nibs_job::params::{Image, StreamImage, Verify};

pub(crate) use self::explain::Warnings;
pub use self::explain::explain;
pub use self::explanation::{
    ChosenDisk, DigestOf, DigestSeen, Explanation, Extent, FileSeen, ImageSeen, ImageSize, MapSeen,
    OtherDisk, PartitionSeen, Plan, Refusal, ToldBy,
};
pub(crate) use self::restarts::Restarts;
use self::source::Opened;
use crate::disk::{self, Claim, Disk};
use crate::image::{self, BlockMap, Device, Proof, Summary, Target};
use crate::{Context, Done, Error};

/// Streams an image onto the disk that is meant.
pub fn run(params: &StreamImage, context: &Context) -> Result<Done, Error> {
    let disk = disk::find_place(&params.disk, &context.machine)?;
    if params.disk.release {
        disk::release(&context.machine, &disk, &mut |step| context.info(step.done()))?;
    }
    let claim = disk::claim(&context.machine, &disk)?;
    let mut restarts = Restarts::new(params.image.stall_timeout.0);
    let (mut only, mut map) = (None, None);
    let summary = loop {
        match stream(params, &disk, only.clone(), &mut map, context) {
            Ok(summary) => break summary,
            Err(Error::Image(error @ image::Error::Misread { .. })) if only.is_none() => {
                context.sink.reset(format!("{error}; writing there once more"));
                only = error.misread();
            }
            Err(error) => restarts.after(error, context)?,
        }
    };
    // Of an image of which only a part was written in the end, that part's zeros say nothing.
    let zeros = match only {
        None => format!(", {} of it zeros", Size(summary.zeroed)),
        Some(_) => String::new(),
    };
    context.info(format!(
        "{} holds the image: {} served, {} of image{zeros}{}{}",
        disk.path.display(),
        Size(summary.served),
        Size(summary.image),
        left_alone(&summary),
        if summary.backup_moved { "; its backup GPT is at the end of the disk" } else { "" },
    ));
    if let Some(whole) = &disk.partition_of {
        let installed_disk = Some(context.machine.dev.join(whole));
        return Ok(Done { installed_disk, ..Done::default() });
    }
    let degraded = settle(&claim, context);
    Ok(Done { degraded, installed_disk: Some(disk.path), then: None })
}

/// One way through the image, from its first byte. `only`: the ranges of it that are written, if
/// the disk has the others already, which takes the same map.
fn stream(
    params: &StreamImage,
    disk: &Disk,
    only: Option<Vec<Range<u64>>>,
    map: &mut Option<Arc<BlockMap>>,
    context: &Context,
) -> Result<Summary, Error> {
    let image = &params.image;
    let stop = context.stop.child();
    let opened = source::open(image, context, &stop)?;
    opened.check_fits(disk)?;
    if !opened.is_proven() {
        context.sink.warning(unproven(image));
    }
    if only.is_none() {
        *map = block_map::find(image, &*opened.source, context, &stop)?;
    }
    match write(opened, params, disk, only.clone(), map.clone(), context) {
        Err(Error::Image(error)) if error.is_qcow2() && source::may_be_qcow2(image) => {
            let opened = source::open_qcow2(image, context, &context.stop.child())?;
            opened.check_fits(disk)?;
            *map = block_map::of_qcow2(image, map.take(), context);
            write(opened, params, disk, only, map.clone(), context)
        }
        written => written,
    }
}

/// Writes an image that is there to be read.
fn write(
    opened: Opened,
    params: &StreamImage,
    disk: &Disk,
    only: Option<Vec<Range<u64>>>,
    map: Option<Arc<BlockMap>>,
    context: &Context,
) -> Result<Summary, Error> {
    let place = source::place(&params.image);
    let target = Device::open(&disk.path, disk.size, disk.sector_size)?.rotational(disk.rotational);
    context.info(format!("writing {place} to {disk} {}", target.manner()));
    let Opened { source, served, whole, stop, .. } = opened;
    let read_back = params.verify == Verify::Written;
    let proof = Proof { served, image: whole, map, read_back, only };
    Ok(image::stream(source, &target, &proof, &stop, &*context.sink)?)
}

fn left_alone(summary: &Summary) -> String {
    match summary.skipped {
        0 => String::new(),
        skipped => format!(", {} left alone as its block map says", Size(skipped)),
    }
}

fn unproven(image: &Image) -> String {
    let place = source::place(image);
    format!("nothing proves {place}: the job has no digest of it; add sha256 to image")
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
