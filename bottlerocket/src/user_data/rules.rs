//! Rules between settings, and rules of the programs that use them: each value is allowed alone,
//! but the whole does not work.
//!
//! Sources: bottlerocket-core-kit `sources/api/host-containers` and `bootstrap-containers`;
//! bottlerocket, `sources/models/shared-defaults`; Kubernetes, KubeletConfiguration v1beta1.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::findings::Findings;
use super::name::shown;
use super::{Options, Variant};

/// Host containers whose source comes with the image.
const HOST_CONTAINERS_OF_THE_IMAGE: [&str; 2] = ["admin", "control"];

/// What a node of a cluster needs, on every platform.
const CLUSTER_KEYS: [&str; 3] = ["api-server", "cluster-certificate", "cluster-name"];

type Name<'n, 't> = &'n Spanned<DeString<'t>>;

/// Checks `settings`.
pub(super) fn check(settings: &DeTable<'_>, options: &Options, findings: &mut Findings<'_>) {
    containers(settings, findings);
    if let Some((name, table)) = table(settings, "kubernetes") {
        standalone(name, table, options, findings);
        kubelet(name, table, findings);
    }
    if options.static_network && !has_name_servers(settings) {
        let message = "the network is static and no lease brings name servers: add name-servers, \
                       or no name will resolve";
        findings.warning(None, "settings.dns", message);
    }
}

fn containers(settings: &DeTable<'_>, findings: &mut Findings<'_>) {
    for (name, table) in tables(settings, "host-containers") {
        let key = format!("settings.host-containers.{}", shown(name.get_ref()));
        let of_the_image = HOST_CONTAINERS_OF_THE_IMAGE.contains(&name.get_ref().as_ref());
        if !of_the_image && !table.contains_key("source") {
            let message = "source is missing: the OS fails to set its host containers up";
            findings.error(Some(name.span()), key.clone(), message);
        }
        if !table.contains_key("enabled") && !of_the_image {
            let message = "enabled is missing and false by default: it will not be started";
            findings.warning(Some(name.span()), key.clone(), message);
        }
        if !table.contains_key("superpowered") && !of_the_image {
            let message = "superpowered is missing and false by default: say which is meant";
            findings.warning(Some(name.span()), key, message);
        }
    }
    for (name, table) in tables(settings, "bootstrap-containers") {
        let key = format!("settings.bootstrap-containers.{}", shown(name.get_ref()));
        if !table.contains_key("source") {
            let message = "source is missing: the OS fails to set its bootstrap containers up";
            findings.error(Some(name.span()), key.clone(), message);
        }
        mode(name, key, table, findings);
    }
    for (name, table) in tables(settings, "bootstrap-commands") {
        let key = format!("settings.bootstrap-commands.{}", shown(name.get_ref()));
        commands(&key, table, findings);
        mode(name, key, table, findings);
    }
}

fn mode(name: Name<'_, '_>, key: String, table: &DeTable<'_>, findings: &mut Findings<'_>) {
    if !table.contains_key("mode") {
        let message = "mode is missing and off by default: it will never run";
        findings.warning(Some(name.span()), key, message);
    }
}

fn commands(key: &str, table: &DeTable<'_>, findings: &mut Findings<'_>) {
    let commands = table.get("commands").and_then(|value| value.get_ref().as_array());
    for (index, command) in commands.into_iter().flat_map(|items| items.iter()).enumerate() {
        let Some(words) = command.get_ref().as_array() else { continue };
        let first = words.first().and_then(|word| word.get_ref().as_str());
        if first != Some("apiclient") {
            let message = "expected \"apiclient\" as the first word: the OS refuses the file";
            findings.error(Some(command.span()), format!("{key}.commands[{index}]"), message);
        }
    }
}

