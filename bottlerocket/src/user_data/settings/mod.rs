//! The settings of Bottlerocket: every key, what it may hold, which variants know it and since
//! when. This is a table; what it means is in `shape` and `walk`.
//!
//! A shape is that of `bottlerocket-settings-models` (bottlerocket-settings-sdk); `since` is the
//! release whose migrations add a setting (bottlerocket, `Release.toml`, up to 1.19), or else the
//! first release after the model that has it. What was there before 1.15, the first release with
//! the last metal images, has no `since`.

mod kubernetes;
mod system;
mod workload;

use super::shape::{Key, Shape, key};
use super::variant::Variant::{
    self, AwsDev, AwsEcs, AwsK8s, AwsK8sNvidia, MetalDev, MetalK8s, VmwareDev, VmwareK8s,
};

pub(super) use system::BOOT;

/// One of the settings.
pub(super) struct Setting {
    pub(super) key: Key,
    pub(super) variants: &'static [Variant],
}

const EVERY: &[Variant] =
    &[AwsDev, AwsEcs, AwsK8s, AwsK8sNvidia, MetalDev, MetalK8s, VmwareDev, VmwareK8s];
const WITH_KUBERNETES: &[Variant] = &[AwsK8s, AwsK8sNvidia, MetalK8s, VmwareK8s];
const WITH_WORKLOADS: &[Variant] = &[AwsEcs, AwsK8s, AwsK8sNvidia, MetalK8s, VmwareK8s];
const WITH_AWS: &[Variant] = &[AwsDev, AwsEcs, AwsK8s, AwsK8sNvidia, MetalK8s, VmwareK8s];
const ON_AWS: &[Variant] = &[AwsDev, AwsEcs, AwsK8s, AwsK8sNvidia];
const NVIDIA: &[Variant] = &[AwsK8sNvidia];

const fn setting(key: Key, variants: &'static [Variant]) -> Setting {
    Setting { key, variants }
}

/// All settings, by name.
pub(super) static SETTINGS: [Setting; 27] = [
    setting(key("autoscaling", workload::AUTOSCALING), &[AwsEcs, AwsK8s, AwsK8sNvidia]),
    setting(key("aws", workload::AWS), WITH_AWS),
    setting(key("boot", BOOT), EVERY),
    setting(key("bootstrap-commands", system::BOOTSTRAP_COMMANDS).since(1, 20, 0), EVERY),
    setting(key("bootstrap-containers", system::BOOTSTRAP_CONTAINERS), EVERY),
    setting(key("cloudformation", workload::CLOUDFORMATION), ON_AWS),
    setting(key("container-registry", workload::CONTAINER_REGISTRY), EVERY),
    setting(key("container-runtime", workload::CONTAINER_RUNTIME), WITH_KUBERNETES),
    setting(key("container-runtime-plugins", Shape::Any).since(1, 29, 0), ON_AWS),
    setting(key("dns", system::DNS), EVERY),
    setting(key("ecs", workload::ECS), &[AwsEcs]),
    setting(key("host-containers", system::HOST_CONTAINERS), EVERY),
    setting(key("image-verifier-plugins", Shape::Any).since(1, 29, 0), WITH_WORKLOADS),
    setting(key("kernel", system::KERNEL), EVERY),
    setting(key("kubelet-device-plugins", Shape::Any).since(1, 20, 0), NVIDIA),
    setting(key("kubelet-dra-drivers", Shape::Any).since(1, 62, 1), NVIDIA),
    setting(key("kubernetes", kubernetes::KUBERNETES), WITH_KUBERNETES),
    setting(key("measurement", Shape::Any).since(1, 62, 1), EVERY),
    setting(key("metrics", system::METRICS), EVERY),
    setting(key("motd", system::MOTD), EVERY),
    setting(key("network", system::NETWORK), EVERY),
    setting(key("ntp", system::NTP), EVERY),
    setting(key("nvidia-container-runtime", Shape::Any).since(1, 20, 0), NVIDIA),
    setting(key("oci-defaults", workload::OCI_DEFAULTS), WITH_WORKLOADS),
    setting(key("oci-hooks", workload::OCI_HOOKS), EVERY),
    setting(key("pki", system::PKI), EVERY),
    setting(key("updates", system::UPDATES), WITH_WORKLOADS),
];

/// The one of the settings that has this key in its table.
pub(super) fn home_of(name: &str) -> Option<&'static str> {
    SETTINGS.iter().find_map(|setting| match &setting.key.shape {
        Shape::Table(table) => {
            table.keys.iter().any(|key| key.name == name).then_some(setting.key.name)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(variant: Variant) -> Vec<&'static str> {
        SETTINGS
            .iter()
            .filter(|setting| setting.variants.contains(&variant))
            .filter(|setting| !matches!(setting.key.shape, Shape::Any))
            .map(|setting| setting.key.name)
            .collect()
    }

    #[test]
    fn metal_variants_know_what_their_plugins_list() {
        let mut dev = vec![
            "boot",
            "bootstrap-commands",
            "bootstrap-containers",
            "container-registry",
            "dns",
            "host-containers",
            "kernel",
            "metrics",
            "motd",
            "network",
            "ntp",
            "oci-hooks",
            "pki",
        ];
        assert_eq!(names(MetalDev), dev);
        dev.extend(["aws", "container-runtime", "kubernetes", "oci-defaults", "updates"]);
        dev.sort_unstable();
        assert_eq!(names(MetalK8s), dev);
    }

    #[test]
    fn a_key_is_found_in_the_table_that_has_it() {
        assert_eq!(home_of("cluster-name"), Some("kubernetes"));
        assert_eq!(home_of("name-servers"), Some("dns"));
        assert_eq!(home_of("motd"), None);
    }
}
