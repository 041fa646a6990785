//! What a transport says instead of an answer, by what can be done about it.

use tonic::{Code, Status};

use super::fault::{Fault, innermost};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing is wrong: there is nothing to do. Worth asking again.
    #[error("{0}")]
    NothingToDo(String),
    /// Something failed that the next try may find mended.
    #[error("{0}")]
    TryAgain(String),
    /// It was understood and will never be taken: trying again cannot help.
    #[error("{0}")]
    Terminal(String),
}

/// Why a call to a server gave nothing.
#[derive(Debug)]
pub(super) enum CallError {
    /// It did not come about, or the server says no.
    Status(Status),
    /// There is an answer that is none.
    Garbled(String),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl CallError {
    /// Whether the server does not know what was asked, so that it speaks another protocol.
    pub(super) fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Status(status) if status.code() == Code::Unimplemented)
    }
}

impl CallError {
    /// In words. A connection that broke has a cause, which the way to the server knows best.
    pub(super) fn explain(&self, fault: &Fault) -> String {
        match self {
            Self::Garbled(why) => format!("its answer is not as agreed: {why}"),
            Self::Status(status) => match std::error::Error::source(status) {
                None => format!("{:?}: {}", status.code(), status.message()),
                Some(source) => fault
                    .last()
                    .unwrap_or_else(|| format!("the connection broke: {}", innermost(source))),
            },
        }
    }
}