fn standalone(
    name: Name<'_, '_>,
    kubernetes: &DeTable<'_>,
    options: &Options,
    findings: &mut Findings<'_>,
) {
    let standalone = kubernetes.get_key_value("standalone-mode");
    if let Some((name, value)) = standalone
        && value.get_ref().as_bool() == Some(true)
    {
        let given: Vec<_> = CLUSTER_KEYS
            .into_iter()
            .chain(["authentication-mode", "bootstrap-token"])
            .filter(|key| kubernetes.contains_key(*key))
            .collect();
        if !given.is_empty() {
            let given = given.join(", ");
            let message = format!("a node in this mode joins no cluster, but {given} is given");
            findings.warning(Some(name.span()), "settings.kubernetes.standalone-mode", message);
        }
        return;
    }
    let mut needed = CLUSTER_KEYS.to_vec();
    let on_aws = matches!(options.variant, Some(Variant::AwsK8s | Variant::AwsK8sNvidia));
    if !on_aws {
        needed.push("cluster-dns-ip");
        let mode = kubernetes.get("authentication-mode").and_then(|mode| mode.get_ref().as_str());
        if mode != Some("aws") {
            needed.push("bootstrap-token");
        }
    }
    needed.retain(|key| !kubernetes.contains_key(*key));
    if !needed.is_empty() {
        let message = format!(
            "the node joins no cluster without {}; give it, or set standalone-mode",
            needed.join(", ")
        );
        findings.warning(Some(name.span()), "settings.kubernetes", message);
    }
}

/// What the OS takes, and then the kubelet refuses or ignores.
fn kubelet(name: Name<'_, '_>, kubernetes: &DeTable<'_>, findings: &mut Findings<'_>) {
    for (one, other) in [("server-certificate", "server-key"), ("server-key", "server-certificate")]
    {
        if kubernetes.contains_key(one) && !kubernetes.contains_key(other) {
            let message = format!("{one} is given without {other}: the kubelet needs both");
            findings.warning(Some(name.span()), "settings.kubernetes", message);
        }
    }
    let high = percent(kubernetes, "image-gc-high-threshold-percent");
    let low = percent(kubernetes, "image-gc-low-threshold-percent");
    if let (Some((name, high)), Some((_, low))) = (high, low)
        && high <= low
    {
        let key = "settings.kubernetes.image-gc-high-threshold-percent";
        let message = "it must be above image-gc-low-threshold-percent, or the kubelet will not \
                       start";
        findings.warning(Some(name.span()), key, message);
    }
    let grace = table(kubernetes, "eviction-soft-grace-period").map(|(_, table)| table);
    if let Some((_, soft)) = table(kubernetes, "eviction-soft") {
        for name in soft.keys() {
            if !grace.is_some_and(|grace| grace.contains_key(name.get_ref().as_ref())) {
                let key = format!("settings.kubernetes.eviction-soft.{}", shown(name.get_ref()));
                let message = "it has no eviction-soft-grace-period: the kubelet will not start";
                findings.warning(Some(name.span()), key, message);
            }
        }
    }
}

fn percent<'n, 't>(table: &'n DeTable<'t>, key: &str) -> Option<(Name<'n, 't>, i64)> {
    let (name, value) = table.get_key_value(key)?;
    let number = match value.get_ref() {
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok()?,
        DeValue::String(text) => text.parse().ok()?,
        _ => return None,
    };
    Some((name, number))
}

fn has_name_servers(settings: &DeTable<'_>) -> bool {
    table(settings, "dns")
        .and_then(|(_, dns)| dns.get("name-servers"))
        .and_then(|servers| servers.get_ref().as_array())
        .is_some_and(|servers| !servers.is_empty())
}

fn table<'n, 't>(parent: &'n DeTable<'t>, key: &str) -> Option<(Name<'n, 't>, &'n DeTable<'t>)> {
    let (name, value) = parent.get_key_value(key)?;
    value.get_ref().as_table().map(|table| (name, table))
}

/// The tables that a table of tables holds.
fn tables<'n, 't>(
    parent: &'n DeTable<'t>,
    key: &str,
) -> impl Iterator<Item = (Name<'n, 't>, &'n DeTable<'t>)> {
    table(parent, key)
        .into_iter()
        .flat_map(|(_, table)| table.iter())
        .filter_map(|(name, value)| value.get_ref().as_table().map(|table| (name, table)))
}
