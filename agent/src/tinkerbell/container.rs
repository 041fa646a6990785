//! An action whose image is none of the standard ones: it is run as a container.
//!
//! As Tinkerbell's own agent runs it with Docker, but for the network: a container has the machine's,
//! or none if the action says `none`. There is no bridge to put it on, and what installs a machine has
//! to reach what the agent reaches: `bridge`, `default` and no word at all mean the machine's network
//! too, and any other name fails.

use std::path::PathBuf;

use nibs_job::params::{
    ContainerVolume, DEFAULT_PULL_STALL_TIMEOUT, ImageName, NetworkNamespace, PidNamespace,
    RunContainer,
};
use nibs_job::{Secret, Task};

use super::Assignment;
use super::builtin::BadInput;

/// What the agent knows of registries, and where it may unpack images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registries {
    /// The registry whose user this is, `HOST[:PORT]`; no other is shown it.
    pub name: Option<String>,
    /// The user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Registries, `HOST[:PORT]`, whose certificates are not checked.
    pub insecure: Vec<String>,
    /// Where images are unpacked: a directory or a device. Default: in memory.
    pub scratch: Option<PathBuf>,
}

/// The task that runs an action's image.
pub fn task(assignment: &Assignment, registries: &Registries) -> Result<Task, BadInput> {
    let image: ImageName =
        assignment.image.parse().map_err(|error| BadInput(format!("image: {error}")))?;
    let volumes = assignment.volumes.iter().map(|volume| volume.parse());
    let volumes = volumes
        .collect::<Result<Vec<ContainerVolume>, String>>()
        .map_err(|error| BadInput(format!("volumes: {error}")))?;
    let (username, password) = registries.credentials_for(&image).unzip();
    let container = RunContainer {
        name: Some(container_name(assignment)),
        command: assignment.command.clone(),
        environment: assignment.environment.clone(),
        volumes,
        pid: pid(assignment.pid.as_deref())?,
        network: network(assignment.network.as_deref())?,
        username,
        password,
        insecure_registries: registries.insecure.clone(),
        scratch: registries.scratch.clone(),
        stall_timeout: DEFAULT_PULL_STALL_TIMEOUT,
        image,
    };
    Ok(Task::RunContainer(Box::new(container.checked().map_err(BadInput)?)))
}

impl Registries {
    fn credentials_for(&self, image: &ImageName) -> Option<(String, Secret)> {
        let own = self.name.as_deref()?;
        let own = own.trim_start_matches("https://").trim_start_matches("http://");
        let host = own.split('/').next()?;
        // Docker's grammar: what looks otherwise in front of a slash is a folder of Docker Hub.
        if host != "localhost" && !host.contains(['.', ':']) {
            return None;
        }
        // Names like Docker Hub's are what an image of theirs says they are.
        let known: ImageName = format!("{host}/any").parse().ok()?;
        if known.reference.registry != image.reference.registry {
            return None;
        }
        Some((self.username.clone()?, self.password.clone()?))
    }
}

/// `tinkerbell_NAME_ACTION`, with what Docker allows in names.
fn container_name(assignment: &Assignment) -> String {
    let name = format!("tinkerbell_{}_{}", assignment.name, assignment.action);
    name.replace(|c: char| !c.is_ascii_alphanumeric() && !"_.-".contains(c), "_")
}

fn pid(asked: Option<&str>) -> Result<PidNamespace, BadInput> {
    match asked {
        None | Some("" | "private") => Ok(PidNamespace::Own),
        Some("host") => Ok(PidNamespace::Host),
        Some(other) => Err(BadInput(format!("pid: expected host or nothing, found {other:?}"))),
    }
}

