//! The wire of the lab: one bridge that is the gateway, and a tap for each machine.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use crate::process::run;

/// The gateway: every service of the lab is here.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The gateway's address in the lab's IPv6 network, one of the unique local kind.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// First address for machines.
pub const FIRST_LEASE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
/// Last address for machines.
pub const LAST_LEASE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 99);
/// Name of the bridge.
pub const BRIDGE: &str = "nibs0";

const PREFIX: u8 = 24;
const PREFIX6: u8 = 64;

/// The bridge, in the network namespace of this process, and gone with it.
#[derive(Debug)]
pub struct Network {
    taps: usize,
}

impl Network {
    /// Makes the bridge; fails if this namespace already has one.
    pub fn create() -> Result<Self> {
        ip("link set lo up")?;
        ip(&format!("link add {BRIDGE} type bridge"))?;
        ip(&format!("address add {GATEWAY}/{PREFIX} dev {BRIDGE}"))?;
        ip(&format!("address add {GATEWAY6}/{PREFIX6} dev {BRIDGE} nodad"))?;
        ip(&format!("link set {BRIDGE} up"))?;
        Ok(Self { taps: 0 })
    }

    /// Makes a tap on the bridge and gives its name.
    pub fn add_tap(&mut self) -> Result<String> {
        let name = format!("tap{}", self.taps);
        ip(&format!("tuntap add {name} mode tap"))?;
        ip(&format!("link set {name} master {BRIDGE} up"))?;
        self.taps += 1;
        Ok(name)
    }
}

fn ip(arguments: &str) -> Result<()> {
    let words: Vec<&str> = arguments.split(' ').collect();
    run("ip", &words).map(drop).context("setting the lab's network up")
}
