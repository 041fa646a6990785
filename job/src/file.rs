//! Jobs from files: TOML, YAML or JSON.

use std::path::Path;

use serde_json::Value;

use crate::{DecodeError, Job};

/// The notation of a job file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// TOML 1.0.
    Toml,
    /// YAML 1.2.
    Yaml,
    /// JSON (RFC 8259).
    Json,
}

/// Why a job file is not a job.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not TOML, YAML or JSON at all; the message has line and column.
    #[error("not valid {format:?}: {message}")]
    Syntax {
        /// The notation it was read as.
        format: FileFormat,
        /// What the parser said.
        message: String,
    },
    /// Well formed, but not a job.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl FileFormat {
    /// By the name's ending, as `jobs/a.yaml`; TOML if it has no known one.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("yaml" | "yml") => Self::Yaml,
            Some("json") => Self::Json,
            _ => Self::Toml,
        }
    }

    /// Reads text into a value tree. An error quotes no line of it, which may hold a secret.
    pub fn parse(self, text: &str) -> Result<Value, ParseError> {
        match self {
            Self::Toml => toml::from_str(text).map_err(|e| toml_message(text, &e)),
            Self::Yaml => serde_saphyr::from_str(text).map_err(|e| e.without_snippet().to_string()),
            Self::Json => serde_json::from_str(text).map_err(|e| e.to_string()),
        }
        .map_err(|message| ParseError::Syntax { format: self, message })
    }
}

/// What `Display` says, but for the line of source that it draws.
fn toml_message(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return message;
    };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("{message} at line {line} column {column}")
}

impl Job {
    /// Reads a job from the text of a file.
    pub fn parse(text: &str, format: FileFormat) -> Result<Self, ParseError> {
        Ok(Self::from_value(format.parse(text)?)?)
    }
}
