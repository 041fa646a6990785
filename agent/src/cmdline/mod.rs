//! The kernel command line: what it asks of the agent.
//!
//! Read as leniently as the kernel reads it, since other software's parameters stand beside ours:
//! a key may have no value, a value may be quoted, a key may come again (the last one counts, save
//! for `console=`), and everything after `--` belongs to init's arguments. What cannot be used is
//! a warning and never stops a boot. What may hold a password is kept as a secret, and values of
//! parameters that the agent does not use are not kept at all: none can then reach a log.

mod tinkerbell;

use std::collections::BTreeMap;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use nibs_job::{Mac, Secret, Span};

pub use self::tinkerbell::Tinkerbell;
use crate::control::Endpoint;
use crate::net::{Fixed, VlanId};
use crate::syslog;

/// How long a failed agent's message stays on the console before the machine reboots.
pub const DEFAULT_REBOOT_DELAY: Duration = Duration::from_secs(30);

/// How long the end of an agent that died is offered to the control plane.
pub const DEFAULT_REPORT_WAIT: Duration = Duration::from_secs(120);

/// The parameters that are the agent's own.
const OWN: [&str; 6] =
    ["nibs.control", "nibs.id", "nibs.ca", "nibs.scratch", "nibs.reboot-delay", "nibs.report-wait"];

/// Proxies, named as environment variables are.
const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// Parameters of Tinkerbell's Hook and its boot scripts that this version does nothing with.
/// `docs/agent.md` lists them for people.
const NOT_YET: [&str; 6] = [
    "tink_worker_image",
    "facility",
    "modules",
    "linuxkit.unified_cgroup_hierarchy",
    "linuxkit.runc_debug",
    "linuxkit.runc_console",
];

/// What the kernel command line asks of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Control plane to ask for a job.
    pub control: Option<Endpoint>,
    /// This machine's id.
    pub id: Option<String>,
    /// PEM file of certificate authorities.
    pub ca: Option<PathBuf>,
    /// Where images of actions are unpacked: a directory or a device.
    pub scratch: Option<PathBuf>,
    /// How long to wait before the reboot after a failure.
    pub reboot_delay: Duration,
    /// How long an agent's death is offered to the control plane.
    pub report_wait: Duration,
    /// The interface that booted: `hw_addr=`, else `BOOTIF=`.
    pub boot_mac: Option<Mac>,
    /// Name of the interface to use: `interface=`.
    pub interface: Option<String>,
    /// The VLAN to use: `vlan_id=`.
    pub vlan: Option<VlanId>,
    /// The address to use without asking for one: `ipam=`.
    pub fixed: Option<Fixed>,
    /// Who gets the log: `syslog_host=` and `syslog_port=`.
    pub syslog: Option<syslog::Receiver>,
    /// `HTTP_PROXY=`, `HTTPS_PROXY=` and `NO_PROXY=`, by their names.
    pub proxies: BTreeMap<&'static str, Secret>,
    /// The Tinkerbell server; its address is absent where [`Parameters::control`] is there.
    pub tinkerbell: Tinkerbell,
    /// Names of the terminals of `console=`, without `/dev/`, in their order.
    pub consoles: Vec<String>,
    /// Names of known parameters that are there and not used yet.
    pub not_yet: Vec<&'static str>,
    /// What could not be used, one sentence each.
    pub warnings: Vec<String>,
}

