//! The real runner: actions done to the machine that the agent runs on.

use std::sync::Arc;

use nibs_actions::{Context, Done, Error, Machine, Sink, Stop, http};
use nibs_job::{LogLevel, Progress, Task};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{Attempt, Failure, Notes, Runner};
use crate::net::Network;

/// Runs actions on this machine.
#[derive(Debug)]
pub struct ThisMachine {
    http: http::Options,
    runtime: Handle,
    network: Option<watch::Receiver<Option<Network>>>,
}

impl ThisMachine {
    /// `http` says how images are fetched. Needs a tokio runtime around it.
    pub fn new(http: http::Options) -> Self {
        Self { http, runtime: Handle::current(), network: None }
    }

    /// Lets actions know the lease that the agent itself keeps.
    pub fn leased(mut self, network: watch::Receiver<Option<Network>>) -> Self {
        self.network = Some(network);
        self
    }
}

impl Runner for ThisMachine {
    fn run(&self, task: &Task, attempt: Attempt) -> Result<Done, Failure> {
        let network = self.network.as_ref().and_then(|network| network.borrow().clone());
        let machine = Machine { lease: network.as_ref().map(Into::into), ..Machine::default() };
        let context = Context {
            machine,
            stop: Stop { cancel: attempt.cancel, deadline: attempt.deadline },
            sink: Arc::new(attempt.notes),
            runtime: self.runtime.clone(),
            http: self.http.clone(),
            installed_disk: attempt.installed_disk,
        };
        nibs_actions::run(task, &context).map_err(|error| match error {
            Error::Cancelled => Failure::Cancelled,
            Error::TimedOut => Failure::TimedOut,
            error => Failure::Failed { class: error.class(), message: error.to_string() },
        })
    }
}

impl Sink for Notes {
    fn progress(&self, progress: Progress) {
        Notes::progress(self, progress);
    }

    fn reset(&self, reason: String) {
        Notes::reset(self, reason);
    }

    fn warning(&self, message: String) {
        Notes::warning(self, message);
    }

    fn log(&self, level: LogLevel, message: String) {
        Notes::log(self, level, message);
    }
}
