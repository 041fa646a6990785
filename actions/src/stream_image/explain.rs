//! What `stream-image` would do, to which disk, and why it may: found out without writing a byte.
//!
//! The same functions decide as in a run: which disk, what keeps it busy, what the image's server
//! answers, what its first bytes tell. The disk is opened for reading only, and not claimed: whether
//! another process has it to itself shows only when the action starts.

use std::sync::{Arc, Mutex, PoisonError};

use nibs_job::params::{Pick, StreamImage, Verify};
use nibs_job::{LogLevel, Progress};

use super::explanation::{
    ChosenDisk, DigestOf, DigestSeen, Explanation, Extent, ImageSeen, ImageSize, MapSeen,
    OtherDisk, PartitionSeen, Plan, Refusal, ToldBy,
};
use super::source::{self, Opened};
use super::{block_map, unproven};
use crate::disk::{self, Disk, Step, Use, UseKind};
use crate::image::{self, BlockMap, Expected, Layout, Preview};
use crate::{Context, Error, Sink};

/// The format whose length is the image's own.
const RAW: &str = "raw";

/// The format of an image whose disk is read out of it.
const QCOW2: &str = "qcow2";

/// Tells what [`run`](super::run) would do. An error only if it was stopped: what would make a run
/// fail is in the value.
pub fn explain(params: &StreamImage, context: &Context) -> Result<Explanation, Error> {
    let sink = Arc::new(Warnings::new(context.sink.clone()));
    let context = &Context { sink: sink.clone(), ..context.clone() };
    let mut refusals = Refusals::default();
    let found = disk::find_place(&params.disk, &context.machine);
    let disk = refusals.unless(found.map_err(Error::Disk))?;
    let seen = match &disk {
        Some(disk) => Some(see_disk(params, disk, context, &mut refusals)?),
        None => None,
    };
    let (mut image, beginning) = see_image(params, disk.as_ref(), context, &mut refusals)?;
    let plan = match (&disk, &seen, &beginning) {
        (Some(disk), Some(on_disk), Some(beginning)) => {
            let beginning = (beginning, &mut image);
            see_plan(params, (disk, on_disk), beginning, context, &mut refusals)?
        }
        _ => None,
    };
    Ok(Explanation {
        other_disks: others(params, disk.as_ref(), context),
        disk: seen.map(|seen| seen.disk),
        image,
        plan,
        files: Vec::new(),
        warnings: sink.heard(),
        refusals: refusals.0,
    })
}

/// What a look at the disk has shown.
struct DiskSeen {
    disk: ChosenDisk,
    release: Vec<Step>,
    direct: bool,
}

fn see_disk(
    params: &StreamImage,
    disk: &Disk,
    context: &Context,
    refusals: &mut Refusals,
) -> Result<DiskSeen, Error> {
    let machine = &context.machine;
    if disk.read_only {
        refusals.push(&disk::Error::ReadOnly { path: disk.path.clone() }.into());
    }
    let uses = refusals.unless(disk::busy(machine, disk).map_err(Error::Disk))?.unwrap_or_default();
    let mut release = Vec::new();
    // What keeps the disk from being claimed, after the release if there is one.
    let mut kept_by = uses.clone();
    if params.disk.release {
        let steps = disk::release_steps(machine, disk).map_err(Error::Disk);
        release = refusals.unless(steps)?.unwrap_or_default();
        kept_by = release.iter().filter_map(|step| left(step, disk)).collect();
    }
    if !kept_by.is_empty() {
        refusals.push(&disk::Error::Busy { path: disk.path.clone(), uses: kept_by }.into());
    }
    let look = refusals.unless(image::look(&disk.path, disk.size).map_err(Error::from))?;
    let (signatures, direct) =
        look.map_or((Vec::new(), false), |look| (look.signatures, look.direct));
    // A disk without a GPT, or with a damaged one, has no partitions to lose.
    let partitions = disk::partitions(disk).unwrap_or_default();
    let partitions = partitions.into_iter().map(|partition| PartitionSeen {
        number: partition.number,
        name: partition.name,
        type_guid: partition.type_guid.to_string(),
        start: partition.start,
        size: partition.size,
    });
    let disk = ChosenDisk {
        facts: disk.into(),
        chosen_by: params.disk.to_string(),
        signatures: signatures.into_iter().map(str::to_owned).collect(),
        partitions: partitions.collect(),
        used_by: uses.iter().map(Use::to_string).collect(),
    };
    Ok(DiskSeen { disk, release, direct })
}

