//! Other disks with a Bottlerocket: it mounts some of its partitions by label, and GRUB and the
//! first boot look for others by type and GUID, so what a former installation left can be taken for
//! its own.

use nibs_bottlerocket::partitions::kind;
use nibs_job::params::Duplicates;

use super::error::Error;
use crate::Context;
use crate::disk::{self, Disk, Partition};

/// How the names of a Bottlerocket's own partitions begin.
const PREFIX: &str = "BOTTLEROCKET-";

/// A disk with partitions of a Bottlerocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Duplicate {
    disk: Disk,
    partitions: Vec<Partition>,
}

impl std::fmt::Display for Duplicate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { disk, partitions } = self;
        let one = |partition: &Partition| match &*partition.name {
            "" => format!("{} of type {}", partition.number, partition.type_guid),
            name => format!("{} {name}", partition.number),
        };
        let list: Vec<String> = partitions.iter().map(one).collect();
        write!(f, "{disk} has partitions {}", list.join(", "))
    }
}

/// Finds the duplicates of a machine, but for the disk that is meant.
pub(super) fn find(meant: &Disk, context: &Context) -> Result<Vec<Duplicate>, disk::Error> {
    let others = disk::list(&context.machine)?.into_iter().filter(|disk| !is_same(disk, meant));
    let duplicate = |disk: Disk| {
        // A disk that is blank, or cannot be read, has no partitions.
        let mut partitions = disk::partitions(&disk).unwrap_or_default();
        partitions.retain(is_bottlerockets);
        (!partitions.is_empty()).then_some(Duplicate { disk, partitions })
    };
    Ok(others.filter_map(duplicate).collect())
}

/// Does with the duplicates as the job asks for.
pub(super) fn handle(
    asked: Duplicates,
    meant: &Disk,
    context: &Context,
) -> Result<(), crate::Error> {
    let found = find(meant, context)?;
    if found.is_empty() {
        return Ok(());
    }
    match asked {
        Duplicates::Refuse => {
            let disks = found.iter().map(Duplicate::to_string).collect();
            Err(Error::Duplicates { disks }.into())
        }
        Duplicates::Warn => {
            for duplicate in found {
                context.sink.warning(format!(
                    "another disk has a Bottlerocket, which this one may mount parts of: {duplicate}"
                ));
            }
            Ok(())
        }
        Duplicates::Wipe => wipe(&found, context),
    }
}

/// Clears the tables of all, or of none if one of them is in use.
fn wipe(found: &[Duplicate], context: &Context) -> Result<(), crate::Error> {
    let claim = |duplicate: &Duplicate| disk::claim(&context.machine, &duplicate.disk);
    let claims: Vec<disk::Claim> = found.iter().map(claim).collect::<Result<_, _>>()?;
    for (duplicate, claim) in found.iter().zip(&claims) {
        context.check()?;
        disk::clear_table(claim)?;
        context.info(format!("cleared its partition table: {duplicate}"));
    }
    Ok(())
}

fn is_bottlerockets(partition: &Partition) -> bool {
    partition.name.starts_with(PREFIX) || [kind::PRIVATE, kind::DATA].contains(&partition.type_guid)
}

/// Whether two are one disk: the same node, or another path to it.
fn is_same(disk: &Disk, meant: &Disk) -> bool {
    let by_serial = |disk: &Disk| Some((disk.serial.clone()?, disk.model.clone(), disk.size));
    disk.name == meant.name
        || disk.wwn.as_ref().is_some_and(|wwn| meant.wwn.as_ref() == Some(wwn))
        || by_serial(disk).is_some_and(|of_disk| by_serial(meant) == Some(of_disk))
}
