//! Why a call to the control plane failed, in words that name the fault: name, refusal, TLS.

use std::error::Error;
use std::io;

use reqwest::StatusCode;

use super::Endpoint;

/// A call to the control plane that failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer came.
    #[error("reaching the control plane at {endpoint}: {why}")]
    Unreachable {
        /// Where it was sought.
        endpoint: Endpoint,
        /// What is wrong on the way: the name, the connection, TLS, or a time that ran out.
        why: String,
    },
    /// It answered with an error.
    #[error("asking the control plane at {endpoint}: it answered {status}: {problem}")]
    Refused {
        /// Who answered.
        endpoint: Endpoint,
        /// The HTTP status.
        status: StatusCode,
        /// What it says is wrong.
        problem: String,
    },
    /// It answered with something that is no answer.
    #[error("asking the control plane at {endpoint}: its answer is not as agreed: {why}")]
    Garbled {
        /// Who answered.
        endpoint: Endpoint,
        /// What was expected and found.
        why: String,
    },
}

impl CallError {
    pub(super) fn unreachable(endpoint: &Endpoint, error: reqwest::Error) -> Self {
        // Without its URL, in which a password may be.
        let why = explain(&error.without_url());
        Self::Unreachable { endpoint: endpoint.clone(), why }
    }

    /// Whether the control plane says that it does not have this job, or not for this machine.
    pub fn is_job_lost(&self) -> bool {
        let lost = [StatusCode::NOT_FOUND, StatusCode::CONFLICT, StatusCode::GONE];
        matches!(self, Self::Refused { status, .. } if lost.contains(status))
    }

    /// Whether the control plane cannot take what was sent, however often it is sent.
    pub fn is_content_refused(&self) -> bool {
        let refused = [
            StatusCode::BAD_REQUEST,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNPROCESSABLE_ENTITY,
        ];
        matches!(self, Self::Refused { status, .. } if refused.contains(status))
    }
}

/// The innermost cause, which is the one that says something, under the name of its kind.
fn explain(error: &reqwest::Error) -> String {
    let chain = || std::iter::successors(error.source(), |&cause| cause.source());
    let innermost = chain().last().map_or_else(|| error.to_string(), ToString::to_string);
    let io = chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let says = |words: &[&str]| {
        chain().any(|cause| {
            let text = cause.to_string();
            words.iter().any(|word| text.contains(word))
        })
    };
    if error.is_timeout() {
        "no answer in time; is it up, and does a firewall let it through?".into()
    } else if says(&["dns error"]) {
        format!("its name does not resolve: {innermost}")
    } else if says(&["certificate", "TLS", "tls", "corrupt message", "handshake"]) {
        format!("TLS: {innermost}; does it serve https, and is its CA named by --ca or nibs.ca=?")
    } else if io == Some(io::ErrorKind::ConnectionRefused) {
        "connection refused: nothing listens there".into()
    } else {
        innermost
    }
}
