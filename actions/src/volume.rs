//! The block device that a job means, wherever it is.

use std::path::PathBuf;

use nibs_job::params::{Filesystem, Volume};

use crate::{Context, Error, mount, partition};

/// Finds the block device and waits for its node.
pub(crate) fn device(volume: &Volume, context: &Context) -> Result<PathBuf, Error> {
    let device = partition::device(&volume.partition, volume.disk.as_ref(), context)?;
    mount::wait_for_node(&device)?;
    Ok(device)
}

/// Finds the block device, and what filesystem it holds.
pub(crate) fn filesystem(
    volume: &Volume,
    context: &Context,
) -> Result<(PathBuf, Filesystem), Error> {
    let device = device(volume, context)?;
    let filesystem = mount::mountable(&device, volume.filesystem)?;
    Ok((device, filesystem))
}
