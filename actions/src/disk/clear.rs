//! Clearing a partition table, so that nobody takes what it told for partitions.

use std::os::unix::fs::FileExt;

use super::settle::reread;
use super::{Claim, Error, Result};

/// The least that a table's entries may take, and what those of all common tools do (UEFI 2.10,
/// 5.3.2). Of larger ones the rest means nothing without its header.
const ENTRIES: u64 = 16 << 10;

/// Clears both GPTs of a claimed disk with the protective MBR, and has the kernel forget their
/// partitions. What is in these is left as it is.
pub fn clear_table(claim: &Claim) -> Result<()> {
    let (disk, file) = (claim.disk(), claim.file());
    let failed = || Error::io("clearing the partition table of", &disk.path);
    let sector = u64::from(disk.sector_size);
    let backup = (ENTRIES + sector).min(disk.size);
    // The backup first: an interruption leaves a table that is seen, and so cleared later.
    for (start, length) in
        [(disk.size - backup, backup), (0, (ENTRIES + 2 * sector).min(disk.size))]
    {
        let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
        file.write_all_at(&zeros, start).and_then(|()| file.sync_all()).map_err(failed())?;
    }
    // The kernel may have no GPT support, and then knows none.
    let _ = reread(file);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::list::tests::FakeMachine;
    use super::super::{claim, open_named, partitions};
    use super::*;

    const SIZE: usize = 4 << 20;

    #[test]
    fn both_tables_go_and_the_rest_stays() {
        for end in [SIZE, SIZE / 2] {
            let fake = FakeMachine::new();
            fake.disk("vda", SIZE as u64, &[]);
            fake.write(&fake.machine.proc.join("self/mountinfo"), "");
            let node = fake.machine.dev.join("vda");
            let mut content = crate::image::table_image(SIZE, gpt::disk::LogicalBlockSize::Lb512);
            content[64 << 10..][..100].fill(7);
            fs::write(&node, &content).unwrap();
            let disk = open_named(&fake.machine, Path::new("/dev/vda")).unwrap().unwrap();
            if end == SIZE {
                partitions(&disk).unwrap();
            }
            clear_table(&claim(&fake.machine, &disk).unwrap()).unwrap();
            assert!(partitions(&disk).is_err());
            let cleared = fs::read(&node).unwrap();
            assert_eq!(cleared.len(), SIZE);
            assert!(cleared[64 << 10..][..100].iter().all(|byte| *byte == 7));
        }
    }
}
