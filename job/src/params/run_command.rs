//! `run-command`: programs of an installed system, run inside of it.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::Volume;
use crate::Secret;

/// Runs commands with an installed system as their root, so that its own programs change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    remote = "Self",
    expecting = "a table with root and commands"
)]
pub struct RunCommand {
    /// The root filesystem of the installed system.
    pub root: Volume,
    /// The commands, each a list of words whose first is the program. They run in this order; the
    /// first that fails fails the action.
    pub commands: Vec<Vec<Secret>>,
    /// What they find in their environment, beside `PATH` and `HOME`, which have defaults.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub environment: IndexMap<String, Secret>,
    /// Whether they resolve names as this machine does: its `/etc/resolv.conf` stands in for that
    /// of the installed system while they run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resolv_conf: bool,
}

impl RunCommand {
    fn checked(self) -> Result<Self, String> {
        if self.commands.is_empty() {
            return Err("commands: has none; expected at least one".into());
        }
        for (index, words) in self.commands.iter().enumerate() {
            match words.first() {
                Some(program) if !program.expose().is_empty() => {}
                _ => return Err(format!("commands[{index}]: names no program")),
            }
            if words.iter().any(|word| word.expose().contains('\0')) {
                return Err(format!("commands[{index}]: has a NUL, which no program can be given"));
            }
        }
        let bad = |(name, value): (&String, &Secret)| {
            name.is_empty() || name.contains(['=', '\0']) || value.expose().contains('\0')
        };
        match self.environment.iter().find(|entry| bad(*entry)) {
            Some((name, _)) => Err(format!(
                "environment: {name:?} is no variable; a name has no `=`, and neither it nor its \
                 value a NUL"
            )),
            None => Ok(self),
        }
    }
}

checked_on_decode!(RunCommand);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_command_that_cannot_be_run_is_refused() {
        let root = json!({"partition": {"path": "/dev/sda1"}});
        for (commands, environment, wrong) in [
            (json!([]), json!({}), "at least one"),
            (json!([["true"], []]), json!({}), "commands[1]: names no program"),
            (json!([[""]]), json!({}), "commands[0]: names no program"),
            (json!([["a", "b\0"]]), json!({}), "commands[0]: has a NUL"),
            (json!([["a"]]), json!({"A=B": ""}), "\"A=B\" is no variable"),
            (json!([["a"]]), json!({"": "x"}), "\"\" is no variable"),
        ] {
            let with = json!({"root": root, "commands": commands, "environment": environment});
            let error = crate::decode::decode::<RunCommand>(with).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
