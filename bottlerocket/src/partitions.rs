//! The partition map of a Bottlerocket metal image, and the names of what an installer touches.
//!
//! Source: twoliter 0.5.0, `embedded/partyplanner` and `embedded/rpm2img`, for the variant
//! `metal-dev` (2 GiB of system, 1 GiB of data, plan `unified`, with in-place updates).
//! Every partition starts on a MiB and follows the one before it; the first starts at 1 MiB. The
//! image is 3 GiB, so room for the backup GPT is left at its end.

use uuid::{Uuid, uuid};

/// GPT partition types, by the role Bottlerocket gives them.
pub mod kind {
    use super::{Uuid, uuid};

    /// GRUB's core image on machines that start by BIOS (GRUB manual, "BIOS installation").
    pub const BIOS_BOOT: Uuid = uuid!("21686148-6449-6e6f-744e-656564454649");
    /// EFI system partition (UEFI specification, 5.3.3).
    pub const EFI_SYSTEM: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    /// Copy of the EFI system partition, hidden from firmware (partyplanner).
    pub const EFI_BACKUP: Uuid = uuid!("b39ce39c-0a00-b4ab-2d11-f18f8237a21c");
    /// Kernel and GRUB configuration (partyplanner).
    pub const BOOT: Uuid = uuid!("6b636168-7420-6568-2070-6c616e657421");
    /// Root filesystem (partyplanner).
    pub const ROOT: Uuid = uuid!("5526016a-1a97-4ea4-b39a-b7c8c6ca4502");
    /// dm-verity tree of the root filesystem (partyplanner).
    pub const HASH: Uuid = uuid!("598f10af-c955-4456-6a99-7720068a6cea");
    /// Unused space of a bank (partyplanner).
    pub const RESERVED: Uuid = uuid!("0c5d99a5-d331-4147-baef-08e2b855bdc9");
    /// Settings of this machine; what an installer configures (partyplanner).
    pub const PRIVATE: Uuid = uuid!("440408bb-eb0b-4328-a6e5-a29038fad706");
    /// Data of this machine, formatted at first boot (partyplanner).
    pub const DATA: Uuid = uuid!("626f7474-6c65-6474-6861-726d61726b73");
}

/// GPT name of the private partition. Its number differs between layouts (12 with in-place
/// updates, 7 without), so look it up by [`kind::PRIVATE`] and check this name.
pub const PRIVATE_NAME: &str = "BOTTLEROCKET-PRIVATE";

/// Whether what is said of a partition, its GPT name or type, makes it the private one.
pub fn is_private(name: Option<&str>, kind: Option<Uuid>) -> bool {
    name == Some(PRIVATE_NAME) || kind == Some(kind::PRIVATE)
}

/// Partition GUID of the data partition in unified images. It is a constant of the build, not
/// random: the first boot finds the partition by it, so an installer must keep it.
pub const DATA_PARTUUID: Uuid = uuid!("5b94e8df-28b8-485c-9d19-362263b5944c");

/// Attributes of the bank that boots: priority 1 (bits 48 to 51), no tries left to count
/// (52 to 55), successful (bit 56).
pub const ACTIVE_BANK: u64 = 0x0101_0000_0000_0000;

/// Names of the files at the root of the private partition.
pub mod private_file {
    /// Settings, read at the first boot.
    pub const USER_DATA: &str = "user-data.toml";
    /// Network configuration, read at every boot.
    pub const NET_CONFIG: &str = "net.toml";
    /// Boot configuration, read by GRUB at every boot: without it GRUB waits for a key.
    pub const BOOT_CONFIG: &str = "bootconfig.data";
}

/// One partition of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Number in the GPT, from 1.
    pub number: u32,
    /// GPT name; empty for the data partition until its first boot names it.
    pub name: &'static str,
    /// GPT type GUID, from [`kind`].
    pub kind: Uuid,
    /// Size in MiB.
    pub mib: u64,
    /// GPT attribute bits.
    pub attributes: u64,
}

const fn partition(number: u32, name: &'static str, kind: Uuid, mib: u64) -> Partition {
    Partition { number, name, kind, mib, attributes: 0 }
}

/// The map of `metal-dev`: 13 partitions in the order in which they lie on the disk.
pub const METAL_DEV: [Partition; 13] = [
    partition(1, "BIOS-BOOT", kind::BIOS_BOOT, 4),
    partition(2, "EFI-SYSTEM", kind::EFI_SYSTEM, 5),
    Partition { attributes: ACTIVE_BANK, ..partition(3, "BOTTLEROCKET-BOOT-A", kind::BOOT, 40) },
    partition(4, "BOTTLEROCKET-ROOT-A", kind::ROOT, 920),
    partition(5, "BOTTLEROCKET-HASH-A", kind::HASH, 10),
    partition(6, "BOTTLEROCKET-RESERVED-A", kind::RESERVED, 25),
    partition(7, "EFI-BACKUP", kind::EFI_BACKUP, 5),
    partition(8, "BOTTLEROCKET-BOOT-B", kind::BOOT, 40),
    partition(9, "BOTTLEROCKET-ROOT-B", kind::ROOT, 920),
    partition(10, "BOTTLEROCKET-HASH-B", kind::HASH, 10),
    partition(11, "BOTTLEROCKET-RESERVED-B", kind::RESERVED, 25),
    partition(12, PRIVATE_NAME, kind::PRIVATE, 41),
    partition(13, "", kind::DATA, 1024),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metal_dev_leaves_room_for_the_backup_gpt_in_three_gibibytes() {
        let end = 1 + METAL_DEV.iter().map(|partition| partition.mib).sum::<u64>();
        assert_eq!(end, 3070);
    }

    #[test]
    fn metal_dev_offsets_are_those_of_the_built_image() {
        let mut offset = 1;
        let mut offsets = Vec::new();
        for partition in METAL_DEV {
            offsets.push(offset);
            offset += partition.mib;
        }
        assert_eq!(offsets, [1, 5, 10, 50, 970, 980, 1005, 1010, 1050, 1970, 1980, 2005, 2046]);
    }

    #[test]
    fn metal_dev_numbers_follow_its_order_and_only_one_bank_is_active() {
        for (index, partition) in METAL_DEV.iter().enumerate() {
            assert_eq!(partition.number as usize, index + 1);
        }
        let active: Vec<_> = METAL_DEV.iter().filter(|p| p.attributes == ACTIVE_BANK).collect();
        assert_eq!(active.len(), 1);
        assert_eq!(active[0].name, "BOTTLEROCKET-BOOT-A");
    }
}
