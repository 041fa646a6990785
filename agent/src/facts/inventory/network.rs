//! Network interfaces, hardware or not.

use std::path::Path;

use nibs_job::inventory::NetworkInterface;

use super::{names, text};

/// What `/sys/class/net` has beside interfaces with something behind them: the loopback, and the
/// file by which bonds are made.
const LEFT_OUT: [&str; 2] = ["lo", "bonding_masters"];

/// The interface came with its address (NET_ADDR_PERM of linux/netdevice.h): it was neither made
/// up nor set.
const PERMANENT: &str = "0";

pub(super) fn interfaces(sys: &Path) -> Vec<NetworkInterface> {
    let directory = sys.join("class/net");
    let interface = |name: String| {
        let value = |file: &str| text(&directory.join(&name).join(file)).unwrap_or_default();
        NetworkInterface {
            mac: match value("addr_assign_type").as_str() {
                PERMANENT => value("address"),
                _ => String::new(),
            },
            speed: value("speed"),
            // Tinkerbell's own image has no ethtool, so it tells none either.
            enabled_capabilities: Vec::new(),
            name,
        }
    };
    let names = names(&directory).into_iter();
    names.filter(|name| !LEFT_OUT.contains(&name.as_str())).map(interface).collect()
}
