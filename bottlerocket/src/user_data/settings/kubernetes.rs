//! `settings.kubernetes`, which becomes the configuration of the kubelet.

use crate::user_data::form::{
    API_SERVER, BASE64, BOOTSTRAP_TOKEN, CLUSTER_NAME, CPU_SET, DOMAIN, DURATION, HOSTNAME,
    IDENTIFIER, IP, LABEL_KEY, LABEL_VALUE, LINE, PEM, PERCENT, QUANTITY, TAINT, THRESHOLD, URL,
};
use crate::user_data::shape::Names::{Form, OneOf};
use crate::user_data::shape::Shape::{
    self, Any, Boolean, Either, Integer, List, Map, OneOfAtLeast, Text,
};
use crate::user_data::shape::{I32, I64, NOT_NEGATIVE, U8, U32, closed, key, mixed, open};

const EVICTION_SIGNALS: &[&str] = &[
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
];
const STATIC_OR_NONE: &[&str] = &["static", "none", "Static", "None"];

const PERCENTAGE: Shape = Either(&[Integer(0, 100), Text(&PERCENT)]);
const THRESHOLDS: Shape = Map(OneOf(EVICTION_SIGNALS), &Text(&THRESHOLD));
const RESERVED: Shape =
    Map(OneOf(&["cpu", "memory", "ephemeral-storage", "pid"]), &Text(&QUANTITY));

const STATIC_POD: Shape = closed(&[key("enabled", Boolean), key("manifest", Text(&BASE64))]);

const CREDENTIAL_PROVIDER: Shape = open(&[
    key("enabled", Boolean).required(),
    key("image-patterns", List(&Text(&LINE))).required(),
    key("cache-duration", Text(&DURATION)),
    key("environment", Map(Form(&LINE), &Text(&LINE))),
]);

const RESERVED_MEMORY: Shape = mixed(
    &[key("enabled", Boolean).required()],
    OneOf(&["memory", "hugepages-2Mi", "hugepages-1Gi"]),
    &Text(&QUANTITY),
);

const TOPOLOGY_OPTIONS: Shape = open(&[
    key("prefer-closest-numa-nodes", Boolean),
    key("max-allowable-numa-nodes", Integer(8, u32::MAX as i64)),
]);

pub(super) const KUBERNETES: Shape = closed(&[
    key("allowed-unsafe-sysctls", List(&Text(&LINE))),
    key("api-server", Text(&API_SERVER)),
    key("authentication-mode", Shape::OneOf(&["aws", "tls"])),
    key("bootstrap-token", Text(&BOOTSTRAP_TOKEN)),
    key("cloud-provider", Shape::OneOf(&["aws", "external", "", "\"\""])),
    key("cluster-certificate", Text(&PEM)),
    key("cluster-dns-ip", Either(&[Text(&IP), List(&Text(&IP))])),
    key("cluster-domain", Text(&DOMAIN)),
    key("cluster-name", Text(&CLUSTER_NAME)),
    key("container-log-max-files", I32),
    key("container-log-max-size", Text(&QUANTITY)),
    key("container-log-max-workers", I32).since(1, 29, 0),
    key("container-log-monitor-interval", Text(&DURATION)).since(1, 29, 0),
    key("container-runtime-endpoint", Any).since(1, 62, 1),
    key("cpu-cfs-quota-enforced", Boolean),
    key("cpu-manager-policy", Shape::OneOf(STATIC_OR_NONE)),
    key("cpu-manager-policy-options", List(&OneOfAtLeast(&["full-pcpus-only"]))),
    key("cpu-manager-reconcile-period", Text(&DURATION)),
    key("credential-providers", Map(Form(&IDENTIFIER), &CREDENTIAL_PROVIDER)),
    key("device-ownership-from-security-context", Boolean).since(1, 29, 0),
    key("event-burst", I32),
    key("event-qps", I32),
    key("eviction-hard", THRESHOLDS),
    key("eviction-max-pod-grace-period", NOT_NEGATIVE),
    key("eviction-soft", THRESHOLDS),
    key("eviction-soft-grace-period", Map(OneOf(EVICTION_SIGNALS), &Text(&DURATION))),
    key("hostname-override", Text(&HOSTNAME)),
    key("hostname-override-source", Shape::OneOf(&["private-dns-name", "instance-id"]))
        .since(1, 20, 0),
    key("ids-per-pod", Integer(1, i64::MAX)).since(1, 29, 0),
    key("image-gc-high-threshold-percent", PERCENTAGE),
    key("image-gc-low-threshold-percent", PERCENTAGE),
    key("image-maximum-gc-age", Text(&DURATION)).since(1, 29, 0),
    key("image-minimum-gc-age", Text(&DURATION)).since(1, 29, 0),
    key("kube-api-burst", I32),
    key("kube-api-qps", I32),
    key("kube-reserved", RESERVED),
    key("kubelet-extra-config", Text(&BASE64)).since(1, 29, 0),
    key("log-level", U8),
    key("max-parallel-image-pulls", I32).since(1, 29, 0),
    key("max-pods", U32),
    key("memory-manager-policy", Shape::OneOf(STATIC_OR_NONE)),
    key("memory-manager-reserved-memory", Map(Form(&IDENTIFIER), &RESERVED_MEMORY)),
    key("memory-reservation-policy", Any).since(1, 62, 1),
    key("memory-swap-behavior", OneOfAtLeast(&["NoSwap", "LimitedSwap"])).since(1, 29, 0),
    key("memory-throttling-factor", Any).since(1, 62, 1),
    key("node-ip", Text(&IP)),
    key("node-labels", Map(Form(&LABEL_KEY), &Text(&LABEL_VALUE))),
    key("node-taints", Map(Form(&LABEL_KEY), &Either(&[Text(&TAINT), List(&Text(&TAINT))]))),
    key("pod-infra-container-image", Text(&LINE)),
    key("pod-pids-limit", I64),
    key("provider-id", Text(&URL)),
    key("registry-burst", I32),
    key("registry-qps", I32),
    key("reserved-cpus", Text(&CPU_SET)),
    key("seccomp-default", Boolean).since(1, 15, 0),
    key("server-certificate", Text(&PEM)),
    key("server-key", Text(&PEM)),
    key("server-tls-bootstrap", Boolean),
    key("shutdown-grace-period", Text(&DURATION)),
    key("shutdown-grace-period-for-critical-pods", Text(&DURATION)),
    key("single-process-oom-kill", Boolean).since(1, 29, 0),
    key("standalone-mode", Boolean),
    key("static-pods", Map(Form(&IDENTIFIER), &STATIC_POD)),
    key("static-pods-enabled", Boolean).since(1, 29, 0),
    key("system-reserved", RESERVED),
    key(
        "topology-manager-policy",
        Shape::OneOf(&["none", "restricted", "best-effort", "single-numa-node"]),
    ),
    key("topology-manager-policy-options", TOPOLOGY_OPTIONS).since(1, 60, 0),
    key("topology-manager-scope", Shape::OneOf(&["container", "pod"])),
]);
