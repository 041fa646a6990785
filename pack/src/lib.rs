//! Assembles what ships: the initramfs, container images and disk images, without root and without
//! Docker.
//!
//! - [`initramfs`]: the agent as `/init`, CA roots and mount points.
//! - [`images`]: the agent as container images, by all its names.
//! - [`bottlerocket`]: the demo image, a bootable disk in the shape of Bottlerocket's `metal-dev`.
//! - [`debian`]: a Debian 12 disk image.
//! - [`checksum`], [`manifest`]: what a download is checked against.
//!
//! Underneath: `oci` writes container images, `disk` lays partitions out, `filesystem` fills them, `compress` packs the result
//! and `tool` runs the programs of Debian packages that do the work nobody should write again.
//!
//! Equal inputs give equal bytes, save for the Debian image, whose packages write what they like:
//! every identifier is derived from the inputs and every time is [`EPOCH`].

pub mod bottlerocket;
pub mod checksum;
mod compress;
pub mod debian;
mod digest;
mod disk;
mod filesystem;
pub mod images;
pub mod initramfs;
pub mod manifest;
mod oci;
mod output;
mod tool;

/// The time written wherever a format wants one, in seconds since 1970: 2020-01-01 00:00:00 UTC.
/// Not 0, which FAT cannot hold and mke2fs takes for "now".
pub const EPOCH: u32 = 1_577_836_800;
