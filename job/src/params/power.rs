//! `reboot` and `power-off`: the last action of a job, done once its report is acknowledged.

use serde::{Deserialize, Serialize};

/// Restarts the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "an empty table")]
pub struct Reboot {}

/// Switches the machine off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "an empty table")]
pub struct PowerOff {}