impl Parameters {
    /// Reads the text of `/proc/cmdline`. Never fails: see [`Parameters::warnings`].
    pub fn parse(line: &str) -> Self {
        let mut parameters = Self {
            control: None,
            id: None,
            ca: None,
            scratch: None,
            reboot_delay: DEFAULT_REBOOT_DELAY,
            report_wait: DEFAULT_REPORT_WAIT,
            boot_mac: None,
            interface: None,
            vlan: None,
            fixed: None,
            syslog: None,
            proxies: BTreeMap::new(),
            tinkerbell: Tinkerbell::default(),
            consoles: Vec::new(),
            not_yet: Vec::new(),
            warnings: Vec::new(),
        };
        let mut hw_addr = None;
        let mut boot_if = None;
        let (mut syslog_host, mut syslog_port) = (None::<String>, syslog::PORT);
        for (key, value) in split(line) {
            let warnings = &mut parameters.warnings;
            match key.as_str() {
                "nibs.control" => take(&mut parameters.control, &key, value, warnings),
                "nibs.id" => text(&mut parameters.id, &key, value, warnings),
                "nibs.ca" => text(&mut parameters.ca, &key, value, warnings),
                "nibs.scratch" => text(&mut parameters.scratch, &key, value, warnings),
                "nibs.reboot-delay" => span(&mut parameters.reboot_delay, &key, value, warnings),
                "nibs.report-wait" => span(&mut parameters.report_wait, &key, value, warnings),
                "hw_addr" => take(&mut hw_addr, &key, value, warnings),
                "BOOTIF" => {
                    // PXELINUX puts the hardware type before the address: 01 is Ethernet.
                    let mac = value.map(|value| match value.strip_prefix("01-") {
                        Some(mac) => mac.to_owned(),
                        None => value,
                    });
                    take(&mut boot_if, &key, mac, warnings);
                }
                "interface" => text(&mut parameters.interface, &key, value, warnings),
                "vlan_id" => take(&mut parameters.vlan, &key, value, warnings),
                "ipam" => take(&mut parameters.fixed, &key, value, warnings),
                "syslog_host" => text(&mut syslog_host, &key, value, warnings),
                "syslog_port" => {
                    let mut port: Option<u16> = None;
                    take(&mut port, &key, value, warnings);
                    syslog_port = port.unwrap_or(syslog_port);
                }
                "console" => {
                    parameters.consoles.extend(value.and_then(|value| terminal(&value)));
                }
                other if other.starts_with("nibs.") => {
                    let known = OWN.join(", ");
                    warnings.push(format!("{other}= is not known; known are {known}"));
                }
                other if tinkerbell::NAMES.contains(&other) => {
                    parameters.tinkerbell.read(other, value, warnings);
                }
                other => {
                    if let Some(name) = PROXIES.iter().find(|name| **name == other) {
                        let proxy = text_of(&key, value, warnings).map(Secret::new);
                        parameters.proxies.extend(proxy.map(|proxy| (*name, proxy)));
                    }
                    if let Some(name) = NOT_YET.iter().find(|name| **name == other)
                        && !parameters.not_yet.contains(name)
                    {
                        parameters.not_yet.push(name);
                    }
                }
            }
        }
        parameters.boot_mac = hw_addr.or(boot_if);
        parameters.syslog = syslog_host.map(|host| syslog::Receiver { host, port: syslog_port });
        if parameters.control.is_some() && parameters.tinkerbell.authority.take().is_some() {
            let why = "grpc_authority= is not used: nibs.control= names the control plane";
            parameters.warnings.push(why.into());
        }
        parameters
    }
}

/// Splits the line as the kernel does: at spaces outside of double quotes, up to `--`.
fn split(text: &str) -> Vec<(String, Option<String>)> {
    let mut arguments = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut quoted = false;
        let end = rest
            .find(|c: char| {
                quoted ^= c == '"';
                c.is_ascii_whitespace() && !quoted
            })
            .unwrap_or(rest.len());
        let argument = &rest[..end];
        rest = rest[end..].trim_start();
        if argument == "--" {
            break;
        }
        // The quotes stand around the whole argument or around its value.
        arguments.push(match argument.split_once('=') {
            Some((key, value)) => (key.replace('"', ""), Some(value.replace('"', ""))),
            None => (argument.replace('"', ""), None),
        });
    }
    arguments
}

fn text_of(key: &str, value: Option<String>, warnings: &mut Vec<String>) -> Option<String> {
    let value = value.filter(|value| !value.is_empty());
    if value.is_none() {
        warnings.push(format!("{key}= has no value"));
    }
    value
}

/// Takes a value that may be any text but none.
fn text<T: From<String>>(
    slot: &mut Option<T>,
    key: &str,
    value: Option<String>,
    warnings: &mut Vec<String>,
) {
    if let Some(value) = text_of(key, value, warnings) {
        *slot = Some(value.into());
    }
}

fn take<T>(slot: &mut Option<T>, key: &str, value: Option<String>, warnings: &mut Vec<String>)
where
    T: FromStr<Err: std::fmt::Display>,
{
    if let Some(value) = text_of(key, value, warnings) {
        match value.parse() {
            Ok(value) => *slot = Some(value),
            Err(e) => warnings.push(format!("{key}= is not used: {e}")),
        }
    }
}

