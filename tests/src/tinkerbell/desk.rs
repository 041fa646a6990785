//! Where calls come in: what was heard, what goes wrong on purpose, and how long an answer that is
//! a refusal is kept back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tonic::{Code, Status};

use super::ledger::Ledger;
use super::proto::ActionResponse;

/// How often a call that would be refused is looked at again. The real server does each second.
const RECHECK: Duration = Duration::from_millis(10);

/// What goes wrong with one call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is refused with this status, at once.
    Refuse(Code, &'static str),
    /// A report is taken note of, and acknowledged only that much later.
    Late(Duration),
    /// It is never answered.
    Hang,
    /// The answer to a question is changed by this.
    Lie(fn(&mut ActionResponse)),
}

/// A call, without what it is about in all detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Somebody asks for an action.
    Asked,
    /// Somebody tells how far one is.
    Told {
        /// The action's name.
        action: String,
        /// How far it is, as the protocol names it.
        state: String,
    },
}

/// Clones are the same desk.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    hold: Duration,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) ledger: Ledger,
    pub(super) heard: Vec<(Instant, Heard)>,
    pub(super) questions: VecDeque<Fault>,
    pub(super) reports: VecDeque<Fault>,
}

impl Desk {
    pub(super) fn new(hold: Duration) -> Self {
        Self { hold, shared: Arc::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hear(&self, heard: Heard) {
        self.lock().heard.push((Instant::now(), heard));
    }

    pub(super) fn fault_of_a_question(&self) -> Option<Fault> {
        self.lock().questions.pop_front()
    }

    pub(super) fn fault_of_a_report(&self) -> Option<Fault> {
        self.lock().reports.pop_front()
    }

    pub(super) async fn suffer(&self, fault: Option<&Fault>) -> Result<(), Status> {
        match fault {
            Some(Fault::Refuse(code, why)) => return Err(Status::new(*code, *why)),
            Some(Fault::Late(time)) => tokio::time::sleep(*time).await,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Lie(_)) | None => {}
        }
        Ok(())
    }

    /// Tries until it goes, and refuses only when the time to hold a call is over.
    pub(super) async fn hold<T>(
        &self,
        mut attempt: impl FnMut(&mut Ledger) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let began = Instant::now();
        loop {
            let tried = attempt(&mut self.lock().ledger);
            match tried {
                Err(_) if began.elapsed() < self.hold => tokio::time::sleep(RECHECK).await,
                tried => return tried,
            }
        }
    }
}
