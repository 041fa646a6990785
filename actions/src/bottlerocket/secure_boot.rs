//! The image's own certificate into the firmware: the machine's part of [`efi::secure_boot`].

use std::path::Path;

use nibs_job::params::{Filesystem, PartitionSelector, SecureBoot};

use super::error::Error;
use crate::Context;
use crate::disk::Disk;
use crate::efi::{self, ESP_TYPE, Efivarfs};
use crate::mount::{self, Access, FileError};
use crate::partition::Located;

/// Where twoliter's `rpm2img` puts the certificate on the EFI system partition.
const CERTIFICATE: &str = "/EFI/BOOT/db.cer";

/// Bytes; a certificate of an RSA key of 4096 bits has less than two thousand.
const MAX_CERTIFICATE: u64 = 64 << 10;

/// Fails if the firmware would not take the keys, as far as that shows before anything is written.
pub(super) fn check(params: &SecureBoot, context: &Context) -> Result<(), crate::Error> {
    let variables = variables(context)?;
    Ok(efi::secure_boot::check(params, &variables).map_err(Error::from)?)
}

/// Enrols the certificate of the system on a disk.
pub(super) fn enrol(
    params: &SecureBoot,
    disk: &Disk,
    context: &Context,
) -> Result<(), crate::Error> {
    let certificate = certificate(disk, context)?;
    let mut variables = variables(context)?;
    let enrolled = efi::secure_boot::enrol(params, &certificate, &mut variables);
    let enrolled = enrolled.map_err(Error::from)?;
    enrolled.changes.into_iter().for_each(|change| context.info(change));
    enrolled.warnings.into_iter().for_each(|warning| context.sink.warning(warning));
    Ok(())
}

fn variables(context: &Context) -> Result<Efivarfs, Error> {
    let root = &context.machine.efivars;
    Efivarfs::open(root).ok_or_else(|| Error::NoVariables { root: root.clone() })
}

fn certificate(disk: &Disk, context: &Context) -> Result<Vec<u8>, crate::Error> {
    let on_disk = Context { installed_disk: Some(disk.path.clone()), ..context.clone() };
    let wanted = PartitionSelector { type_guid: Some(ESP_TYPE), ..PartitionSelector::default() };
    let esp = Located::find(&wanted, None, &on_disk)?.partition.path;
    mount::wait_for_node(&esp)?;
    let filesystem = mount::mountable(&esp, Some(Filesystem::Vfat))?;
    mount::with_mounted(&esp, filesystem, Access::ReadOnly, |root| {
        root.read(Path::new(CERTIFICATE), MAX_CERTIFICATE).map_err(|error| match error {
            FileError::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => {
                Error::NoCertificate { esp: esp.clone() }.into()
            }
            error => crate::Error::from(error),
        })
    })
}
