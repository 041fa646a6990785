//! The agent's own log lines, on stderr.

use std::io::{self, Write, stderr};

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::MakeWriter;

use super::bar::terminal;

/// Which log lines are shown, most telling first; the syntax is that of `tracing-subscriber`.
const VARIABLES: [&str; 2] = ["NIBS_LOG", "RUST_LOG"];

/// Starts logging for this process: what is at least `info`, or what `NIBS_LOG` or `RUST_LOG`
/// asks for.
pub fn start_logging() {
    let wanted = VARIABLES.iter().find_map(|name| std::env::var(name).ok());
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(wanted.unwrap_or_default());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(BesideTheBar)
        .with_ansi(false)
        .with_target(false)
        .compact()
        .finish();
    // Fails only where logging has been started before, as in tests.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Writes to stderr while the progress bar steps aside.
#[derive(Debug, Clone, Copy)]
struct BesideTheBar;

impl<'a> MakeWriter<'a> for BesideTheBar {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for BesideTheBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        terminal().suspend(|| stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}
