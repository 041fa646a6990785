//! How an action or a job ended, and whose fault a failure is.

use serde::{Deserialize, Serialize};

/// Whose fault a failure is, which decides whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The job is wrong. Trying again cannot help; a person has to change the job.
    InvalidInput,
    /// This machine cannot do it as it is: a disk is absent, in use or too small.
    Environment,
    /// Something outside failed for now (network, server): trying again may help.
    Transient,
    /// A fault of Nibs itself.
    Internal,
    /// A class that a newer peer knows and this build does not.
    #[serde(other)]
    Unknown,
}

impl Class {
    /// Whether the same attempt, made again, may succeed.
    pub fn is_retryable(self) -> bool {
        self == Self::Transient
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::InvalidInput => "invalid input",
            Self::Environment => "environment",
            Self::Transient => "transient",
            Self::Internal => "internal",
            Self::Unknown => "unknown",
        })
    }
}

/// How an action or a whole job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Outcome {
    /// All of it was done and proven.
    Succeeded,
    /// The goal was reached by a fallback, or a part that is not essential could not be done.
    Degraded {
        /// What is not as asked for, one sentence each.
        reasons: Vec<String>,
    },
    /// The goal was not reached.
    Failed {
        /// Whose fault it is.
        class: Class,
        /// What was being done, to what, what was expected and what was found.
        message: String,
    },
    /// It was told to stop before its end.
    Cancelled,
    /// An outcome that a newer peer knows and this build does not.
    #[serde(other)]
    Unknown,
}

impl Outcome {
    /// Whether the goal was reached, by the straight way or a fallback.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Degraded { .. })
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Succeeded => f.write_str("succeeded"),
            Self::Degraded { reasons } => write!(f, "degraded: {}", reasons.join("; ")),
            Self::Failed { class, message } => write!(f, "failed ({class}): {message}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Unknown => f.write_str("ended in a way this version does not know"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_peers_words_decode_as_unknown() {
        let outcome: Outcome = serde_json::from_str(r#"{"result":"vaporised","by":"x"}"#).unwrap();
        assert_eq!(outcome, Outcome::Unknown);
        let class: Class = serde_json::from_str(r#""solar-flare""#).unwrap();
        assert_eq!(class, Class::Unknown);
    }

    #[test]
    fn only_a_transient_failure_is_retryable() {
        let all = [Class::InvalidInput, Class::Environment, Class::Internal, Class::Unknown];
        assert!(Class::Transient.is_retryable());
        assert!(!all.iter().any(|class| class.is_retryable()));
    }
}
