//! `write-files`: files into a filesystem on a disk, proven by reading them again.

use std::collections::HashMap;
use std::path::Path;

use nibs_job::params::{self, Content, Filesystem, WriteFiles};

use crate::mount::{self, Access, NewFile, Root};
use crate::{Context, Done, Error, netplan, partition};

/// What a FAT filesystem gives a file, near enough: nothing is lost for a file that asks for it.
const FAT_MODE: u32 = 0o644;

/// Does the action. Contents and digests of them are never logged: files may hold secrets.
pub(crate) fn run(params: &WriteFiles, context: &Context) -> Result<Done, Error> {
    let contents = contents(params, context)?;
    let files: Vec<NewFile<'_>> = params
        .files
        .iter()
        .zip(&contents)
        .map(|(file, content)| NewFile {
            path: &file.path,
            content,
            mode: file.mode.0,
            directory_mode: file.directory_mode.0,
            uid: file.uid,
            gid: file.gid,
        })
        .collect();

    let device = partition::device(&params.partition, params.disk.as_ref(), context)?;
    mount::wait_for_node(&device)?;
    let filesystem = mount::mountable(&device, params.filesystem)?;
    if filesystem == Filesystem::Vfat && files.iter().any(wants_more_than_fat) {
        let name = name(&device, filesystem);
        context.info(format!("{name} stores no owners and modes: those of the files are dropped"));
    }

    write_and_prove(&device, filesystem, &files, context)?;
    Ok(Done::default())
}

/// Writes files into the filesystem on a device, and compares them after mounting it once more.
pub(crate) fn write_and_prove(
    device: &Path,
    filesystem: Filesystem,
    files: &[NewFile<'_>],
    context: &Context,
) -> Result<(), Error> {
    context.check()?;
    mount::with_mounted(device, filesystem, Access::ReadWrite, |root| {
        write_all(root, files, context)
    })?;
    mount::with_mounted(device, filesystem, Access::ReadOnly, |root| verify_all(root, files))?;
    let name = name(device, filesystem);
    context.info(format!("read {} files back from {name}: all as written", files.len()));
    Ok(())
}

fn name(device: &Path, filesystem: Filesystem) -> String {
    format!("{} ({})", device.display(), filesystem.as_str())
}

fn contents(params: &WriteFiles, context: &Context) -> Result<Vec<Vec<u8>>, Error> {
    let make = |file: &params::NewFile| {
        let made = match &file.content {
            Content::Netplan(asked) => netplan::make(asked, context),
            given => given.bytes(),
        };
        made.map_err(|cause| Error::Content { path: file.path.display().to_string(), cause })
    };
    params.files.iter().map(make).collect()
}

fn wants_more_than_fat(file: &NewFile<'_>) -> bool {
    file.mode != FAT_MODE || file.uid != 0 || file.gid != 0
}

fn write_all(root: &Root, files: &[NewFile<'_>], context: &Context) -> Result<(), Error> {
    for file in files {
        context.check()?;
        root.write(file)?;
        context.info(format!("wrote {file:?}"));
    }
    Ok(())
}

/// Of files with the same path the last is the one that must be there.
fn verify_all(root: &Root, files: &[NewFile<'_>]) -> Result<(), Error> {
    let last: HashMap<_, _> = files.iter().map(|file| (file.path, file)).collect();
    last.into_values().try_for_each(|file| Ok(root.verify(file)?))
}
