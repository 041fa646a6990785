//! Tinkerbell's standard actions, by the name of their image, as tasks of our own.
//!
//! The same environment, defaults, accepted values and meaning of failures as the images that bear
//! these names; one file for each action. What is not known by name is run as a container.

mod archive2disk;
mod cexec;
mod grub2disk;
mod image;
mod image2disk;
mod kexec;
mod nibs;
mod oci2disk;
mod qemuimg2disk;
mod reboot;
mod rootio;
mod slurp;
mod syslinux;
mod system;
mod target;
mod variables;
mod waitdaemon;
mod writefile;

use std::collections::BTreeMap;

use nibs_job::{Secret, Task};

/// Variables without which `cexec` ends with an exit code of its own.
pub const CEXEC_REQUIRED: [&str; 3] = cexec::REQUIRED;

/// What an action is given.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Its environment.
    pub environment: &'a BTreeMap<String, Secret>,
    /// Its arguments.
    pub command: &'a [String],
}

/// Why an action cannot be done as it is asked for: a sentence that names the variable, what was
/// expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);

/// Makes a task of what an action is given.
pub type Translate = fn(Inputs<'_>) -> Result<Task, BadInput>;

/// The standard actions, by the last element of their image's name.
const BUILTINS: &[(&str, Translate)] = &[
    ("archive2disk", archive2disk::translate),
    ("image2disk", image2disk::translate),
    ("oci2disk", oci2disk::translate),
    ("qemuimg2disk", qemuimg2disk::translate),
    ("slurp", slurp::translate),
    ("writefile", writefile::translate),
    ("cexec", cexec::translate),
    ("kexec", kexec::translate),
    ("rootio", rootio::translate),
    ("grub2disk", grub2disk::translate),
    ("syslinux", syslinux::translate),
    ("reboot", reboot::translate),
    ("waitdaemon", waitdaemon::translate),
    ("nibs", nibs::translate),
];

/// The name by which a built-in action is known: the last path element of an image reference,
/// without registry, tag and digest.
pub fn name_of(image: &str) -> &str {
    let without_digest = image.split('@').next().unwrap_or_default();
    let last = without_digest.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

/// The name itself, if it is one of a built-in action.
pub fn known(name: &str) -> Option<&'static str> {
    BUILTINS.iter().map(|(known, _)| *known).find(|known| *known == name)
}

/// The built-in action of a name.
pub fn find(name: &str) -> Option<Translate> {
    BUILTINS.iter().find(|(known, _)| *known == name).map(|(_, translate)| *translate)
}

/// The names of all of them.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILTINS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What an action makes of an environment.
    pub(super) fn translated(
        translate: Translate,
        environment: &[(&str, &str)],
    ) -> Result<Task, String> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), Secret::new(*value));
        let environment = environment.iter().map(pair).collect();
        let inputs = Inputs { environment: &environment, command: &[] };
        translate(inputs).map_err(|error| error.to_string())
    }

    #[test]
    fn the_documentation_has_every_action() {
        let docs = include_str!("../../../../docs/tinkerbell.md");
        for (name, _) in BUILTINS {
            assert!(docs.contains(&format!("| `{name}` |")), "{name}");
        }
    }

    #[test]
    fn an_action_is_known_by_the_last_element_of_its_image() {
        let digest = format!("quay.io/tinkerbell/actions/cexec@sha256:{}", "0".repeat(64));
        for (image, name) in [
            ("image2disk", "image2disk"),
            ("quay.io/tinkerbell/actions/image2disk:latest", "image2disk"),
            ("127.0.0.1/embedded/writefile", "writefile"),
            ("registry:5000/rootio", "rootio"),
            ("registry:5000/a/kexec:v1@sha256:00", "kexec"),
            (&digest[..], "cexec"),
            ("", ""),
        ] {
            assert_eq!(name_of(image), name, "{image}");
        }
    }
}
