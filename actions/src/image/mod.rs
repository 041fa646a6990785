//! The image engine: a disk image from where it is served onto a disk, proven before it can boot.
//!
//! ```text
//!  source ──> digest ──> decode ──> digest ──> write ──> [verdict] ──> commit
//!  HTTP or    of the     lz4, gz,   of the     zero      all stages    held-back
//!  file,      bytes as   xz, zstd,  image,     ranges,   ended well,   ranges, flushed
//!  resumes    served     bz2, raw   if asked   the rest  data flushed
//! ```
//!
//! Each stage is a thread that knows its neighbours only by bounded channels: chunks as they came
//! from the network on the left of `decode`, buffers of a fixed pool on its right. The bytes that
//! make a disk bootable (the first MiB and the backup GPT) stay in memory until length, decoder
//! and digests have proven the image; before the first write, the old ones are cleared from the
//! disk. So a disk boots the whole image, or not at all.
//!
//! - [`source`]: where bytes come from ([`fetch`] over HTTP with resume, [`file`]).
//! - [`format`], [`decode`], [`lz4`]: what they are, told by magic, and their decoders.
//! - [`table`], [`held`], [`zeros`], [`target`], [`write`](mod@write): onto the disk.
//! - [`pipeline`]: the threads, the verdict, progress.

mod buffer;
mod chunks;
mod decode;
mod digest;
mod error;
mod fetch;
mod file;
mod format;
mod held;
mod lz4;
mod pipeline;
mod progress;
mod range;
mod source;
mod table;
mod target;
mod write;
mod zeros;

pub use digest::Expected;
pub use error::{Error, Result};
pub use fetch::Fetch;
pub use file::FileSource;
pub use pipeline::{Summary, stream};
pub use source::Source;
pub use target::{Device, Target};
