//! What can be done to a machine.
//!
//! - [`run`]: does one [`nibs_job::Task`] in a [`Context`]; the one door for the executor.
//!   [`explain`]: tells what it would do.
//! - Mechanisms, which know nothing of jobs: [`disk`] (which disks there are, which one is meant,
//!   what keeps it busy, its partitions), [`image`] (the streaming engine), [`http`] (the client),
//!   [`mount`] (filesystems and files in them), [`efi`] (what the firmware boots).
//! - One module per action composes them, such as [`stream_image`].
//!
//! Everything here blocks; only the HTTP client runs on the executor's tokio runtime.

mod archive;
mod boot_order;
mod bottlerocket;
mod context;
pub mod disk;
pub mod efi;
mod error;
pub mod http;
pub mod image;
mod kexec;
mod layout;
pub mod mount;
mod netplan;
mod partition;
pub mod power;
mod process;
mod run;
mod run_command;
mod storage;
pub mod stream_image;
mod upload_image;
mod volume;
mod write_files;

pub use archive::{ArchiveError, EntryError};
pub use boot_order::LoaderError;
pub use bottlerocket::Error as BottlerocketError;
pub use context::{Context, Interrupted, Machine, Sink, Stop};
pub use error::Error;
pub use kexec::{GrubError, KexecError};
pub use layout::FormatError;
pub use partition::{LocateError, Located};
pub use power::PowerChange;
pub use process::ProcessError;
pub use run::{Done, explain, run};
pub use storage::StorageError;
pub use upload_image::UploadError;