/// What a release leaves on the disk.
fn left(step: &Step, disk: &Disk) -> Option<Use> {
    match step {
        Step::Leave { device } => {
            Some(Use { device: disk.name.clone(), kind: UseKind::Holder(device.clone()) })
        }
        _ => None,
    }
}

fn others(params: &StreamImage, chosen: Option<&Disk>, context: &Context) -> Vec<OtherDisk> {
    // Without a list there is no disk either, and that is a refusal already.
    let disks = disk::list(&context.machine).unwrap_or_default();
    let is_other = |disk: &&Disk| chosen.is_none_or(|chosen| chosen.name != disk.name);
    let other = |disk: &Disk| {
        let mut unmet: Vec<String> =
            disk::unmet(&params.disk, disk).into_iter().map(str::to_owned).collect();
        let passed_over = |pick: Pick, chosen: &Disk| match pick {
            Pick::Smallest => disk.size > chosen.size,
            Pick::Largest => disk.size < chosen.size,
        };
        if let (Some(pick), Some(chosen)) = (params.disk.pick, chosen)
            && passed_over(pick, chosen)
        {
            unmet.push("pick".into());
        }
        OtherDisk { facts: disk.into(), unmet }
    };
    disks.iter().filter(is_other).map(other).collect()
}

/// What a look at the image has shown.
struct Beginning {
    preview: Preview,
    map: Option<Arc<BlockMap>>,
}

fn see_image(
    params: &StreamImage,
    disk: Option<&Disk>,
    context: &Context,
    refusals: &mut Refusals,
) -> Result<(ImageSeen, Option<Beginning>), Error> {
    let (image, stop) = (&params.image, context.stop.child());
    let mut seen = ImageSeen { places: source::places(image), ..ImageSeen::default() };
    let opened = refusals.unless(source::open(image, context, &stop))?;
    let Some(opened) = opened else { return Ok((seen, None)) };
    if !opened.is_proven() {
        context.sink.warning(unproven(image));
    }
    if let Some(disk) = disk {
        refusals.unless(opened.check_fits(disk).map_err(Error::from))?;
    }
    let Opened { source, served, whole, at_least, .. } = opened;
    seen.answered = source.place();
    seen.served = source.total();
    seen.digests = digests(DigestOf::Served, &served);
    seen.digests.extend(digests(DigestOf::Image, &whole));
    let mut map = refusals.unless(block_map::find(image, &*source, context, &stop))?.flatten();
    let mut preview = image::preview(source, &stop, &*context.sink);
    // The preview cancels its own stop only.
    context.check()?;
    let mut is_qcow2 = false;
    if preview.as_ref().is_err_and(image::Error::is_qcow2) && source::may_be_qcow2(image) {
        is_qcow2 = true;
        map = block_map::of_qcow2(image, map, context);
        let stop = context.stop.child();
        let opened = refusals.unless(source::open_qcow2(image, context, &stop))?;
        let Some(opened) = opened else { return Ok((seen, None)) };
        preview = image::preview(opened.source, &stop, &*context.sink);
        context.check()?;
    }
    seen.map = map
        .as_ref()
        .map(|map| MapSeen { place: map.place().to_owned(), mapped: map.mapped_size() });
    let preview = preview.map_err(Error::from);
    let Some(preview) = refusals.unless(preview)? else { return Ok((seen, None)) };
    seen.format = Some(if is_qcow2 { QCOW2 } else { preview.format }.to_owned());
    let size = |bytes, at_least, told_by| ImageSize { bytes, at_least, told_by };
    let by_format = preview.at_least.max(at_least);
    seen.size = match &map {
        Some(map) => Some(size(map.image_size(), false, ToldBy::Map)),
        None => by_format.map(|bytes| size(bytes, preview.format != RAW, ToldBy::Format)),
    };
    Ok((seen, Some(Beginning { preview, map })))
}

