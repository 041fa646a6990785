//! What a transport says instead of an answer, by what can be done about it.

use tonic::{Code, Status};

use super::connect;

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

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Garbled(why) => write!(f, "its answer is not as agreed: {why}"),
            Self::Status(status) => {
                let source = std::error::Error::source(status);
                match source.and_then(connect::what_failed) {
                    Some(way) => f.write_str(way),
                    None => write!(f, "{:?}: {}", status.code(), status.message()),
                }
            }
        }
    }
}
