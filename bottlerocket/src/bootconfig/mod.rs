//! The kernel's boot configuration: parameters in a file that the boot loader hands over as an
//! initrd. On Bottlerocket that file is `bootconfig.data`, and a bad one is ignored without a word.
//!
//! ```text
//! text --parse--> Tree --render--> text --pack--> bootconfig.data --unpack--> text
//!                  | ^
//!   list, cmdline  | '-- BootSettings (`settings.boot` of user data, or a job's own table)
//!   (what a kernel | --> bottlerocket_check, settings::consistency
//!   makes of it) <-'
//! ```
//!
//! The grammar is that of `lib/bootconfig.c` in Linux 6.12, less what some kernel that Bottlerocket
//! ran on reads otherwise; `Documentation/admin-guide/bootconfig.rst` describes it.

mod check;
mod error;
pub mod limits;
mod pack;
mod parser;
mod print;
mod render;
pub mod settings;
mod traps;
mod tree;

pub use check::{Checked, bottlerocket_check, check, check_packed, check_text};
pub use error::{ParseError, ParseErrorKind};
pub use limits::MAX_SIZE;
pub use pack::{PackError, TAIL, UnpackError, footer, pack, strip, unpack};
pub use parser::{Parsed, parse, parse_bytes};
pub use print::{CutShort, cmdline, compact, list, parameters};
pub use render::{RenderError, render};
pub use settings::BootSettings;
pub use tree::{Key, KeyError, Quotes, Tree, Value};

/// The boot configuration of a Bottlerocket image as it is shipped: no parameters at all.
pub const EMPTY: &str = "kernel {}\ninit {}\n";

/// The key whose subkeys are put before the loader's kernel parameters.
pub const KERNEL: &str = "kernel";

/// The key whose subkeys are put before the loader's arguments to init, after `--`.
pub const INIT: &str = "init";
