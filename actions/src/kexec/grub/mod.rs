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

use nibs_job::Size;

use self::run::{Interpreter, Item, MOST_EXPANDED, with_quotes};
use self::script::Statement;
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
    /// Its variables grow without end.
    #[error("its variables stand for more than {} in all; name the kernel", Size(*most as u64))]
    TooLong {
        /// How many bytes are allowed.
        most: usize,
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
    let entry = chosen(&statements, &mut interpreter, specification);
    if interpreter.is_too_long() {
        return Err(GrubError::TooLong { most: MOST_EXPANDED });
    }
    entry
}

fn chosen(
    statements: &[Statement],
    interpreter: &mut Interpreter,
    specification: &dyn Fn() -> Vec<(String, Entry)>,
) -> Result<Entry, GrubError> {
    let mut items = interpreter.run(statements);
    if items.iter().any(|item| matches!(item, Item::Specification)) {
        items = with_entries(items, interpreter, specification());
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
    interpreter: &mut Interpreter,
    found: Vec<(String, Entry)>,
) -> Vec<Item> {
    let mut found = Some(found);
    let mut expand = |(id, entry): (String, Entry)| {
        let arguments = interpreter.expanded(&entry.command_line);
        let arguments: Vec<_> = arguments.iter().map(|argument| with_quotes(argument)).collect();
        let command_line = arguments.join(" ");
        let initrds = entry.initrds.iter();
        let initrds = initrds.flat_map(|path| interpreter.expanded(&path.to_string_lossy()));
        let initrds = initrds.map(Into::into);
        let entry = Entry { command_line, initrds: initrds.collect(), ..entry };
        Item::Known { id, entry }
    };
    items
        .into_iter()
        .flat_map(|item| match item {
            Item::Specification => {
                found.take().unwrap_or_default().into_iter().map(&mut expand).collect()
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
    // Many entries have no id, and an empty default means none of them.
    let named = |item: &Item| !wanted.is_empty() && (item.id() == wanted || item.title() == wanted);
    let by_number = || wanted.parse().ok().filter(|number: &usize| *number < items.len());
    by_number().or_else(|| items.iter().position(named)).or((!items.is_empty()).then_some(0))
}

/// The variables of a `grubenv` (GRUB manual, 16.2: lines of `name=value`, then `#` up to its end).
pub(super) fn environment(text: &str) -> Variables {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