fn span(slot: &mut Duration, key: &str, value: Option<String>, warnings: &mut Vec<String>) {
    let mut given: Option<Span> = None;
    take(&mut given, key, value, warnings);
    if let Some(Span(duration)) = given {
        *slot = duration;
    }
}

/// `ttyS1,115200n8` is the terminal `ttyS1`; an empty one and `null` mean none.
fn terminal(value: &str) -> Option<String> {
    let name = value.split(',').next().unwrap_or_default();
    let plain = name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'));
    (plain && !name.is_empty() && name != "null").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parameters of others that say how the network is to come up and who is told.
    const OTHERS: [&str; 6] =
        ["hw_addr", "interface", "vlan_id", "ipam", "syslog_host", "syslog_port"];

    #[test]
    fn the_line_of_our_boot_script_is_read() {
        let parameters = Parameters::parse(
            "initrd=initramfs-x86_64 nibs.control=http://10.0.0.1:8080 hw_addr=52:54:00:12:34:56 \
             console=tty0 console=ttyS0,115200n8 quiet\n",
        );
        assert_eq!(parameters.control.unwrap().to_string(), "http://10.0.0.1:8080");
        assert_eq!(parameters.boot_mac.unwrap().to_string(), "52:54:00:12:34:56");
        assert_eq!(parameters.consoles, ["tty0", "ttyS0"]);
        assert_eq!(parameters.warnings, Vec::<String>::new());
        assert_eq!(parameters.reboot_delay, DEFAULT_REBOOT_DELAY);
    }

    #[test]
    fn quotes_hold_spaces_together_and_dashes_end_the_line() {
        let line = r#"a="b c" "d=e f" g-h_i j="" k -- nibs.id=late"#;
        let pairs = split(line);
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        let expected =
            [("a", Some("b c")), ("d", Some("e f")), ("g-h_i", None), ("j", Some("")), ("k", None)];
        assert_eq!(pairs, expected);
        assert_eq!(split(r#"a="never closed b=c"#).len(), 1);
        assert_eq!(split("  \n").len(), 0);
    }

    #[test]
    fn a_known_key_without_a_value_is_a_warning_and_no_crash() {
        let bare = [&OWN[..], &OTHERS, &["BOOTIF", "console"], &tinkerbell::NAMES, &PROXIES];
        let bare = [&bare.concat()[..], &NOT_YET].concat();
        let parameters = Parameters::parse(&bare.join(" "));
        assert_eq!(parameters.control, None);
        assert_eq!(parameters.id, None);
        assert_eq!(parameters.boot_mac, None);
        let warned = ["nibs.control", "nibs.id", "nibs.reboot-delay", "BOOTIF"];
        for name in [&warned[..], &OTHERS, &tinkerbell::NAMES, &PROXIES].concat() {
            let found = parameters.warnings.iter().any(|w| w.starts_with(name));
            assert!(found, "{name}: {:?}", parameters.warnings);
        }
    }

    #[test]
    fn values_that_make_no_sense_are_warnings_and_the_defaults_stay() {
        let parameters = Parameters::parse(
            "nibs.control=10.0.0.1:8080 nibs.reboot-delay=soon hw_addr=${mac} nibs.contrl=http://x \
             console= console=null console=../sda console=ttyS0",
        );
        assert_eq!(parameters.control, None);
        assert_eq!(parameters.reboot_delay, DEFAULT_REBOOT_DELAY);
        assert_eq!(parameters.consoles, ["ttyS0"]);
        let warnings = parameters.warnings.join("\n");
        for part in ["nibs.control= is not", "soon", "${mac}", "nibs.contrl= is not known"] {
            assert!(warnings.contains(part), "{part}: {warnings}");
        }
        assert!(warnings.contains("nibs.report-wait"), "{warnings}");
    }

    #[test]
    fn the_last_of_a_repeated_key_counts_and_a_bad_one_does_not_undo_a_good_one() {
        let parameters = Parameters::parse("nibs.id=a nibs.id=b nibs.report-wait=5s");
        assert_eq!(parameters.id.as_deref(), Some("b"));
        assert_eq!(parameters.report_wait, Duration::from_secs(5));
        let parameters = Parameters::parse("hw_addr=52:54:00:00:00:01 hw_addr=nonsense");
        assert_eq!(parameters.boot_mac.unwrap().to_string(), "52:54:00:00:00:01");
        assert_eq!(parameters.warnings.len(), 1);
    }

    #[test]
    fn an_empty_value_undoes_no_good_one_whatever_it_is_of() {
        for (key, value) in [
            ("nibs.control", "http://h:1"),
            ("nibs.id", "m"),
            ("nibs.ca", "/ca.pem"),
            ("nibs.scratch", "/scratch"),
            ("nibs.reboot-delay", "7s"),
            ("nibs.report-wait", "7s"),
            ("hw_addr", "52:54:00:00:00:01"),
            ("BOOTIF", "52:54:00:00:00:01"),
            ("interface", "eno1"),
            ("vlan_id", "7"),
            ("syslog_host", "10.0.0.2"),
            ("grpc_authority", "h:1"),
            ("worker_id", "m"),
            ("tinkerbell_tls", "true"),
            ("tinkerbell_insecure_tls", "true"),
            ("docker_registry", "r"),
            ("registry_username", "u"),
            ("registry_password", "p"),
            ("insecure_registries", "r:1"),
            ("HTTP_PROXY", "http://h:1"),
            ("HTTPS_PROXY", "http://h:1"),
            ("NO_PROXY", "lab"),
        ] {
            let good = Parameters::parse(&format!("{key}={value}"));
            assert_ne!(good, Parameters::parse(""), "{key}");
            for empty in [format!("{key}="), key.to_owned()] {
                let mut both = Parameters::parse(&format!("{key}={value} {empty}"));
                let warnings = std::mem::take(&mut both.warnings);
                assert_eq!(warnings, [format!("{key}= has no value")]);
                assert_eq!(both, good, "{key}");
            }
        }
        let no_host = Parameters::parse("insecure_registries=r:1 insecure_registries=,");
        assert_eq!(no_host.tinkerbell.registries.insecure, ["r:1"]);
        assert_eq!(no_host.warnings.len(), 1, "{:?}", no_host.warnings);
    }

    #[test]
    fn the_interface_that_booted_is_named_by_either_loader() {
        let mac = |text| Parameters::parse(text).boot_mac.map(|mac| mac.to_string());
        let pxelinux = mac("BOOTIF=01-52-54-00-aa-bb-cc");
        assert_eq!(pxelinux.as_deref(), Some("52:54:00:aa:bb:cc"));
        let both = mac("hw_addr=52:54:00:00:00:01 BOOTIF=01-52-54-00-00-00-02");
        assert_eq!(both.as_deref(), Some("52:54:00:00:00:01"));
    }

    #[test]
    fn hooks_parameters_that_have_no_use_are_listed_without_their_values() {
        let parameters = Parameters::parse("facility=a modules=b facility=c");
        assert_eq!(parameters.not_yet, ["facility", "modules"]);
    }

    #[test]
    fn the_documentation_names_them_all() {
        let docs = include_str!("../../../docs/agent.md");
        for name in [&OWN[..], &OTHERS, &tinkerbell::NAMES, &PROXIES].concat() {
            assert!(docs.contains(&format!("`{name}=")), "{name}");
        }
        for name in NOT_YET {
            assert!(docs.contains(&format!("`{name}`")), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(text in ".{0,200}", like in "(nibs\\.|console=|BOOTIF=|hw_addr=|ipam=|vlan_id=|grpc_authority=|\"|=| |--|[a-z0-9:,]){0,30}") {
            for text in [text, like] {
                let parameters = Parameters::parse(&text);
                for name in parameters.consoles {
                    prop_assert!(!name.is_empty() && !name.contains(['/', '.', ' ']), "{name:?}");
                }
            }
        }

        #[test]
        fn a_parameter_is_found_whatever_is_around_it(
            before in "[a-z=,/. ]{0,30}", id in "[a-zA-Z0-9 ._:=-]{1,20}", after in "[a-z=,/. ]{0,30}",
            whole: bool,
        ) {
            prop_assume!(!id.trim().is_empty());
            let quoted = if whole { format!("\"nibs.id={id}\"") } else { format!("nibs.id=\"{id}\"") };
            let parameters = Parameters::parse(&format!("{before} {quoted} {after}"));
            prop_assert_eq!(parameters.id.as_deref(), Some(&id[..]));
        }
    }
}
