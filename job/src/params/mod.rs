//! What each action takes: the tables behind `with`, one type per `uses`.

/// serde for a type derived with `remote = "Self"`, so that it is checked as it is decoded.
macro_rules! checked_on_decode {
    ($type:ty) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                <$type>::deserialize(d)?.checked().map_err(serde::de::Error::custom)
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                <$type>::serialize(self, s)
            }
        }
    };
}

mod boot_order;
mod bottlerocket;
mod disk;
mod extract_archive;
mod image;
mod kexec;
mod layout;
mod partition;
mod power;
mod run_command;
mod run_container;
mod storage;
mod stream_image;
mod tuf;
mod upload_image;
mod volume;
mod write_files;

pub use boot_order::{BootOrder, BootPolicy};
pub use bottlerocket::{Bootconfig, Bottlerocket, Duplicates, Net, NetFrom, SecureBoot, UserData};
pub use disk::{DiskSelector, Pick};
pub use extract_archive::ExtractArchive;
pub use image::{Bmap, DEFAULT_STALL_TIMEOUT, Image, ImageFormat, MAX_CONNECTIONS};
pub use kexec::Kexec;
pub use layout::{
    Format, MakeFilesystem, NewPartition, PartitionDisk, PartitionUse, TableKind, WipeDisk,
};
pub use partition::PartitionSelector;
pub use power::{PowerOff, Reboot};
pub use run_command::RunCommand;
pub use run_container::{
    ContainerVolume, DEFAULT_PULL_STALL_TIMEOUT, ImageName, NetworkNamespace, PidNamespace,
    RunContainer, VolumeSource,
};
pub use storage::{Storage, StorageStep};
pub use stream_image::{StreamImage, Verify};
pub use tuf::{Tuf, TufArch, TufExpiration, TufRoot, TufVersion};
pub use upload_image::{UploadCompression, UploadImage};
pub use volume::Volume;
pub use write_files::{Content, Filesystem, Mode, Netplan, NewFile, WriteFiles};
