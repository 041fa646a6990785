//! Which processes others have started.

use std::collections::BTreeSet;
use std::fs;

use super::measure::field;

/// These processes and all below them that are there now.
pub(super) fn with_descendants(ids: &[u32]) -> Vec<u32> {
    let listed = |id: u32| fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    // Of a kernel without PROC_CHILDREN no process has it, this one neither.
    if listed(std::process::id()).is_err() {
        return by_parents(ids);
    }
    let mut found = Vec::new();
    let mut next = ids.to_owned();
    while let Some(id) = next.pop() {
        found.push(id);
        // It may have ended.
        let children = listed(id).unwrap_or_default();
        next.extend(children.split(' ').flat_map(str::parse::<u32>));
    }
    found
}

/// The same without the kernel's lists. Looks at what was started since the first of these
/// processes only: in a machine that does nothing else, that is them and all below them.
fn by_parents(ids: &[u32]) -> Vec<u32> {
    let mut found: BTreeSet<u32> = ids.iter().copied().collect();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let last = load.split_whitespace().last().and_then(|id| id.parse().ok()).unwrap_or(0);
    for id in ids.iter().copied().min().unwrap_or(1)..=last {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let is = |name: &str| field(&status, name).and_then(|id| u32::try_from(id).ok());
        // Threads have such files too.
        if is("Tgid") == Some(id) && is("PPid").is_some_and(|parent| found.contains(&parent)) {
            found.insert(id);
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn children_of_children_are_found_both_ways() {
        let script = "sleep 1000 & echo $!; wait";
        let mut outer =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(outer.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let inner: u32 = line.trim().parse().unwrap();
        let found = with_descendants(&[outer.id()]);
        // Process ids may have started anew in between.
        let by_parents = (outer.id() < inner).then(|| by_parents(&[outer.id()]));
        let _ = Command::new("kill").arg(inner.to_string()).status();
        outer.wait().unwrap();
        assert_eq!(found, [outer.id(), inner]);
        assert!(by_parents.is_none_or(|found| found == [outer.id(), inner]));
    }
}
