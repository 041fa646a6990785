//! From the boot entries that are to those that are wanted, and the fewest writes in between.
//!
//! ```text
//! BootEntries::read -> wanted (pure) -> apply (only what differs) -> BootEntries::read == wanted
//! ```

use std::collections::HashSet;

use nibs_job::params::BootPolicy;
use uuid::Uuid;

use crate::efi::{
    Attributes, BootEntries, BootEntry, LoadOption, Variable, VariableError, Variables, entry_name,
};

/// The entries as they are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) entries: BootEntries,
    /// Number of the installed system's entry.
    pub(super) ours: u16,
}

/// Works out which entries are wanted; `None` if no number is free.
///
/// `partitions` are the GUIDs of every partition of this machine, or `None` if a disk could not be
/// read; then no entry is taken for stale.
pub(super) fn wanted(
    before: &BootEntries,
    option: &LoadOption,
    policy: BootPolicy,
    partitions: Option<&HashSet<Uuid>>,
) -> Option<Wanted> {
    let mut entries = before.clone();
    let mut same: Vec<u16> = numbers_where(before, |other| is_same(other, option));
    // The one that the firmware tries first is kept; the others are leftovers of earlier runs.
    same.sort_by_key(|number| {
        (before.order.iter().position(|n| n == number).unwrap_or(usize::MAX), *number)
    });
    let leftovers = same.iter().skip(1).copied();
    let stale = numbers_where(before, |other| {
        partitions.is_some_and(|partitions| is_stale(other, partitions))
    });
    for number in leftovers.chain(stale).filter(|number| Some(number) != same.first()) {
        entries.entries.remove(&number);
        entries.order.retain(|n| *n != number);
        entries.next = entries.next.filter(|next| *next != number);
    }
    let ours = match same.first() {
        Some(number) => *number,
        None => entries.free_number()?,
    };

    let entry = entries.entries.entry(ours);
    let entry = entry.or_insert(BootEntry { variable: entry_name(ours), option: None });
    entry.option = Some(match &entry.option {
        Some(existing) => existing.aligned_with(option),
        None => option.clone(),
    });

    match policy {
        BootPolicy::InstalledFirst => {
            entries.order.retain(|n| *n != ours);
            entries.order.insert(0, ours);
            entries.next = entries.next.filter(|next| *next == ours);
        }
        BootPolicy::NetworkFirst => {
            entries.order.retain(|n| *n != ours);
            let is_network = |number: &u16| {
                let entry = entries.entries.get(number);
                entry.and_then(|e| e.option.as_ref()).is_some_and(|o| o.path.is_network())
            };
            let (mut order, rest): (Vec<u16>, Vec<u16>) =
                entries.order.iter().copied().partition(is_network);
            order.push(ours);
            order.extend(rest);
            entries.order = order;
        }
        BootPolicy::Once | BootPolicy::Untouched => {
            // Some firmware drops an entry that the order does not list.
            if !entries.order.contains(&ours) {
                entries.order.push(ours);
            }
            if policy == BootPolicy::Once {
                entries.next = Some(ours);
            }
        }
    }
    Some(Wanted { entries, ours })
}

/// Whether both start the same loader with the same arguments from the same partition.
///
/// Arguments count: firmware updaters are entries for the same shim with another program to start.
fn is_same(a: &LoadOption, b: &LoadOption) -> bool {
    let place = |option: &LoadOption| {
        let file = option.path.file()?.replace('/', "\\").to_lowercase();
        Some((option.path.partition()?.guid, file))
    };
    let place_of_a = place(a);
    place_of_a.is_some() && place_of_a == place(b) && a.optional_data == b.optional_data
}

/// Whether the entry's partition is gone for good: on a fixed GPT disk and on none of this machine.
fn is_stale(option: &LoadOption, partitions: &HashSet<Uuid>) -> bool {
    let partition = option.path.partition();
    !option.path.is_detachable() && partition.is_some_and(|p| !partitions.contains(&p.guid))
}

fn numbers_where(entries: &BootEntries, test: impl Fn(&LoadOption) -> bool) -> Vec<u16> {
    let matching = entries.entries.iter().filter(|(_, e)| e.option.as_ref().is_some_and(&test));
    matching.map(|(number, _)| *number).collect()
}

/// Writes what differs between `before` and `after`, and says what it did.
///
/// Removals come first, since they make room; the order comes after the entries it names.
pub(super) fn apply(
    variables: &mut dyn Variables,
    before: &BootEntries,
    after: &BootEntries,
) -> Result<Vec<String>, VariableError> {
    let mut done = Vec::new();
    let label =
        |entry: &BootEntry| entry.option.as_ref().map(LoadOption::label).unwrap_or_default();
    for (number, entry) in &before.entries {
        if !after.entries.contains_key(number) {
            variables.delete(&entry.variable)?;
            done.push(format!("removed {} {:?}", entry.variable, label(entry)));
        }
    }
    for (number, entry) in &after.entries {
        if before.entries.get(number) != Some(entry)
            && let Some(option) = &entry.option
        {
            write(variables, &entry.variable, option.to_bytes())?;
            done.push(format!("wrote {} {:?}", entry.variable, label(entry)));
        }
    }
    if before.order != after.order {
        let order = after.order.iter().flat_map(|n| n.to_le_bytes()).collect();
        write(variables, "BootOrder", order)?;
        let names: Vec<String> = after.order.iter().map(|n| format!("{n:04X}")).collect();
        done.push(format!("wrote BootOrder {}", names.join(",")));
    }
    match after.next {
        next if next == before.next => {}
        Some(next) => {
            write(variables, "BootNext", next.to_le_bytes().to_vec())?;
            done.push(format!("wrote BootNext {next:04X}"));
        }
        None => {
            variables.delete("BootNext")?;
            done.push("removed BootNext".to_owned());
        }
    }
    Ok(done)
}

fn write(variables: &mut dyn Variables, name: &str, data: Vec<u8>) -> Result<(), VariableError> {
    variables.write(name, &Variable { attributes: Attributes::BOOT_VARIABLE, data })
}

/// What in `found` is not as in `wanted`, in one sentence; `None` if all is as wanted.
pub(super) fn difference(wanted: &Wanted, found: &BootEntries) -> Option<String> {
    let ours = entry_name(wanted.ours);
    if found.entries.get(&wanted.ours) != wanted.entries.entries.get(&wanted.ours) {
        return Some(format!("the firmware did not keep {ours} as it was written"));
    }
    if found.order != wanted.entries.order {
        return Some(format!(
            "the firmware did not keep BootOrder: wrote {:04X?}, found {:04X?}",
            wanted.entries.order, found.order
        ));
    }
    if found.next != wanted.entries.next {
        return Some("the firmware did not keep BootNext as it was written".to_owned());
    }
    let gone = |number: &&u16| !wanted.entries.entries.contains_key(number);
    let kept = found.entries.keys().find(gone)?;
    Some(format!("the firmware did not remove {}", entry_name(*kept)))
}

#[cfg(test)]
mod tests;
