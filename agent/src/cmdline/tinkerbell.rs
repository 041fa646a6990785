//! Parameters that Tinkerbell's boot scripts write, and HookOS and CaptainOS read.
//!
//! Who writes which is told in Tinkerbell's `smee/internal/ipxe/script` and `smee/internal/iso`;
//! their meaning here is in `docs/agent.md`.

use nibs_job::Secret;

use super::{text, text_of};
use crate::tinkerbell::{Registries, go};

/// The names that are read here.
pub(super) const NAMES: [&str; 8] = [
    "grpc_authority",
    "worker_id",
    "tinkerbell_tls",
    "tinkerbell_insecure_tls",
    "docker_registry",
    "registry_username",
    "registry_password",
    "insecure_registries",
];

/// Where a Tinkerbell server is, and how this machine speaks with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tinkerbell {
    /// The server's gRPC address, `HOST:PORT`.
    pub authority: Option<String>,
    /// This machine's id there.
    pub worker: Option<String>,
    /// Whether the server is spoken to by TLS.
    pub tls: bool,
    /// Whether its certificate may be anyone's.
    pub insecure_tls: bool,
    /// Where images of actions come from.
    pub registries: Registries,
}

impl Tinkerbell {
    /// Takes a parameter, if it is one of [`NAMES`].
    pub(super) fn read(&mut self, key: &str, value: Option<String>, warnings: &mut Vec<String>) {
        match key {
            "grpc_authority" => text(&mut self.authority, key, value, warnings),
            "worker_id" => text(&mut self.worker, key, value, warnings),
            "tinkerbell_tls" => boolean(&mut self.tls, key, value, warnings),
            "tinkerbell_insecure_tls" => boolean(&mut self.insecure_tls, key, value, warnings),
            "docker_registry" => text(&mut self.registries.name, key, value, warnings),
            "registry_username" => text(&mut self.registries.username, key, value, warnings),
            "registry_password" => {
                let password = text_of(key, value, warnings).map(Secret::new);
                self.registries.password = password.or(self.registries.password.take());
            }
            "insecure_registries" => {
                // Commas alone name none.
                let value = value.filter(|list| !list.replace([',', ' '], "").is_empty());
                if let Some(list) = text_of(key, value, warnings) {
                    let hosts = list.split(',').map(str::trim).filter(|host| !host.is_empty());
                    self.registries.insecure = hosts.map(str::to_owned).collect();
                }
            }
            _ => {}
        }
    }
}

fn boolean(slot: &mut bool, key: &str, value: Option<String>, warnings: &mut Vec<String>) {
    if let Some(text) = text_of(key, value, warnings) {
        match go::boolean(&text) {
            Some(value) => *slot = value,
            None => warnings.push(format!("{key}= is not used: expected true or false: {text:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Parameters;
    use super::*;

    #[test]
    fn the_line_of_smees_auto_ipxe_is_read() {
        let parameters = Parameters::parse(
            "vlan_id=7 facility=lab syslog_host=10.0.0.2 grpc_authority=10.0.0.2:42113 \
             tinkerbell_tls=false tinkerbell_insecure_tls=true worker_id=52:54:00:00:00:01 \
             hw_addr=52:54:00:00:00:01 modules=loop,squashfs,sd-mod,usb-storage intel_iommu=on \
             iommu=pt initrd=initramfs-x86_64 console=tty0 console=ttyS1,115200 \
             insecure_registries=10.0.0.2:5000,,registry.lab docker_registry=registry.lab",
        );
        assert_eq!(parameters.warnings, Vec::<String>::new());
        assert_eq!(parameters.not_yet, ["facility", "modules"]);
        assert_eq!(parameters.vlan.unwrap().to_string(), "7");
        let syslog = parameters.syslog.unwrap();
        assert_eq!((syslog.host.as_str(), syslog.port), ("10.0.0.2", 514));
        let Tinkerbell { authority, worker, tls, insecure_tls, registries } = parameters.tinkerbell;
        assert_eq!(authority.as_deref(), Some("10.0.0.2:42113"));
        assert_eq!(worker.as_deref(), Some("52:54:00:00:00:01"));
        assert!(!tls && insecure_tls);
        assert_eq!(registries.name.as_deref(), Some("registry.lab"));
        assert_eq!(registries.insecure, ["10.0.0.2:5000", "registry.lab"]);
    }

    #[test]
    fn the_line_of_smees_iso_is_read_with_its_trailing_blanks() {
        let parameters = Parameters::parse(
            "console=ttyS0 vlan_id=7 hw_addr=52:54:00:00:00:01 syslog_host=10.0.0.2 \
             grpc_authority=tink.lab:42113 tinkerbell_tls=true worker_id=52:54:00:00:00:01 \
             ipam=52-54-00-00-00-01:7:10.0.0.9:255.255.255.0:10.0.0.1:node:10.0.0.1::       \n",
        );
        assert_eq!(parameters.warnings, Vec::<String>::new());
        let fixed = parameters.fixed.unwrap();
        assert_eq!(fixed.vlan, parameters.vlan);
        assert!(parameters.tinkerbell.tls && !parameters.tinkerbell.insecure_tls);
    }

    #[test]
    fn what_cannot_be_used_is_a_warning_that_names_it() {
        let parameters = Parameters::parse(
            "grpc_authority= tinkerbell_tls=maybe vlan_id=9999 ipam=x syslog_port=none \
             syslog_host=10.0.0.2",
        );
        let warnings = parameters.warnings.join("\n");
        for part in
            ["grpc_authority= has no value", "maybe", "9999", "ipam= is not used", "syslog_port"]
        {
            assert!(warnings.contains(part), "{part}: {warnings}");
        }
        assert_eq!(parameters.tinkerbell, Tinkerbell::default());
        assert_eq!(parameters.syslog.unwrap().port, 514);
    }

    #[test]
    fn secrets_are_kept_and_not_shown() {
        let parameters = Parameters::parse(
            "registry_username=me registry_password=hunter2 HTTPS_PROXY=http://me:hunter2@proxy:1",
        );
        assert!(!format!("{parameters:?}").contains("hunter2"), "{parameters:?}");
        let registries = parameters.tinkerbell.registries;
        assert_eq!(registries.password.unwrap().expose(), "hunter2");
        assert_eq!(parameters.proxies["HTTPS_PROXY"].expose(), "http://me:hunter2@proxy:1");
    }

    #[test]
    fn our_control_plane_goes_before_a_tinkerbell_server_and_that_is_said() {
        let both = Parameters::parse("grpc_authority=h:1 nibs.control=http://h:2");
        assert_eq!(both.tinkerbell.authority, None);
        let warnings = both.warnings.join("\n");
        assert!(warnings.contains("grpc_authority= is not used: nibs.control="), "{warnings}");
    }
}
