//! Events that the control plane has not acknowledged yet, in bounded memory.
//!
//! While the control plane is away the queue is kept small by giving up the least first: of
//! progress only the latest since the last step of the job is kept, then log lines go, then
//! warnings, the oldest of each before the newer. What tells the job's steps never goes. Lines
//! that went are counted in a line that takes the place of the first of them.

use std::collections::VecDeque;

use nibs_job::{Event, EventKind, LogLevel};

/// Memory for waiting events, bytes; about what an hour of a talkative action says.
pub(super) const MAX_BYTES: usize = 512 * 1024;

/// What an event takes beside its text, bytes, rounded up.
const EVENT_BYTES: usize = 192;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Queue {
    events: VecDeque<Event>,
    bytes: usize,
    /// Up to this sequence number events are on their way, so they must not change any more.
    in_flight: u64,
    omitted: Option<Omitted>,
}

/// The line that stands for those that were given up.
#[derive(Debug)]
struct Omitted {
    sequence: u64,
    lines: u64,
}

/// How much is lost when an event is given up, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    Progress,
    Log,
    Warning,
    Step,
}

impl Worth {
    const EXPENDABLE: [Self; 3] = [Self::Progress, Self::Log, Self::Warning];

    fn of(kind: &EventKind) -> Self {
        match kind {
            EventKind::Progress { .. } => Self::Progress,
            EventKind::Log { .. } => Self::Log,
            EventKind::Warning { .. } => Self::Warning,
            _ => Self::Step,
        }
    }
}

impl Queue {
    /// Takes an event in, and gives others up if it has to.
    pub(super) fn push(&mut self, event: Event) {
        if event.kind.is_progress() {
            self.give_up_earlier_progress();
        }
        self.bytes += size_of(&event);
        self.events.push_back(event);
        while self.bytes > MAX_BYTES {
            let Some(index) = self.least_worth() else { return };
            self.give_up(index);
        }
    }

    /// The oldest events, as many as fit both bounds, at least one if there is any. They count as
    /// on their way until [`Queue::landed`].
    pub(super) fn take_batch(&mut self, max_events: usize, max_bytes: usize) -> Vec<Event> {
        let mut bytes = 0;
        let batch: Vec<Event> = self
            .events
            .iter()
            .take(max_events)
            .take_while(|event| {
                let first = bytes == 0;
                bytes += size_of(event);
                first || bytes <= max_bytes
            })
            .cloned()
            .collect();
        self.in_flight = batch.last().map_or(0, |event| event.sequence);
        batch
    }

    /// The batch is no longer on its way: it arrived, or did not.
    pub(super) fn landed(&mut self) {
        self.in_flight = 0;
    }

    /// Drops what the control plane has stored. Returns whether that was anything.
    pub(super) fn acknowledge(&mut self, sequence: u64) -> bool {
        let before = self.events.len();
        while self.events.front().is_some_and(|event| event.sequence <= sequence) {
            self.remove(0);
        }
        self.events.len() < before
    }

    /// Gives up the oldest event unless it tells a step of the job. Returns whether it did.
    pub(super) fn give_up_first(&mut self) -> bool {
        let expendable =
            self.events.front().is_some_and(|event| Worth::of(&event.kind) < Worth::Step);
        if expendable {
            self.remove(0);
        }
        expendable
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many events wait.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether something waits that should go out at once.
    pub(super) fn is_urgent(&self) -> bool {
        self.events.iter().any(|event| Worth::of(&event.kind) >= Worth::Warning)
    }

    fn give_up_earlier_progress(&mut self) {
        let earlier = self
            .events
            .iter()
            .enumerate()
            .rev()
            .take_while(|(_, event)| {
                event.sequence > self.in_flight && Worth::of(&event.kind) < Worth::Step
            })
            .find(|(_, event)| event.kind.is_progress())
            .map(|(index, _)| index);
        if let Some(index) = earlier {
            self.remove(index);
        }
    }

    fn least_worth(&self) -> Option<usize> {
        let marker = self.omitted.as_ref().map(|omitted| omitted.sequence);
        Worth::EXPENDABLE.iter().find_map(|worth| {
            self.events.iter().position(|event| {
                Worth::of(&event.kind) == *worth
                    && event.sequence > self.in_flight
                    && Some(event.sequence) != marker
            })
        })
    }

    fn give_up(&mut self, index: usize) {
        if self.events[index].kind.is_progress() {
            self.remove(index);
            return;
        }
        let marker = self.omitted.as_ref().and_then(|omitted| {
            let at = self.events.iter().position(|event| event.sequence == omitted.sequence)?;
            (omitted.sequence > self.in_flight).then_some((at, omitted.lines))
        });
        let (at, lines) = match marker {
            Some((at, lines)) => {
                self.remove(index);
                (at - usize::from(index < at), lines + 1)
            }
            None => (index, 1),
        };
        let event = &mut self.events[at];
        self.bytes -= size_of(event);
        event.kind = EventKind::Log {
            action: None,
            level: LogLevel::Info,
            message: format!("{lines} lines were left out: the control plane was away too long"),
        };
        self.bytes += size_of(event);
        self.omitted = Some(Omitted { sequence: event.sequence, lines });
    }

    fn remove(&mut self, index: usize) {
        if let Some(event) = self.events.remove(index) {
            self.bytes -= size_of(&event);
        }
    }
}

fn size_of(event: &Event) -> usize {
    let text = match &event.kind {
        EventKind::Log { message, .. }
        | EventKind::Warning { message, .. }
        | EventKind::AttemptFailed { message, .. }
        | EventKind::Reset { reason: message, .. } => message.len(),
        _ => 0,
    };
    EVENT_BYTES + event.job.len() + text
}

#[cfg(test)]
mod tests {
    use super::*;
    use nibs_job::{Class, Outcome, Progress};
    use std::time::SystemTime;

