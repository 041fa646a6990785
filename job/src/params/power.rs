//! `reboot` and `power-off`: the last action of a job, done once its report is acknowledged.

use serde::{Deserialize, Serialize};

use crate::Span;

/// Restarts the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct Reboot {
    /// How long to wait once the report is acknowledged. Default: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
}

/// Switches the machine off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct PowerOff {
    /// How long to wait once the report is acknowledged. Default: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
}
