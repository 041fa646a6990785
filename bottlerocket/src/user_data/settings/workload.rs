//! Settings of what runs the workloads, and of AWS.

use crate::user_data::form::{
    BASE64, BYTES, ECS_ATTRIBUTE_KEY, ECS_ATTRIBUTE_VALUE, ECS_DURATION, LINE, TEXT, URL,
};
use crate::user_data::shape::Names::{self, Form};
use crate::user_data::shape::Shape::{
    self, Boolean, Either, Integer, List, Map, OneOf, OneOfAtLeast, Text,
};
use crate::user_data::shape::{I32, I64, U16, closed, key};

pub(super) const AUTOSCALING: Shape = closed(&[key("should-wait", Boolean)]);

pub(super) const AWS: Shape = closed(&[
    key("config", Text(&BASE64)),
    key("credentials", Text(&BASE64)),
    key("profile", Text(&LINE)),
    key("region", Text(&LINE)),
]);

pub(super) const CLOUDFORMATION: Shape = closed(&[
    key("logical-resource-id", Text(&LINE)),
    key("should-signal", Boolean),
    key("stack-name", Text(&LINE)),
]);

const MIRROR: Shape = closed(&[
    key("capabilities", List(&OneOf(&["pull", "resolve", "push"]))).since(1, 62, 1),
    key("endpoint", List(&Text(&URL))),
    key("registry", Text(&LINE)),
]);

const CREDENTIAL: Shape = closed(&[
    key("auth", Text(&BASE64)),
    key("identitytoken", Text(&LINE)),
    key("password", Text(&LINE)),
    key("registry", Text(&LINE)),
    key("username", Text(&LINE)),
]);

pub(super) const CONTAINER_REGISTRY: Shape = closed(&[
    key("credentials", List(&CREDENTIAL)).or("creds"),
    key("mirrors", Either(&[List(&MIRROR), Map(Form(&LINE), &List(&Text(&URL)))])),
]);

pub(super) const CONTAINER_RUNTIME: Shape = closed(&[
    key("concurrent-download-chunk-size", Either(&[Integer(0, i64::MAX), Text(&BYTES)]))
        .or("concurrent-layer-fetch-buffer")
        .since(1, 29, 0),
    key("enable-unprivileged-icmp", Boolean),
    key("enable-unprivileged-ports", Boolean),
    key("log-level", OneOf(&["trace", "debug", "info", "warn", "error", "fatal", "panic"]))
        .since(1, 62, 1),
    key("max-concurrent-downloads", I32),
    key("max-concurrent-unpacks", I32).since(1, 60, 0),
    key("max-container-log-line-size", I32),
    key("snapshotter", OneOfAtLeast(&["overlayfs", "soci"])).since(1, 29, 0),
]);

pub(super) const ECS: Shape = closed(&[
    key("allow-privileged-containers", Boolean),
    key("awsvpc-block-imds", Boolean).since(1, 19, 0),
    key("backend-host", Text(&TEXT)).since(1, 19, 0),
    key("cluster", Text(&TEXT)),
    key("container-stop-timeout", Text(&ECS_DURATION)),
    key("enable-container-metadata", Boolean).since(1, 19, 2),
    key("enable-spot-instance-draining", Boolean),
    key("image-cleanup-age", Text(&ECS_DURATION)),
    key("image-cleanup-delete-per-cycle", I64),
    key("image-cleanup-enabled", Boolean),
    key("image-cleanup-wait", Text(&ECS_DURATION)),
    key("image-pull-behavior", OneOf(&["default", "always", "once", "prefer-cached"])),
    key("instance-attributes", Map(Form(&ECS_ATTRIBUTE_KEY), &Text(&ECS_ATTRIBUTE_VALUE))),
    key("logging-drivers", List(&Text(&LINE))),
    key("loglevel", OneOf(&["debug", "info", "warn", "error", "crit"])),
    key("metadata-service-burst", I64),
    key("metadata-service-rps", I64),
    key("reserved-memory", U16),
    key("task-cleanup-wait", Text(&ECS_DURATION)),
]);

/// Linux capabilities, without `CAP_` (capabilities(7)).
const CAPABILITIES: &[&str] = &[
    "audit-control",
    "audit-read",
    "audit-write",
    "block-suspend",
    "bpf",
    "checkpoint-restore",
    "chown",
    "dac-override",
    "dac-read-search",
    "fowner",
    "fsetid",
    "ipc-lock",
    "ipc-owner",
    "kill",
    "lease",
    "linux-immutable",
    "mac-admin",
    "mac-override",
    "mknod",
    "net-admin",
    "net-bind-service",
    "net-broadcast",
    "net-raw",
    "perfmon",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys-admin",
    "sys-boot",
    "sys-chroot",
    "sys-module",
    "sys-nice",
    "sys-pacct",
    "sys-ptrace",
    "sys-rawio",
    "sys-resource",
    "sys-time",
    "sys-tty-config",
    "syslog",
    "wake-alarm",
];

const LIMITS: &[&str] = &[
    "max-address-space",
    "max-core-file-size",
    "max-cpu-time",
    "max-data-size",
    "max-file-locks",
    "max-file-size",
    "max-locked-memory",
    "max-msgqueue-size",
    "max-nice-priority",
    "max-open-files",
    "max-pending-signals",
    "max-processes",
    "max-realtime-priority",
    "max-realtime-timeout",
    "max-resident-set",
    "max-stack-size",
];

const LIMIT: Shape = Either(&[Integer(-1, i64::MAX), OneOf(&["unlimited"])]);

pub(super) const OCI_DEFAULTS: Shape = closed(&[
    key("capabilities", Map(Names::OneOf(CAPABILITIES), &Boolean)),
    key(
        "resource-limits",
        Map(
            Names::OneOf(LIMITS),
            &closed(&[key("hard-limit", LIMIT).required(), key("soft-limit", LIMIT).required()]),
        ),
    )
    .since(1, 15, 0),
]);

pub(super) const OCI_HOOKS: Shape = closed(&[key("log4j-hotpatch-enabled", Boolean)]);
