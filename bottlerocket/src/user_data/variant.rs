//! The variant of an image, which decides which settings it knows.

use std::fmt;

/// A family of variants that share their settings (bottlerocket, `sources/settings-plugins`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// `aws-dev`
    AwsDev,
    /// `aws-ecs-1` and later
    AwsEcs,
    /// `aws-k8s-*`
    AwsK8s,
    /// `aws-k8s-*-nvidia`
    AwsK8sNvidia,
    /// `metal-dev`
    MetalDev,
    /// `metal-k8s-*`
    MetalK8s,
    /// `vmware-dev`
    VmwareDev,
    /// `vmware-k8s-*`
    VmwareK8s,
}

impl Variant {
    /// The family of a variant by its name, such as `metal-k8s-1.28`; none for a name that is not
    /// one of Bottlerocket's own: people build variants with settings of their own.
    pub fn of_image(name: &str) -> Option<Self> {
        let belongs = |family: &str| {
            name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let nvidia = name.split('-').any(|word| word == "nvidia");
        [
            ("aws-dev", Self::AwsDev),
            ("aws-ecs", Self::AwsEcs),
            ("aws-k8s", if nvidia { Self::AwsK8sNvidia } else { Self::AwsK8s }),
            ("metal-dev", Self::MetalDev),
            ("metal-k8s", Self::MetalK8s),
            ("vmware-dev", Self::VmwareDev),
            ("vmware-k8s", Self::VmwareK8s),
        ]
        .into_iter()
        .find_map(|(family, variant)| belongs(family).then_some(variant))
    }

    /// Whether it is one for bare metal.
    pub fn is_metal(self) -> bool {
        matches!(self, Self::MetalDev | Self::MetalK8s)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwsDev => "aws-dev",
            Self::AwsEcs => "aws-ecs",
            Self::AwsK8s => "aws-k8s",
            Self::AwsK8sNvidia => "aws-k8s-nvidia",
            Self::MetalDev => "metal-dev",
            Self::MetalK8s => "metal-k8s",
            Self::VmwareDev => "vmware-dev",
            Self::VmwareK8s => "vmware-k8s",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_found_by_its_family() {
        assert_eq!(Variant::of_image("metal-k8s-1.28"), Some(Variant::MetalK8s));
        assert_eq!(Variant::of_image("metal-dev"), Some(Variant::MetalDev));
        assert_eq!(Variant::of_image("aws-k8s-1.31-nvidia-fips"), Some(Variant::AwsK8sNvidia));
        assert_eq!(Variant::of_image("aws-k8s-1.31"), Some(Variant::AwsK8s));
        assert_eq!(Variant::of_image("aws-ecs-2-nvidia"), Some(Variant::AwsEcs));
        assert_eq!(Variant::of_image("metal-developers-own"), None);
        assert_eq!(Variant::of_image(""), None);
    }
}
