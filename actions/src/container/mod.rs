//! Programs of container images, on the machine itself.
//!
//! ```text
//!  the action's thread                          the container's thread
//!  ───────────────────                          ──────────────────────
//!  layout or registry ─ manifest, config
//!  is there room?     ─────────────────────────> own mount namespace, root in memory or on scratch
//!  layer ─ digest ──── chunks ─────────────────> chroot, unzip, untar
//!  all proven ─────────────────────────────────> /dev /sys, volumes, own PID namespace, program
//!  log <─────────────── pipes ────────────────── its output
//!  stop: SIGTERM, 5 s, SIGKILL of all           waits; the namespace ends, and the root with it
//! ```
//!
//! Nothing is fetched inside, where the machine's resolver and certificates are not; and whatever an
//! image holds is made inside a chroot, where no path and no link leads out. The mounts are in a
//! namespace of the container's thread: nobody else sees them. The program is started by an ordinary
//! fork of that thread, and is killed with it (PR_SET_PDEATHSIG): should the agent be killed, so is the
//! program, with all of its PID namespace, and the kernel drops the mounts with the last process
//! there. Among the machine's processes (`pid: host`) what the program has started goes on.
//!
//! Why no library: `oci-client` 0.18 makes its own HTTP client, whose names go through the C
//! library, which a static agent must not use, and whose transfers start over when they break.
//! `libcontainer` 0.7 (youki) fails without a cgroup2 at `/sys/fs/cgroup` (an initramfs has none
//! mounted, older systems have version 1 there), fails where `/dev` is the machine's own (it makes
//! `/dev/fd`, which is there), forks by a bare clone3(2), which a process with threads must not do,
//! and adds up to 1.1 MiB to the compressed agent (a static program that only starts a container with
//! it, less one that does nothing).
//!
//! - [`image`]: what an image is made of; [`layout`], [`pull`]: where it is.
//! - [`room`]: whether it fits. [`layer`]: its files.
//! - [`inside`]: the container's thread; [`root`], [`user`], [`program`]: parts of what it does.
//! - [`output`]: what the program says; [`end`](mod@end): how it is ended.

mod end;
mod error;
mod image;
mod inside;
mod layer;
mod layout;
mod output;
mod program;
mod pull;
mod room;
mod root;
mod run;
mod user;

pub use error::Error;
pub(crate) use run::run;
