//! A match: a job for the machines that a selector selects.

use nibs_job::{DecodeError, decode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Selector;

/// A match as it is written in `matches/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Match {
    /// What people call it.
    pub name: String,
    /// Id of the job.
    pub job: String,
    /// Which machines get it.
    pub selector: Selector,
}

/// The selector has no default: a match for every machine, which may be a wipe of every disk, is
/// written out as `selector = {}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "a match (a table)")]
struct MatchDoc {
    name: Option<String>,
    job: String,
    selector: Value,
}

impl Match {
    /// Decodes and checks a match; `name` is its name if it does not say one.
    pub fn from_value(value: Value, name: &str) -> Result<Self, DecodeError> {
        let doc: MatchDoc = decode::decode(value)?;
        let selector = decode::decode(doc.selector)
            .and_then(Selector::checked)
            .map_err(|e| e.within("selector"))?;
        let name = doc.name.unwrap_or_else(|| name.to_owned());
        Ok(Self { name, job: doc.job, selector })
    }
}
