//! Lists of actions in YAML, as the file and NATS transports take them.
//!
//! ```yaml
//! - id: a1                 # all are optional but `name` and `image`
//!   name: stream
//!   image: quay.io/tinkerbell/actions/image2disk
//!   cmd: /entrypoint       # in place of the image's ENTRYPOINT
//!   args: [--verbose]      # in place of its CMD
//!   env: [{key: DEST_DISK, value: /dev/sda}]
//!   volumes: [/dev:/dev]
//!   namespaces: {network: host, pid: host}
//!   timeoutSeconds: 600
//! ```
//!
//! The keys are those of tink-agent (`tink/agent/internal/spec` of Tinkerbell's repository); others
//! are passed over, as it does. `retries` is read and not followed, as with a server.

use nibs_job::Secret;
use serde::Deserialize;

use super::agent_protocol::timeout;
use crate::tinkerbell::Assignment;

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    workflow_id: String,
    #[serde(default)]
    task_id: String,
    #[serde(default)]
    id: String,
    name: String,
    image: String,
    cmd: Option<String>,
    args: Option<Vec<String>>,
    env: Option<Vec<Variable>>,
    volumes: Option<Vec<String>>,
    namespaces: Option<Namespaces>,
    #[serde(default, rename = "timeoutSeconds")]
    timeout_seconds: i64,
}

#[derive(Deserialize)]
struct Variable {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize, Default)]
struct Namespaces {
    network: Option<String>,
    pid: Option<String>,
}

/// Reads a list. The error has line and column, and quotes no line: it may hold a secret.
pub(super) fn parse(yaml: &str, agent: &str) -> Result<Vec<Assignment>, String> {
    let entries: Vec<Entry> = serde_saphyr::from_str(yaml)
        .map_err(|e| format!("expected a list of actions: {}", e.without_snippet()))?;
    Ok(entries
        .into_iter()
        .enumerate()
        .map(|(index, entry)| entry.assignment(index, agent))
        .collect())
}

impl Entry {
    fn assignment(self, index: usize, agent: &str) -> Assignment {
        let text = |value: Option<String>| value.filter(|value| !value.is_empty());
        let namespaces = self.namespaces.unwrap_or_default();
        let id = if self.id.is_empty() { format!("action-{}", index + 1) } else { self.id };
        let environment = self.env.unwrap_or_default();
        Assignment {
            workflow: self.workflow_id,
            task: self.task_id,
            agent: agent.to_owned(),
            action: id,
            name: self.name,
            image: self.image,
            entrypoint: text(self.cmd),
            timeout: timeout(self.timeout_seconds),
            command: self.args.unwrap_or_default(),
            volumes: self.volumes.unwrap_or_default(),
            environment: environment
                .into_iter()
                .map(|variable| (variable.key, Secret::new(variable.value)))
                .collect(),
            pid: text(namespaces.pid),
            network: text(namespaces.network),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_action_is_what_the_keys_say() {
        let list = parse(
            "- id: a1
  name: stream
  image: quay.io/tinkerbell/actions/image2disk:v1
  cmd: /entry
  args: [one, two]
  env:
  - {key: DEST_DISK, value: /dev/sda}
  - {key: MODE, value: 0755}
  - {key: COMPRESSED, value: true}
  - {key: EMPTY}
  volumes: ['/dev:/dev']
  namespaces: {network: host, pid: host}
  retries: 3
  timeoutSeconds: 600
  worker_id: ignored
- name: second
  image: x
",
            "aa:bb",
        )
        .unwrap();
        let environment = [
            ("DEST_DISK", "/dev/sda"),
            // As it is written: a mode that became 755 would be another one.
            ("MODE", "0755"),
            ("COMPRESSED", "true"),
            ("EMPTY", ""),
        ];
        let first = Assignment {
            agent: "aa:bb".into(),
            action: "a1".into(),
            name: "stream".into(),
            image: "quay.io/tinkerbell/actions/image2disk:v1".into(),
            entrypoint: Some("/entry".into()),
            timeout: Some(Duration::from_secs(600)),
            command: vec!["one".into(), "two".into()],
            volumes: vec!["/dev:/dev".into()],
            environment: environment.map(|(k, v)| (k.to_owned(), Secret::new(v))).into(),
            pid: Some("host".into()),
            network: Some("host".into()),
            ..Assignment::default()
        };
        assert_eq!(list[0], first);
        assert_eq!((&list[1].action[..], list[1].timeout), ("action-2", None));
    }

    #[test]
    fn what_is_no_list_is_refused_without_its_secrets() {
        for bad in [
            "{name: a, image: hunter2}",
            "- {image: hunter2}",
            "- {name: a, image: b, env: hunter2}",
            "- {name: a, image: b, timeoutSeconds: hunter2}",
            "- name: a\n  image: hunter2\n bad: [",
        ] {
            let error = parse(bad, "a").unwrap_err();
            assert!(error.contains("expected a list of actions"), "{error}");
            assert!(!error.contains("hunter2"), "{bad}: {error}");
        }
    }
}
