//! The block device that a job means, wherever it is.

use std::path::PathBuf;

use nibs_job::params::{Filesystem, Volume};

use crate::partition::Located;
use crate::{Context, Error, mount};

/// Finds the block device and waits for its node.
pub(crate) fn device(volume: &Volume, context: &Context) -> Result<PathBuf, Error> {
    let device = match (&volume.device, &volume.partition) {
        (Some(path), _) => context.machine.device(path),
        (None, Some(wanted)) => {
            Located::find(wanted, volume.disk.as_ref(), context)?.partition.path
        }
        // Refused when the job was decoded.
        (None, None) => PathBuf::new(),
    };
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
