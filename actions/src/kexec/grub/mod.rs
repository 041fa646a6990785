//! Which kernel GRUB would start by itself, as its `grub.cfg` says.
//!
//! A `grub.cfg` is a script. It is run here as far as it decides about that: variables,
//! conditions, entries and the commands in the one that is chosen. All others do nothing.
//!
//! ```text
//! text ─ script ─> statements ─ run ─> entries, `default` ─ choose ─> one entry ─ run ─> kernel …
//! ```

mod run;
mod script;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use self::run::{Interpreter, Item};
use super::Entry;

/// Variables, by name.
pub(super) type Variables = HashMap<String, String>;

/// A configuration does not tell which kernel to start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrubError {
    /// It cannot be read as a script.
    #[error("line {line}: {what}")]
    Syntax {
        /// Where.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// There is nothing to choose from.
    #[error("expected entries (menuentry, or blscfg with files in /loader/entries), found none")]
    NoEntries,
    /// What would be started is no kernel of Linux.
    #[error(
        "the default entry {title:?} starts no Linux kernel; those that do: {}; name the kernel",
        if others.is_empty() { "none" } else { others }
    )]
    NoKernel {
        /// The entry.
        title: String,
        /// Entries that start one.
        others: String,
    },
}

/// The entry that GRUB would start by itself. `environment` is its `grubenv`, `specification` gives
/// what `blscfg` shows.
pub(super) fn default_entry(
    text: &str,
    environment: &Variables,
    specification: &dyn Fn() -> Vec<(String, Entry)>,
) -> Result<Entry, GrubError> {
    let statements = script::parse(text)?;
    let mut interpreter = Interpreter::new(environment);
    let mut items = interpreter.run(&statements);
    if items.iter().any(|item| matches!(item, Item::Specification)) {
        items = with_entries(items, &interpreter, specification());
    }
    let wanted = interpreter.variable("default").to_owned();
    let mut parts = path(&wanted).into_iter();
    loop {
        let part = parts.next().unwrap_or_default();
        let Some(index) = choose(&items, &part) else { return Err(GrubError::NoEntries) };
        match items.remove(index) {
            Item::Entry { title, body, .. } => {
                let entry = interpreter.boot(&title, &body);
                return entry.ok_or_else(|| {
                    let others = interpreter.bootable(&items).join(", ");
                    GrubError::NoKernel { title, others }
                });
            }
            Item::Submenu { body, .. } => items = interpreter.run(&body),
            Item::Known { entry, .. } => return Ok(entry),
            // Replaced by its entries above.
            Item::Specification => return Err(GrubError::NoEntries),
        }
    }
}

/// The entries of the specification, where `blscfg` stands.
fn with_entries(
    items: Vec<Item>,
    interpreter: &Interpreter,
    found: Vec<(String, Entry)>,
) -> Vec<Item> {
    let mut found = Some(found);
    let expand = |(id, entry): (String, Entry)| {
        let command_line = interpreter.expanded(&entry.command_line);
        let initrds = entry.initrds.iter();
        let initrds = initrds.map(|path| interpreter.expanded(&path.to_string_lossy()).into());
        let initrds = initrds.filter(|path: &std::path::PathBuf| !path.as_os_str().is_empty());
        let entry = Entry { command_line, initrds: initrds.collect(), ..entry };
        Item::Known { id, entry }
    };
    items
        .into_iter()
        .flat_map(|item| match item {
            Item::Specification => {
                found.take().unwrap_or_default().into_iter().map(expand).collect()
            }
            item => vec![item],
        })
        .collect()
}

/// The parts of a `default`: one for each menu down to the entry. `>>` is a `>` in a title.
fn path(wanted: &str) -> Vec<String> {
    const ESCAPED: char = '\u{1}';
    let wanted = wanted.replace(">>", &ESCAPED.to_string());
    wanted.split('>').map(|part| part.replace(ESCAPED, ">")).collect()
}

/// Which of a menu's items is meant: by number, id or title; the first if there is no such, as GRUB
/// does it.
fn choose(items: &[Item], wanted: &str) -> Option<usize> {
    let named = |item: &Item| item.id() == wanted || item.title() == wanted;
    let by_number = || wanted.parse().ok().filter(|number: &usize| *number < items.len());
    by_number().or_else(|| items.iter().position(named)).or((!items.is_empty()).then_some(0))
}

/// The variables of a `grubenv` (GRUB manual, 16.2: lines of `name=value`, then `#` up to its end).
pub(super) fn environment(text: &str) -> Variables {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
