//! What a text says without meaning it, most likely, or says to one kernel and not to another.

use super::parser::Found;
use super::tree::Quotes;
use crate::diagnostic::Diagnostic;

/// Warnings about the values that a text gives to a key at once.
pub(super) fn warnings(text: &str, key: &str, list: &[Found]) -> Vec<Diagnostic> {
    let first = list.first().and_then(|first| Some((first, on_later_line(key, first)?)));
    let others = list.windows(2).filter_map(|pair| match pair {
        [before, found] => Some((found, after_comma(text, key, before, found)?)),
        _ => None,
    });
    let warning =
        |(found, message): (&Found, String)| Diagnostic::warning(found.value.place, key, message);
    first.into_iter().chain(others).map(warning).collect()
}

/// A first value that is not on the line of its key.
fn on_later_line(key: &str, first: &Found) -> Option<String> {
    if !first.later_line {
        return None;
    }
    match (plain(first), first.value.text.is_empty()) {
        // It ends the statement on whichever line: an empty value for all kernels.
        (true, true) => None,
        (true, false) => Some(format!(
            "this is taken as the value, since nothing follows '=' on its line (Linux 7.0 and \
             later take the key as empty and this line for itself); write {key} = \"\", or a bare \
             key, or put the value on the key's line"
        )),
        (false, _) => Some(
            "Linux 7.0 and later refuse a value on another line than its key; put it there"
                .to_owned(),
        ),
    }
}

/// A value after another one and a comma.
fn after_comma(text: &str, key: &str, before: &Found, found: &Found) -> Option<String> {
    let (left, right) = (&before.value.text, &found.value.text);
    if !plain(found) {
        None
    } else if right.is_empty() {
        Some(format!("the comma before adds an empty value, {key}=; remove it"))
    } else if found.later_line && right.contains('=') {
        Some(format!(
            "{right:?} is taken as one more value of the list, since the line before ends with a \
             comma; remove that, or put this into quotes if it is a value"
        ))
    } else if plain(before) && !left.is_empty() && text[..found.start].ends_with(',') {
        Some(format!(
            "the comma separates two values, {key}={left} and {key}={right}; write \
             \"{left},{right}\" in quotes if it is one"
        ))
    } else {
        None
    }
}

fn plain(found: &Found) -> bool {
    found.value.quotes == Quotes::None
}
