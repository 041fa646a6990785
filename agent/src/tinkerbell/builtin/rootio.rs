//! `rootio`: disks laid out as the machine's storage document says.
//!
//! Where the original logs an error and ends with success, the action fails.

use nibs_job::Task;

use super::variables::Variables;
use super::{BadInput, Inputs};

/// Where the metadata service listened when the original was made.
const DEFAULT_PORT: u16 = 50061;

pub(super) fn translate(inputs: Inputs<'_>) -> Result<Task, BadInput> {
    let mut variables = Variables::of(inputs);
    let step = match inputs.command.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [step @ ("partition" | "format" | "mount" | "wipe")] => step,
        ["version"] => "check",
        _ => {
            return Err(BadInput(format!(
                "command: expected one of partition, format, mount, wipe and version, found {:?}",
                inputs.command.join(" ")
            )));
        }
    };
    variables.put("command", "step", step);
    document(&mut variables)?;
    if variables.text("MBR").is_some() {
        variables.put("MBR", "table", "mbr");
    }
    if variables.flag("DISK_RELEASE")? {
        variables.put("DISK_RELEASE", "release", true);
    }
    variables.task("storage")
}

/// Where the document is: a file where `TEST` says anything, else the metadata service's.
fn document(variables: &mut Variables<'_>) -> Result<(), BadInput> {
    if variables.text("TEST").is_some() {
        let file = variables.required("JSON_FILE", "the file with the storage document")?;
        // A container's programs run in its root.
        variables.put("JSON_FILE", "document", format!("/{}", file.trim_start_matches('/')));
        return Ok(());
    }
    let host = variables.required("MIRROR_HOST", "the host of the metadata service")?;
    let port = match variables.text("METADATA_SERVICE_PORT") {
        None => DEFAULT_PORT,
        Some(text) => text.parse().map_err(|_| {
            BadInput(format!("METADATA_SERVICE_PORT: expected a port, found {text:?}"))
        })?,
    };
    let is_ipv6 = host.contains(':') && !host.starts_with('[');
    let host = if is_ipv6 { format!("[{host}]") } else { host.to_owned() };
    variables.put("MIRROR_HOST", "document", format!("http://{host}:{port}/metadata"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nibs_job::Secret;
    use serde_json::json;

    use super::*;

    fn made(command: &[&str], environment: &[(&str, &str)]) -> Result<Task, String> {
        let environment: BTreeMap<_, _> =
            environment.iter().map(|(k, v)| ((*k).to_owned(), Secret::new(*v))).collect();
        let command: Vec<_> = command.iter().map(ToString::to_string).collect();
        translate(Inputs { environment: &environment, command: &command })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_document_is_the_metadata_services_or_a_file() {
        let host = ("MIRROR_HOST", "10.0.0.1");
        for (command, environment, with) in [
            (
                "partition",
                &[host][..],
                json!({"step": "partition", "document": "http://10.0.0.1:50061/metadata"}),
            ),
            (
                "format",
                &[host, ("METADATA_SERVICE_PORT", "7080")],
                json!({"step": "format", "document": "http://10.0.0.1:7080/metadata"}),
            ),
            (
                "partition",
                &[("MIRROR_HOST", "fd00::1"), ("MBR", "yes"), ("DISK_RELEASE", "1")],
                json!({
                    "step": "partition", "document": "http://[fd00::1]:50061/metadata",
                    "table": "mbr", "release": true,
                }),
            ),
            (
                "wipe",
                &[("TEST", "1"), ("JSON_FILE", "metadata.json")],
                json!({"step": "wipe", "document": "/metadata.json"}),
            ),
            (
                "version",
                &[host],
                json!({"step": "check", "document": "http://10.0.0.1:50061/metadata"}),
            ),
        ] {
            assert_eq!(made(&[command], environment), Ok(Task::decode("storage", with).unwrap()));
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let host = ("MIRROR_HOST", "h");
        for (command, environment, wrong) in [
            (&[][..], &[host][..], "command: expected one of partition, format, mount, wipe"),
            (&["part"], &[host], "found \"part\""),
            (&["wipe", "all"], &[host], "found \"wipe all\""),
            (&["wipe"], &[], "MIRROR_HOST is missing"),
            (&["wipe"], &[("TEST", "1")], "JSON_FILE is missing"),
            (&["wipe"], &[host, ("METADATA_SERVICE_PORT", "http")], "expected a port, found"),
            (&["wipe"], &[("MIRROR_HOST", "a b")], "MIRROR_HOST: "),
        ] {
            let error = made(command, environment).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
