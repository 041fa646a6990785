//! A live progress bar on a terminal, with the steps that have ended as lines above it.

use std::io::{Write, stderr};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nibs_job::{Event, EventKind};

use super::story::{Story, figures};
use crate::journal::Outlet;

/// Steps of the bar's whole length: finer than any terminal is wide.
const WHOLE: u64 = 1000;

/// How often the spinner turns, so that a silent action is seen to be alive.
const TICK: Duration = Duration::from_millis(120);

const WITH_BAR: &str = "{spinner} {prefix} [{bar:30}] {wide_msg}";
const WITHOUT_BAR: &str = "{spinner} {prefix} {wide_msg}";

/// Everything drawn on this process's terminal, which is one, so that log lines can step aside.
pub(super) fn terminal() -> &'static MultiProgress {
    static TERMINAL: OnceLock<MultiProgress> = OnceLock::new();
    TERMINAL.get_or_init(MultiProgress::new)
}

#[derive(Debug)]
pub(super) struct Bar {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    story: Story,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    bar: ProgressBar,
    has_length: bool,
}

impl Bar {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default() }
    }

    /// Columns of the terminal at stderr, if it tells.
    pub(super) fn width() -> Option<u16> {
        console::Term::stderr().size_checked().map(|(_rows, columns)| columns)
    }
}

impl Outlet for Bar {
    fn take(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = state.story.tell(event);
        match &event.kind {
            EventKind::ActionStarted { action, .. } => {
                state.clear();
                let prefix = state.story.action(*action);
                state.running = Some(Running::start(prefix));
            }
            EventKind::Progress { progress, .. } => {
                if let Some(running) = &mut state.running {
                    running.show(progress.fraction(), figures(progress));
                }
            }
            kind => {
                if matches!(
                    kind,
                    EventKind::AttemptFailed { .. }
                        | EventKind::ActionFinished { .. }
                        | EventKind::JobFinished { .. }
                ) {
                    state.clear();
                }
                if let Some(line) = line {
                    // Not `eprintln`, which panics once the terminal is gone; the job goes on.
                    let _ = terminal().suspend(|| writeln!(stderr(), "{line}"));
                }
            }
        }
    }
}

impl State {
    fn clear(&mut self) {
        if let Some(running) = self.running.take() {
            running.bar.finish_and_clear();
            terminal().remove(&running.bar);
        }
    }
}

impl Running {
    fn start(prefix: String) -> Self {
        let bar = terminal().add(ProgressBar::new(WHOLE));
        bar.set_style(style(WITHOUT_BAR));
        bar.set_prefix(prefix);
        bar.enable_steady_tick(TICK);
        Self { bar, has_length: false }
    }

    fn show(&mut self, fraction: Option<f64>, figures: String) {
        if let Some(fraction) = fraction {
            if !self.has_length {
                self.has_length = true;
                self.bar.set_style(style(WITH_BAR));
            }
            self.bar.set_position((fraction * WHOLE as f64) as u64);
        }
        self.bar.set_message(figures);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    use nibs_job::{Outcome, Progress};
    use std::time::SystemTime;

    #[test]
    fn the_templates_are_understood() {
        for template in [WITH_BAR, WITHOUT_BAR] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn an_action_has_a_bar_from_its_start_to_its_end() {
        let view = Bar::new();
        let take = |kind| {
            view.take(&Event { job: "j".into(), sequence: 1, time: SystemTime::now(), kind });
        };
        let running = || {
            let state = view.state.lock().unwrap();
            state.running.as_ref().map(|r| (r.has_length, r.bar.position(), r.bar.message()))
        };
        take(EventKind::JobStarted { name: "os".into(), actions: 1, agent: "0".into() });
        assert_eq!(running(), None);
        let (name, uses) = ("write".into(), "stream-image".into());
        take(EventKind::ActionStarted { action: 0, name, uses, attempt: 1 });
        assert_eq!(running().map(|(has_length, ..)| has_length), Some(false));
        let progress = Progress { bytes_out: 25, total_out: Some(100), ..Progress::default() };
        take(EventKind::Progress { action: 0, progress });
        let (has_length, position, message) = running().unwrap();
        assert!(has_length && message.starts_with("25 %"), "{message}");
        assert_eq!(position, WHOLE / 4);
        let outcome = Outcome::Succeeded;
        take(EventKind::ActionFinished { action: 0, outcome, seconds: 1.0 });
        assert_eq!(running(), None);
    }
}
