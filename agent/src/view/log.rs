//! The agent's own log lines: for people on stderr, or as JSON on stdout; and to syslog too, where
//! there is a receiver.

use std::fmt::{self, Write as _};
use std::io::{self, Write, stderr, stdout};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry;

use super::bar::terminal;
use crate::syslog::{Severity, Syslog};

/// Which log lines are shown, most telling first: a level, or `TARGET=LEVEL`, with commas between.
const VARIABLES: [&str; 2] = ["NIBS_LOG", "RUST_LOG"];

/// From which verbosity on tink-agent's name shows debug and trace lines.
const DEBUG: i64 = 1;
const TRACE: i64 = 5;

/// Where log lines go besides, from when there is somewhere.
static SYSLOG: OnceLock<Arc<Syslog>> = OnceLock::new();

/// Starts logging for this process, for people: what is at least `info`, or what `NIBS_LOG` or
/// `RUST_LOG` asks for.
pub fn start_logging() {
    let lines = tracing_subscriber::fmt::layer();
    let lines = lines.with_writer(BesideTheBar).with_ansi(false).with_target(false).compact();
    start(lines, Targets::new());
}

/// Starts logging for this process as tink-agent does: JSON objects on stdout, each with the id of
/// the agent, and more of them with a greater `verbosity`.
pub fn start_json_logging(verbosity: i64, agent: &str) {
    let level = match verbosity {
        i64::MIN..DEBUG => LevelFilter::INFO,
        DEBUG..TRACE => LevelFilter::DEBUG,
        TRACE.. => LevelFilter::TRACE,
    };
    // Whoever wants more of the agent does not want all of its libraries.
    let ours = Targets::new().with_target("nibs", level);
    start(JsonLog { agent: agent.to_owned() }, ours);
}

/// Has the log lines of this process go to syslog too.
pub fn log_to_syslog(syslog: Arc<Syslog>) {
    // Once only, as in a process that has one receiver.
    let _ = SYSLOG.set(syslog);
}

/// Logs with `lines` what the environment asks for, and where it does not ask, `usual`, and `info`.
fn start<L>(lines: L, usual: Targets)
where
    L: Layer<tracing_subscriber::layer::Layered<Targets, registry::Registry>> + Send + Sync,
{
    let wanted = VARIABLES.iter().find_map(|name| std::env::var(name).ok());
    // Whoever asks in words that nobody understands still gets what everybody gets.
    let filter: Targets = wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or(usual);
    let rest = filter.default_level().unwrap_or(LevelFilter::INFO);
    let filter = filter.with_default(rest);
    let log = registry().with(filter).with(lines).with(ToSyslog);
    // Fails only where logging has been started before, as in tests.
    let _ = tracing::subscriber::set_global_default(log);
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

/// Writes lines as tink-agent's: `time`, `level` as a number, `msg`, `agentID`, and whatever else
/// was said.
#[derive(Debug, Clone)]
struct JsonLog {
    agent: String,
}

impl<S: Subscriber> Layer<S> for JsonLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let line = said.into_json(*event.metadata().level(), SystemTime::now(), &self.agent);
        // Whoever read the lines may be gone; the agent goes on.
        let _ = writeln!(stdout(), "{line}");
    }
}

/// Sends lines to the receiver, if there is one.
#[derive(Debug, Clone, Copy)]
struct ToSyslog;

impl<S: Subscriber> Layer<S> for ToSyslog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(syslog) = SYSLOG.get() else { return };
        let severity = match *event.metadata().level() {
            Level::ERROR => Severity::Err,
            Level::WARN => Severity::Warning,
            Level::INFO => Severity::Info,
            Level::DEBUG | Level::TRACE => Severity::Debug,
        };
        let mut said = Said::default();
        event.record(&mut said);
        syslog.say(severity, SystemTime::now(), &said.into_text());
    }
}

/// What a log line says.
#[derive(Debug, Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => self.fields.push((name, text)),
        }
    }
}

impl Said {
    fn into_text(self) -> String {
        let mut text = self.message;
        for (name, value) in self.fields {
            // Writing to a string does not fail.
            let _ = write!(text, " {name}={value}");
        }
        text
    }

    fn into_json(self, level: Level, time: SystemTime, agent: &str) -> Value {
        // What is above info in Go's slog is numbered in steps of four, and what is below by the
        // verbosity that shows it.
        let level = match level {
            Level::ERROR => 8,
            Level::WARN => 4,
            Level::INFO => 0,
            Level::DEBUG => DEBUG,
            Level::TRACE => TRACE,
        };
        let mut object = Map::new();
        object.insert("time".into(), humantime::format_rfc3339_nanos(time).to_string().into());
        object.insert("level".into(), level.into());
        object.insert("msg".into(), self.message.into());
        object.insert("agentID".into(), agent.into());
        let fields = self.fields.into_iter();
        object.extend(fields.map(|(name, value)| (name.to_owned(), value.into())));
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_keys_of_tink_agents() {
        let said = Said { message: "starting \"it\"".into(), fields: vec![("n", "1".into())] };
        let time = humantime::parse_rfc3339("2026-08-18T12:00:00.5Z").unwrap();
        assert_eq!(
            said.into_json(Level::ERROR, time, "m").to_string(),
            r#"{"time":"2026-08-18T12:00:00.500000000Z","level":8,"msg":"starting \"it\"","agentID":"m","n":"1"}"#
        );
    }

    #[test]
    fn a_line_for_syslog_has_its_fields_behind_it() {
        let said = Said { message: "starting".into(), fields: vec![("n", "1".into())] };
        assert_eq!(said.into_text(), "starting n=1");
    }
}
