//! Writes a tree as text that every kernel reads back as that tree.

use std::fmt::Write;

use thiserror::Error;

use super::error::ParseErrorKind;
use super::parser;
use super::tree::{Tree, Value};

/// Why a tree cannot be written.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum RenderError {
    /// There are no escapes, so no quotes can hold it.
    #[error("writing boot configuration: the value {value:?} of {key} holds both ' and \"")]
    BothQuotes {
        /// The dotted key.
        key: String,
        /// The value.
        value: String,
    },
    /// A value of more than one line, or of something else than printable ASCII.
    #[error(
        "writing boot configuration: the value {value:?} of {key} holds {found:?}; a value is one \
         line of printable ASCII"
    )]
    Character {
        /// The dotted key.
        key: String,
        /// The value.
        value: String,
        /// The first such character.
        found: char,
    },
    /// The kernel would refuse it: it is empty, or one of the [limits](super::limits) is passed.
    #[error("writing boot configuration: {0}")]
    Refused(ParseErrorKind),
}

/// Writes a line for each key that the kernel takes for a parameter; every value is in quotes.
pub fn render(tree: &Tree) -> Result<String, RenderError> {
    let mut text = String::new();
    for (words, key) in tree.leaves() {
        let name = words.join(".");
        text.push_str(&name);
        for (index, value) in key.values().iter().enumerate() {
            let before = if index == 0 { " =" } else { "," };
            let quote = quote_for(value, &name)?;
            // Writing into a string cannot fail.
            let _ = write!(text, "{before} {quote}{value}{quote}");
        }
        text.push('\n');
    }
    // What is written has to be read again by a kernel: so it is, here.
    parser::parse(&text).map_err(|error| RenderError::Refused(error.kind))?;
    Ok(text)
}

fn quote_for(value: &Value, name: &str) -> Result<char, RenderError> {
    let (key, text) = (name.to_owned(), value.text().to_owned());
    // A tab is all right for a kernel, whose other white space is a matter of its version.
    if let Some(found) = text.chars().find(|&c| !matches!(c, '\t' | ' '..='~')) {
        return Err(RenderError::Character { key, value: text, found });
    }
    match (text.contains('"'), text.contains('\'')) {
        (true, true) => Err(RenderError::BothQuotes { key, value: text }),
        (true, false) => Ok('\''),
        (false, _) => Ok('"'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootconfig::{EMPTY, parse};

    fn tree(key: &str, values: &[&str]) -> Tree {
        let mut tree = Tree::new();
        tree.set(key, values.iter().copied()).unwrap();
        tree
    }

    #[test]
    fn values_are_quoted_and_never_escaped() {
        let tree = tree("kernel.a", &["x,y;z#}", "say \"hi\"", "it's", "", "back\\slash", "{=+:"]);
        let text = render(&tree).unwrap();
        assert_eq!(
            text,
            "kernel.a = \"x,y;z#}\", 'say \"hi\"', \"it's\", \"\", \"back\\slash\", \"{=+:\"\n"
        );
        assert_eq!(parse(&text).unwrap().tree, tree);
    }

    #[test]
    fn what_no_quotes_can_hold_is_refused() {
        let (key, value) = ("kernel.a".to_owned(), "'\"".to_owned());
        assert_eq!(render(&tree(&key, &[&value])), Err(RenderError::BothQuotes { key, value }));
        for (value, found) in [("a\nb", '\n'), ("é", 'é'), ("\0", '\0'), ("\x7f", '\x7f')] {
            let (key, value) = ("kernel.a".to_owned(), value.to_owned());
            let error = render(&tree(&key, &[&value])).unwrap_err();
            assert_eq!(error, RenderError::Character { key, value, found });
        }
    }

    #[test]
    fn what_no_kernel_takes_is_refused() {
        assert_eq!(render(&Tree::new()), Err(RenderError::Refused(ParseErrorKind::Empty)));
        let long = "k".repeat(256);
        let refused = render(&tree(&long, &[]));
        let length = 256;
        assert_eq!(refused, Err(RenderError::Refused(ParseErrorKind::KeyTooLong { length })));
        let big = render(&tree("a", &[&"x".repeat(32_764)]));
        assert!(matches!(big, Err(RenderError::Refused(ParseErrorKind::TooLong { .. }))));
    }

    #[test]
    fn a_tree_without_values_is_two_bare_keys() {
        let shipped = parse(EMPTY).unwrap().tree;
        assert_eq!(render(&shipped).unwrap(), "kernel\ninit\n");
    }
}
