//! The lab: virtual UEFI machines with a network, boot services and the real `nibs-server`.
//!
//! ```text
//!  network namespace (and PID namespace: when it ends, all in it ends)
//!  ┌──────────────────────────────────────────────────────────────┐
//!  │  bridge 10.77.0.1 ── dnsmasq (DHCP, TFTP: iPXE)              │
//!  │     │             └─ nibs-server :8080 (boot script, assets, │
//!  │    tap                jobs, events)                          │
//!  │     │                                                        │
//!  │  QEMU: OVMF ── NVRAM in a file, network before disk          │
//!  │        serial console ── log, followed line by line          │
//!  └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! From the bottom: [`process`] runs programs; [`namespace`], [`network`] and [`dnsmasq`] make the
//! wire; [`nvram`], [`firmware`] and [`drive`] prepare what a machine has when it is switched on;
//! [`qmp`], [`console`], [`keyboard`] and [`machine`] are the machine; [`control`] is the control
//! plane. [`rack`] puts them together, and [`demo`] is the whole story with its [`report`].
//! [`faults`] takes the machine's power away and makes its disk fail. A test of all that is a
//! [`trial`]. [`bench`] measures the image engine. [`tinkerbell`] is a server of another control
//! plane, which the agent has to get along with.
//!
//! A program of the lab names everything it needs itself; nothing depends on the host's network.

pub mod accel;
pub mod artefacts;
pub mod bench;
pub mod console;
pub mod control;
pub mod demo;
pub mod dnsmasq;
pub mod drive;
pub mod faults;
pub mod firmware;
pub mod keyboard;
pub mod machine;
pub mod namespace;
pub mod network;
pub mod nvram;
pub mod process;
pub mod qmp;
pub mod rack;
pub mod report;
pub mod terminal;
pub mod tinkerbell;
pub mod trial;
