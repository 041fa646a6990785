//! Settings of the host itself.

use crate::user_data::form::{
    BASE64, BOOT_KEY, BOOT_VALUE, CERTIFICATES, HOSTNAME, HUGE_PAGE_COUNT, HUGE_PAGE_SIZE,
    IDENTIFIER, IMAGE, IP, LINE, MODULE, SYSCTL_KEY, TEXT, URL, VERSION, WEB_URL,
};
use crate::user_data::shape::Names::Form;
use crate::user_data::shape::Shape::{self, Boolean, Either, List, Map, OneOf, Pair, Text};
use crate::user_data::shape::{U32, closed, key, mixed, open};

const MODES: &[&str] = &["off", "once", "always"];

const PARAMETERS: Shape = Map(Form(&BOOT_KEY), &List(&Text(&BOOT_VALUE)));

pub(in crate::user_data) const BOOT: Shape = closed(&[
    key("init-parameters", PARAMETERS).or("init"),
    key("kernel-parameters", PARAMETERS).or("kernel"),
    key("reboot-to-reconcile", Boolean),
]);

pub(super) const BOOTSTRAP_COMMANDS: Shape = Map(
    Form(&IDENTIFIER),
    &closed(&[
        key("commands", List(&List(&Text(&TEXT)))),
        key("essential", Boolean),
        key("mode", OneOf(MODES)),
    ]),
);

pub(super) const BOOTSTRAP_CONTAINERS: Shape = Map(
    Form(&IDENTIFIER),
    &closed(&[
        key("command", List(&Text(&TEXT))).since(1, 29, 0),
        key("essential", Boolean),
        key("mode", OneOf(MODES)),
        key("source", Text(&IMAGE)),
        key("user-data", Text(&BASE64)),
    ]),
);

pub(super) const DNS: Shape =
    closed(&[key("name-servers", List(&Text(&IP))), key("search-list", List(&Text(&HOSTNAME)))]);

pub(super) const HOST_CONTAINERS: Shape = Map(
    Form(&IDENTIFIER),
    &closed(&[
        key("command", List(&Text(&TEXT))).since(1, 29, 0),
        key("enabled", Boolean),
        key("source", Text(&IMAGE)),
        key("superpowered", Boolean),
        key("user-data", Text(&BASE64)),
    ]),
);

const HUGE_PAGES: Shape = open(&[
    key(
        "static",
        mixed(
            &[key("essential", Boolean)],
            Form(&HUGE_PAGE_SIZE),
            &open(&[key("count", Text(&HUGE_PAGE_COUNT)).required()]),
        ),
    ),
    key(
        "transparent",
        open(&[
            key("defrag", OneOf(&["never", "madvise", "defer", "defer+madvise", "always"])),
            key("enabled", OneOf(&["never", "madvise", "always"])),
        ]),
    ),
]);

pub(super) const KERNEL: Shape = closed(&[
    key("drivers", Shape::Any).since(1, 62, 1),
    key("hugepages", HUGE_PAGES).since(1, 62, 1),
    key("lockdown", OneOf(&["none", "integrity", "confidentiality"])),
    key(
        "modules",
        Map(
            Form(&MODULE),
            &closed(&[key("allowed", Boolean), key("autoload", Boolean).since(1, 16, 0)]),
        ),
    ),
    key("sysctl", Map(Form(&SYSCTL_KEY), &Text(&TEXT))),
]);

pub(super) const METRICS: Shape = closed(&[
    key("metrics-url", Text(&WEB_URL)),
    key("send-metrics", Boolean),
    key("service-checks", List(&Text(&TEXT))),
]);

pub(super) const MOTD: Shape = Text(&TEXT);

pub(super) const NETWORK: Shape = closed(&[
    key("disable-ipv6", List(&Text(&LINE))).since(1, 29, 0),
    key("hostname", Text(&HOSTNAME)),
    key("hosts", List(&Pair(&Text(&IP), &List(&Text(&HOSTNAME))))),
    key("https-proxy", Text(&URL)),
    key("no-proxy", List(&Text(&LINE))),
]);

const TIME_SERVER: Shape = closed(&[
    key("address", Text(&URL)).required(),
    key("directive", OneOf(&["server", "pool"])),
    key("options", List(&Text(&LINE))),
]);

pub(super) const NTP: Shape = closed(&[
    key("logging", List(&Text(&LINE))).since(1, 62, 1),
    key("options", List(&Text(&LINE))),
    key(
        "time-servers",
        Either(&[List(&Either(&[Text(&URL), TIME_SERVER])), Map(Form(&IDENTIFIER), &TIME_SERVER)]),
    ),
]);

pub(super) const PKI: Shape =
    Map(Form(&IDENTIFIER), &closed(&[key("data", Text(&CERTIFICATES)), key("trusted", Boolean)]));

pub(super) const UPDATES: Shape = closed(&[
    key("ignore-waves", Boolean),
    key("metadata-base-url", Text(&WEB_URL)),
    key("seed", U32),
    key("targets-base-url", Text(&WEB_URL)),
    key("version-lock", Text(&VERSION)),
]);
