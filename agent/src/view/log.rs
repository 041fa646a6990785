//! The agent's own log lines, on stderr.

use std::io::{self, Write, stderr};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{fmt, registry};

use super::bar::terminal;

/// Which log lines are shown, most telling first: a level, or `TARGET=LEVEL`, with commas between.
const VARIABLES: [&str; 2] = ["NIBS_LOG", "RUST_LOG"];

/// Starts logging for this process: what is at least `info`, or what `NIBS_LOG` or `RUST_LOG`
/// asks for.
pub fn start_logging() {
    let wanted = VARIABLES.iter().find_map(|name| std::env::var(name).ok());
    // Whoever asks in words that nobody understands still gets what everybody gets.
    let filter: Targets = wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or_default();
    let rest = filter.default_level().unwrap_or(LevelFilter::INFO);
    let filter = filter.with_default(rest);
    let lines =
        fmt::layer().with_writer(BesideTheBar).with_ansi(false).with_target(false).compact();
    // Fails only where logging has been started before, as in tests.
    let _ = tracing::subscriber::set_global_default(registry().with(filter).with(lines));
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
