//! The envelopes of the HTTP protocol between agent and control plane.
//!
//! - `POST /v1/machines/{machine}/job?wait=SECONDS` takes [`Hello`], gives [`Offer`] or 204.
//! - `POST /v1/jobs/{job}/events` takes [`Report`], gives [`Ack`].
//!
//! A job is offered again until its `job-finished` event is stored, so an agent that was killed
//! takes it up where the sequence of its events ended. Errors are [`Problem`].

use serde::{Deserialize, Serialize};

use crate::{Event, Facts, Job};

/// An agent asks for work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Hello {
    /// Version of the agent.
    pub agent: String,
    /// The machine it runs on.
    pub facts: Facts,
}

/// The control plane hands a job out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Offer<J = Job> {
    /// The job. [`Job`], or a raw value where a bad one must not spoil the envelope.
    pub job: J,
    /// Sequence number for the agent's first event.
    pub first_sequence: u64,
}

/// An agent says what happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Id of the machine.
    pub machine: String,
    /// What happened, in order of sequence.
    pub events: Vec<Event>,
}

/// The control plane has stored events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Ack {
    /// Highest sequence number that is stored durably; 0 if none.
    pub acknowledged: u64,
}

/// Why the control plane refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// What was wrong, and what to do.
    pub error: String,
}
