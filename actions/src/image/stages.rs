//! Stages: threads that fail together, with the reason of the first one that does.

use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};

use super::chunks::Piece;
use super::progress::Counters;
use super::{Error, Result};
use crate::{Sink, Stop};

/// Why a stage ended early.
pub(super) enum Halt {
    /// By an error of its own.
    Failed(Error),
    /// Because one beside it did.
    Neighbour,
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) type Stage<T> = std::result::Result<T, Halt>;

/// What the stages share.
pub(super) struct Shared<'a> {
    pub(super) stop: &'a Stop,
    pub(super) sink: &'a dyn Sink,
    pub(super) counters: Counters,
    /// The first failure: those that follow from it say nothing.
    pub(super) failure: Mutex<Option<Error>>,
}

/// Starts stages, and knows when all have ended.
#[derive(Clone)]
pub(super) struct Stages<'scope, 'env> {
    pub(super) scope: &'scope Scope<'scope, 'env>,
    pub(super) shared: &'env Shared<'env>,
    /// Cloned into every stage; all are gone when the last one ends.
    pub(super) alive: Sender<()>,
}

impl<'scope, 'env> Stages<'scope, 'env> {
    pub(super) fn start<T: Send + 'scope>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> Stage<T> + Send + 'scope,
    ) -> Result<thread::ScopedJoinHandle<'scope, Option<T>>> {
        let (shared, alive) = (self.shared, self.alive.clone());
        let guarded = move || {
            let _alive = alive;
            // A stage that panics must not look like one that had nothing to say.
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            match ended.unwrap_or(Err(Halt::Failed(Error::Vanished { stage: name }))) {
                Ok(value) => Some(value),
                Err(halt) => {
                    shared.halted(halt);
                    None
                }
            }
        };
        let started =
            thread::Builder::new().name(format!("image-{name}")).spawn_scoped(self.scope, guarded);
        started.map_err(|error| {
            self.shared.stop.cancel.cancel();
            Error::Thread(error)
        })
    }
}

impl Shared<'_> {
    fn halted(&self, halt: Halt) {
        // A stage whose neighbour failed must not cancel: the neighbour may not have said yet why,
        // and a third stage would take the cancellation for the reason.
        if let Halt::Failed(error) = halt {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error);
            drop(failure);
            self.stop.cancel.cancel();
        }
    }
}

/// Both kinds of channel: bounded by its own length, or by the pool that feeds it.
pub(super) trait Outlet<T> {
    fn put(&self, piece: Piece<T>) -> Stage<()>;
}

impl<T> Outlet<T> for SyncSender<Piece<T>> {
    fn put(&self, piece: Piece<T>) -> Stage<()> {
        self.send(piece).map_err(|_| Halt::Neighbour)
    }
}

impl<T> Outlet<T> for Sender<Piece<T>> {
    fn put(&self, piece: Piece<T>) -> Stage<()> {
        self.send(piece).map_err(|_| Halt::Neighbour)
    }
}