    fn queue(kinds: impl IntoIterator<Item = EventKind>) -> Queue {
        let mut queue = Queue::default();
        for (sequence, kind) in (1..).zip(kinds) {
            queue.push(event(sequence, kind));
        }
        queue
    }

    fn event(sequence: u64, kind: EventKind) -> Event {
        Event { job: "j".into(), sequence, time: SystemTime::now(), kind }
    }

    fn progress(bytes_out: u64) -> EventKind {
        EventKind::Progress { action: 0, progress: Progress { bytes_out, ..Progress::default() } }
    }

    fn log(message: &str) -> EventKind {
        EventKind::Log { action: None, level: LogLevel::Info, message: message.into() }
    }

    fn warning(message: &str) -> EventKind {
        EventKind::Warning { action: None, message: message.into() }
    }

    fn step() -> EventKind {
        EventKind::ActionFinished { action: 0, outcome: Outcome::Succeeded, seconds: 1.0 }
    }

    fn sequences(queue: &Queue) -> Vec<u64> {
        queue.events.iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn only_the_latest_progress_since_the_last_step_waits() {
        let queue = queue([progress(1), log("a"), progress(2), step(), progress(3), progress(4)]);
        assert_eq!(sequences(&queue), [2, 3, 4, 6]);
    }

    #[test]
    fn what_is_on_its_way_does_not_change() {
        let mut queue = queue([progress(1)]);
        assert_eq!(queue.take_batch(10, 1000).len(), 1);
        queue.push(event(2, progress(2)));
        queue.push(event(3, progress(3)));
        assert_eq!(sequences(&queue), [1, 3]);
    }

    #[test]
    fn log_lines_go_before_warnings_and_steps_never() {
        let long = "x".repeat(4000);
        let mut kinds = vec![step(), warning("kept"), log(&long)];
        kinds.extend((0..500).map(|_| log(&long)));
        kinds.push(step());
        let queue = queue(kinds);
        assert!(queue.bytes <= MAX_BYTES);
        let count = |worth| queue.events.iter().filter(|e| Worth::of(&e.kind) == worth).count();
        assert_eq!((count(Worth::Step), count(Worth::Warning)), (2, 1));
        assert_eq!(sequences(&queue)[..3], [1, 2, 3], "the marker stands where the first went");
        let EventKind::Log { message, .. } = &queue.events[2].kind else { panic!() };
        let omitted = 501 - (count(Worth::Log) - 1);
        assert!(message.starts_with(&format!("{omitted} lines were left out")), "{message}");
        assert!(sequences(&queue).is_sorted());
    }

    #[test]
    fn steps_are_kept_beyond_the_bound() {
        let failed = || EventKind::AttemptFailed {
            action: 0,
            attempt: 1,
            class: Class::Transient,
            message: "y".repeat(10_000),
            retry_in_seconds: None,
        };
        let queue = queue((0..100).map(|_| failed()));
        assert_eq!(queue.len(), 100);
    }

    #[test]
    fn the_books_balance() {
        let mut queue = queue((0..2000).map(|n| if n % 7 == 0 { step() } else { log("line") }));
        assert_eq!(queue.bytes, queue.events.iter().map(size_of).sum::<usize>());
        assert!(queue.acknowledge(1000));
        assert!(!queue.acknowledge(1000));
        assert_eq!(queue.bytes, queue.events.iter().map(size_of).sum::<usize>());
        queue.acknowledge(u64::MAX);
        assert!(queue.is_empty());
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn a_batch_keeps_its_bounds_and_is_never_empty() {
        let mut queue = queue((0..10).map(|_| step()));
        assert_eq!(queue.take_batch(3, usize::MAX).len(), 3);
        assert_eq!(queue.take_batch(10, 2 * (EVENT_BYTES + 1)).len(), 2);
        assert_eq!(queue.take_batch(10, 1).len(), 1);
    }
}
