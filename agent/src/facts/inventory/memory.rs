//! Memory: what is built in, and what the kernel has to give.

use std::path::Path;

use nibs_actions::Machine;
use nibs_job::inventory::{Memory, binary_size};

use super::{numbered, text};

pub(super) fn memory(machine: &Machine) -> Memory {
    let usable = crate::facts::memory(&machine.proc);
    let total = built_in(&machine.sysfs).unwrap_or(usable);
    Memory { total: binary_size(total), usable: binary_size(usable) }
}

/// Bytes of the blocks that are online (`Documentation/admin-guide/mm/memory-hotplug.rst`). None
/// where the kernel shows no blocks: on some ARM machines, or without memory hotplug.
fn built_in(sys: &Path) -> Option<u64> {
    let directory = sys.join("devices/system/memory");
    let block = u64::from_str_radix(&text(&directory.join("block_size_bytes"))?, 16).ok()?;
    let is_online = |number: &u32| {
        text(&directory.join(format!("memory{number}/state"))).is_some_and(|it| it == "online")
    };
    let online = numbered(&directory, "memory").iter().filter(|number| is_online(number)).count();
    block.checked_mul(online as u64).filter(|&bytes| bytes > 0)
}