fn network(asked: Option<&str>) -> Result<NetworkNamespace, BadInput> {
    match asked {
        None | Some("" | "host" | "bridge" | "default") => Ok(NetworkNamespace::Host),
        Some("none") => Ok(NetworkNamespace::None),
        Some(other) => Err(BadInput(format!(
            "namespaces.network: expected host, none or nothing, found {other:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn assignment(image: &str) -> Assignment {
        Assignment {
            name: "update firmware".into(),
            action: "01HV/x".into(),
            image: image.into(),
            ..Assignment::default()
        }
    }

    fn container(assignment: &Assignment, registries: &Registries) -> RunContainer {
        match task(assignment, registries).unwrap() {
            Task::RunContainer(container) => *container,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_of_an_action_goes_into_the_container() {
        let assigned = Assignment {
            command: vec!["--all".into()],
            volumes: vec!["/dev:/dev".into(), "/lib/firmware:/lib/firmware:ro".into()],
            environment: BTreeMap::from([("A".into(), Secret::new("hunter2"))]),
            pid: Some("host".into()),
            network: Some("none".into()),
            ..assignment("quay.io/a/update:1")
        };
        let container = container(&assigned, &Registries::default());
        assert_eq!(container.name.as_deref(), Some("tinkerbell_update_firmware_01HV_x"));
        assert_eq!(container.image.to_string(), "quay.io/a/update:1");
        assert_eq!(container.command, ["--all"]);
        assert_eq!(container.environment, assigned.environment);
        let volumes: Vec<_> = container.volumes.iter().map(ToString::to_string).collect();
        assert_eq!(volumes, assigned.volumes);
        assert_eq!(container.pid, PidNamespace::Host);
        assert_eq!(container.network, NetworkNamespace::None);
    }

    #[test]
    fn without_a_word_it_has_its_own_processes_and_the_machines_network() {
        for word in [None, Some(String::new())] {
            let assigned = Assignment { pid: word.clone(), network: word, ..assignment("alpine") };
            let container = container(&assigned, &Registries::default());
            assert_eq!(container.pid, PidNamespace::Own);
            assert_eq!(container.network, NetworkNamespace::Host);
        }
        for word in ["bridge", "default", "host"] {
            let assigned = Assignment { network: Some(word.into()), ..assignment("alpine") };
            let container = container(&assigned, &Registries::default());
            assert_eq!(container.network, NetworkNamespace::Host, "{word}");
        }
    }

    #[test]
    fn a_registrys_user_is_shown_to_that_registry_only() {
        let registries = |name: &str| Registries {
            name: Some(name.into()),
            username: Some("me".into()),
            password: Some(Secret::new("hunter2")),
            ..Registries::default()
        };
        for (own, image, shown) in [
            ("registry.example:5000", "registry.example:5000/a", true),
            ("registry.example:5000/project", "registry.example:5000/project/a", true),
            ("https://registry.example", "registry.example/a", true),
            ("registry.example:5000", "registry.example/a", false),
            ("registry.example", "quay.io/a", false),
            ("harbor", "alpine", false),
            ("harbor", "harbor/alpine", false),
            ("harbor:80", "harbor:80/alpine", true),
            ("localhost", "localhost/alpine", true),
            ("docker.io", "alpine", true),
            ("docker.io", "quay.io/alpine", false),
        ] {
            let container = container(&assignment(image), &registries(own));
            assert_eq!(container.username.is_some(), shown, "{own} {image}");
            assert_eq!(container.password.is_some(), shown, "{own} {image}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let image = || assignment("alpine");
        for (assigned, why) in [
            (assignment("Not An Image"), "image: \"Not An Image\" is no image"),
            (Assignment { volumes: vec!["/dev".into()], ..image() }, "volumes: volume \"/dev\""),
            (Assignment { pid: Some("container:x".into()), ..image() }, "pid: expected host"),
            (Assignment { network: Some("lan".into()), ..image() }, "network: expected host"),
            (
                Assignment {
                    environment: BTreeMap::from([(String::new(), Secret::new("hunter2"))]),
                    ..image()
                },
                "is no name of a variable",
            ),
        ] {
            let error = task(&assigned, &Registries::default()).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
        }
    }
}
