//! What a container's program says: into the log, line by line, and its last words into the error.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nibs_job::LogLevel;

use crate::Sink;

/// How many lines an error repeats.
const LAST: usize = 8;

/// The longest line that is one of the log, bytes; what is longer is cut into several.
const LONGEST: u64 = 8 << 10;

/// How long a pipe is read after the program's end. Something may have left the container and hold
/// it open for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// Listens to one of a program's outputs.
#[derive(Debug)]
pub(super) struct Listener {
    last: Arc<Mutex<VecDeque<String>>>,
    ended: Receiver<()>,
}

impl Listener {
    /// Listens on a thread of its own.
    pub(super) fn start(pipe: PipeReader, sink: Arc<dyn Sink>) -> io::Result<Self> {
        let last = Arc::new(Mutex::new(VecDeque::new()));
        let (end, ended) = channel::<()>();
        let heard = Arc::clone(&last);
        thread::Builder::new().name("container output".into()).spawn(move || {
            listen(BufReader::new(pipe), |line| {
                let mut last = heard.lock().unwrap_or_else(PoisonError::into_inner);
                if last.len() == LAST {
                    last.pop_front();
                }
                last.push_back(line.clone());
                drop(last);
                sink.log(LogLevel::Info, line);
            });
            drop(end);
        })?;
        Ok(Self { last, ended })
    }

    /// The last lines, once the program has ended.
    pub(super) fn last(&self) -> Vec<String> {
        // Nothing is ever sent: the end of the thread closes it.
        let _ = self.ended.recv_timeout(PATIENCE);
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

fn listen(mut pipe: impl BufRead, mut hear: impl FnMut(String)) {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match pipe.by_ref().take(LONGEST).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&bytes);
        // A terminal would obey them.
        let line = line.trim_end().replace(|c: char| c.is_control() && c != '\t', " ");
        if !line.is_empty() {
            hear(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_heard_whole_bounded_and_without_what_a_terminal_obeys() {
        let long = "x".repeat(LONGEST as usize + 5);
        let text = format!("one\r\n\n\x1b[31mred\ttwo\nend {long}\nlast");
        let mut lines = Vec::new();
        listen(text.as_bytes(), |line| lines.push(line));
        assert_eq!(lines[..2], ["one", " [31mred\ttwo"]);
        assert_eq!(
            (lines[2].len(), &*lines[3], &*lines[4]),
            (LONGEST as usize, "xxxxxxxxx", "last")
        );
    }
}
