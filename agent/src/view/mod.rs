//! Shows a job's events to whoever watches: a live bar on a terminal, lines elsewhere, JSON for
//! programs. A view knows events and nothing else.
//!
//! People are written to on stderr and programs on stdout, so that both can watch at once.

mod bar;
mod json;
mod lines;
mod log;
mod story;
mod syslog;

use std::io::{IsTerminal, stderr};
use std::sync::Arc;

pub use self::json::JsonLines;
pub use self::lines::Lines;
pub use self::log::{log_to_syslog, start_json_logging, start_logging};
pub use self::syslog::SyslogLines;
use crate::journal::Outlet;

/// The view for a person at stderr, whatever is there.
pub fn for_people() -> Arc<dyn Outlet> {
    // A serial console is a terminal too, but one without a size, where a bar makes a mess.
    let has_size = bar::Bar::width().is_some_and(|columns| columns > 0);
    if stderr().is_terminal() && has_size {
        Arc::new(bar::Bar::new())
    } else {
        Arc::new(Lines::new(stderr()))
    }
}
