//! The environment of an agent: `AGENT_<FLAG>` below its flags, and the names of old above them.

use nibs_job::Secret;

use super::super::{Settings, go};
use super::flags::{self, Given};
use super::{Asked, Refusal};

/// Before the name of every flag.
const PREFIX: &str = "AGENT_";

/// Takes the variables of flags that are not given.
pub(super) fn prefixed(
    asked: &mut Asked,
    given: &Given,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<(), Refusal> {
    for flag in flags::with_variable().filter(|flag| !given.has(flag)) {
        let name = format!("{PREFIX}{}", flag.name.to_ascii_uppercase().replace('-', "_"));
        if let Some(value) = variable(&name) {
            flag.set(asked, value, &name)?;
        }
    }
    Ok(())
}

/// Takes the variables of old, which go before everything. A bad boolean is passed over.
pub(super) fn old(settings: &mut Settings, variable: &impl Fn(&str) -> Option<String>) {
    let text = |slot: &mut Option<String>, name| {
        if let Some(value) = variable(name) {
            *slot = Some(value);
        }
    };
    let boolean = |slot: &mut bool, name| {
        *slot = variable(name).and_then(|value| go::boolean(&value)).unwrap_or(*slot);
    };
    text(&mut settings.registries.username, "REGISTRY_USERNAME");
    if let Some(password) = variable("REGISTRY_PASSWORD") {
        settings.registries.password = Some(Secret::new(password));
    }
    text(&mut settings.registries.name, "DOCKER_REGISTRY");
    text(&mut settings.server, "TINKERBELL_GRPC_AUTHORITY");
    boolean(&mut settings.tls, "TINKERBELL_TLS");
    boolean(&mut settings.insecure_tls, "TINKERBELL_INSECURE_TLS");
    text(&mut settings.id, "ID");
    // The later one counts.
    text(&mut settings.id, "WORKER_ID");
}
