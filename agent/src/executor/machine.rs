//! The real runner: actions done to the machine that the agent runs on.

use std::sync::Arc;

use nibs_actions::{Context, Done, Error, Machine, Sink, Stop, http};
use nibs_bottlerocket::net_toml::Lease;
use nibs_job::params::{Content, NetFrom};
use nibs_job::{Class, LogLevel, Progress, Span, Task};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{Attempt, Failure, Notes, Runner};
use crate::net::Network;
use crate::net::ask::{AskError, Question, ask};

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

    /// The lease that a task may need: the agent's own, or else, if the task is about one, what a
    /// server says when it is asked.
    fn lease(&self, task: &Task, attempt: &Attempt) -> Result<Option<Lease>, Failure> {
        let network = self.network.as_ref().and_then(|network| network.borrow().clone());
        if let Some(network) = &network {
            return Ok(Some(network.into()));
        }
        let Some(Span(patience)) = asks_for_lease(task) else { return Ok(None) };
        match ask(&Question::of_the_machine(patience), &attempt.cancel) {
            Ok(network) => Ok(Some((&network).into())),
            Err(AskError::Cancelled) => Err(Failure::Cancelled),
            Err(error) => {
                let class = match error {
                    AskError::Silent { .. } => Class::Transient,
                    _ => Class::Environment,
                };
                Err(Failure::Failed { class, message: error.to_string() })
            }
        }
    }
}

/// Whether a task is about the machine's lease, and how long one may be asked for.
fn asks_for_lease(task: &Task) -> Option<Span> {
    match task {
        Task::Bottlerocket(with) => {
            let net = with.net.as_ref().filter(|net| net.from == Some(NetFrom::Lease));
            net.map(|net| net.timeout)
        }
        Task::WriteFiles(with) => with.files.iter().find_map(|file| match &file.content {
            Content::Netplan(netplan) => Some(netplan.timeout),
            Content::Text(_) | Content::Base64(_) => None,
        }),
        _ => None,
    }
}

impl Runner for ThisMachine {
    fn run(&self, task: &Task, attempt: Attempt) -> Result<Done, Failure> {
        let lease = self.lease(task, &attempt)?;
        let machine = Machine { lease, ..Machine::default() };
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
