//! Filesystems on a partition: what they are, a private mount of them, files in them.
//!
//! - [`probe`]: type and label of the filesystem on a device, by libblkid.
//! - [`with_mounted`]: runs a closure with the filesystem mounted where nobody else sees it.
//! - [`with_system`]: the same for the root of an installed system, so that its programs run in it.
//! - [`Root`]: the mounted tree. Paths are resolved inside of it: a symbolic link of the image
//!   cannot lead out.
//!
//! ```text
//! wait for the node -> probe -> mount rw -> temporary, fsync, rename -> syncfs -> unmount
//!                               mount ro -> compare bytes, modes, owners -> unmount
//! ```

mod error;
mod filesystem;
mod private;
mod root;
mod system;

pub use error::{FileError, MountError};
pub use filesystem::{FilesystemInfo, mountable, probe, wait_for_node};
pub use private::{Access, with_mounted};
pub use root::{DirectoryEntry, FileKind, NewFile, Root};
pub use system::{System, with_system};
