//! The image engine: a disk image from where it is served onto a disk, proven before it can boot.
//!
//! ```text
//!  source ──> digest ──> decode ──> digest ──> write ──> read ──> [verdict] ──> commit
//!  HTTP or    of the     lz4, gz,   of the     zero      past       all stages    held-back
//!  file,      bytes as   xz, zstd,  image,     ranges,   the        ended well,   ranges, flushed,
//!  resumes    served     bz2, raw   if asked   the rest  caches     data flushed  then GPTs, flushed
//! ```
//!
//! Each stage is a thread (source and first digest share one, decoding has one per core, the disk
//! two for writing and two for reading) that knows its neighbours only by bounded
//! channels: chunks as they came from the network on the left of `decode`, buffers of a fixed pool
//! on its right. The bytes that make a disk bootable (the first MiB, the start of EFI system
//! partitions, the backup GPT) stay in memory until length, decoder and digests have proven the
//! image, and the disk has been read back; before the first write, the old ones are cleared from
//! the disk. So a disk boots the whole image, or not at all.
//!
//! - [`source`]: where bytes come from ([`fetch`] over HTTP with resume, [`oci`] registries,
//!   [`tuf`] repositories, [`file`]; [`qcow2`]: the disk in such an image).
//! - [`format`], [`decode`]: what they are, told by magic, and their decoders; [`unpack`], [`cut`],
//!   [`workers`], [`ahead`], [`reflow`]: on all cores, in order, in bounded memory; [`lz4`],
//!   [`zstd`](mod@zstd), [`xz`], [`gzip`]: where a stream of theirs can be cut.
//! - [`table`], [`held`], [`zeros`], [`target`], [`write`](mod@write), [`lanes`], [`stale`],
//!   [`commit`]: onto the disk; [`readback`]: and whether it kept it.
//! - [`bmap`]: what of an image need not be written, and proof of the rest.
//! - [`pipeline`], [`stages`]: the threads, the verdict, progress.
//! - [`unpacked`]: the same sources, digests and formats for what is no disk image.
//! - [`layout`], [`preview`], [`look`]: what will be done, told before anything is written.

mod ahead;
mod bmap;
mod buffer;
mod chunks;
mod commit;
mod cut;
mod decode;
mod digest;
mod error;
mod fetch;
mod file;
mod format;
mod gzip;
mod held;
mod lanes;
mod layout;
mod look;
mod lz4;
mod oci;
mod pipeline;
mod preview;
mod progress;
mod qcow2;
mod range;
mod readback;
mod reflow;
mod source;
mod stages;
mod stale;
mod table;
mod target;
pub mod tuf;
mod unpack;
mod unpacked;
mod workers;
mod write;
mod xz;
mod zeros;
mod zstd;

pub use bmap::{BlockMap, MAP_MAX, MapError};
pub use digest::Expected;
pub use error::{Error, Result};
pub use fetch::{Access, Credentials, Fetch, Tokens};
pub use file::FileSource;
pub(crate) use layout::Layout;
pub(crate) use look::look;
pub use oci::{Layer, Registry};
pub use pipeline::{Proof, Summary, stream};
pub(crate) use preview::{Preview, preview};
pub(crate) use qcow2::{Place, Qcow2, Qcow2File};
pub use source::Source;
#[cfg(test)]
pub(crate) use table::tests::image as table_image;
pub use target::{Device, Target};
pub(crate) use unpacked::unpack;
pub use xz::xz_size;