/// Lays the image out on the disk; none if it does not fit there.
fn see_plan(
    params: &StreamImage,
    (disk, on_disk): (&Disk, &DiskSeen),
    (Beginning { preview, map }, seen): (&Beginning, &mut ImageSeen),
    context: &Context,
    refusals: &mut Refusals,
) -> Result<Option<Plan>, Error> {
    let (path, size, sector) = (&*disk.path, disk.size, disk.sector_size);
    if let Some(needed) = preview.at_least.filter(|needed| *needed > size) {
        let (disk, at_least) = (disk.path.clone(), preview.format != RAW);
        refusals.push(&image::Error::TooSmall { disk, size, needed, at_least }.into());
    }
    let layout = Layout::of(&preview.head, path, size, sector).map_err(Error::from);
    let Some(layout) = refusals.unless(layout)? else { return Ok(None) };
    match layout.image_size() {
        Some(bytes) => {
            seen.size = Some(ImageSize { bytes, at_least: false, told_by: ToldBy::Gpt });
        }
        None => context.sink.warning(
            "the image has no GPT: it is written as it is, and no partition will be found on it"
                .into(),
        ),
    }
    let mut left_alone = 0;
    if let Some(map) = map {
        let idle = map.idle(&layout, &preview.head, (path, size, sector)).map_err(Error::from);
        let Some(idle) = refusals.unless(idle)? else { return Ok(None) };
        left_alone = idle.iter().map(|range| range.end - range.start).sum();
    }
    Ok(Some(Plan {
        release: on_disk.release.iter().map(Step::to_string).collect(),
        cleared: layout.cleared.iter().map(Extent::from).collect(),
        held_back: layout.held.iter().map(Extent::from).collect(),
        left_alone,
        backup_moves_to: layout.backup_at(size),
        direct: on_disk.direct,
        read_back: params.verify == Verify::Written,
    }))
}

fn digests(of: DigestOf, expected: &Expected) -> Vec<DigestSeen> {
    let seen = |algorithm, digest: String| DigestSeen { algorithm, of, digest };
    let sha256 = expected.sha256.map(|digest| seen("sha256", digest.to_string()));
    let sha512 = expected.sha512.map(|digest| seen("sha512", digest.to_string()));
    sha256.into_iter().chain(sha512).collect()
}

/// What would make a run fail.
#[derive(Debug, Default)]
struct Refusals(Vec<Refusal>);

impl Refusals {
    fn push(&mut self, error: &Error) {
        let refusal = Refusal { class: error.class(), message: error.to_string() };
        // What is too small is so by the format and by the GPT.
        if !self.0.contains(&refusal) {
            self.0.push(refusal);
        }
    }

    /// The value, or none after noting why there is none. Being stopped is no refusal.
    fn unless<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error @ (Error::Cancelled | Error::TimedOut)) => Err(error),
            Err(error) => {
                self.push(&error);
                Ok(None)
            }
        }
    }
}

/// Keeps what is warned of, and passes all on.
pub(crate) struct Warnings {
    beyond: Arc<dyn Sink>,
    heard: Mutex<Vec<String>>,
}

impl Warnings {
    pub(crate) fn new(beyond: Arc<dyn Sink>) -> Self {
        Self { beyond, heard: Mutex::default() }
    }

    /// What has been warned of so far.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for Warnings {
    fn progress(&self, progress: Progress) {
        self.beyond.progress(progress);
    }

    fn reset(&self, reason: String) {
        self.beyond.reset(reason);
    }

    fn warning(&self, message: String) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(message.clone());
        self.beyond.warning(message);
    }

    fn log(&self, level: LogLevel, message: String) {
        self.beyond.log(level, message);
    }
}

#[cfg(test)]
mod tests;
