//! Why a text is refused, in words that say what is allowed there.

use thiserror::Error;

use super::limits::{MAX_BRACES, MAX_DEPTH, MAX_KEY_LENGTH, MAX_NODES, MAX_SIZE};
use crate::diagnostic::{Diagnostic, Place};

/// Why a text is no boot configuration.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("reading boot configuration, line {}, column {}: {kind}", .place.line, .place.column)]
pub struct ParseError {
    /// Where it is.
    pub place: Place,
    /// The dotted key that it is about; empty if it is about none.
    pub key: String,
    /// What is wrong.
    pub kind: ParseErrorKind,
}

/// What is wrong at a place of a text.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// It is not text.
    #[error("this byte is not UTF-8; write the file in ASCII")]
    NotUtf8,
    /// The kernel ends the text there.
    #[error("a NUL byte ends the text for the kernel; remove it")]
    Nul,
    /// The kernel would ignore the packed file.
    #[error("the text has {length} bytes, a kernel takes at most {}; shorten it", MAX_SIZE - 1)]
    TooLong {
        /// Length of the text in bytes.
        length: usize,
    },
    /// It has no key at all.
    #[error("there is no key; the kernel refuses an empty configuration, write 'kernel {{}}'")]
    Empty,
    /// The last line is a key that nothing ends.
    #[error("nothing ends this key; end it with a newline, ';' or a value")]
    NoDelimiter,
    /// No word where one has to be.
    #[error("expected a key: words of letters, digits, '-' and '_', joined by single dots")]
    EmptyWord,
    /// A character that no key has.
    #[error(
        "{found:?} cannot be in a key, which is words of letters, digits, '-' and '_' joined by \
         dots; is the line before unfinished, or a quote, ',', '=' or ';' missing?"
    )]
    Character {
        /// The character.
        found: char,
    },
    /// `+` or `:` without `=`.
    #[error("'{found}' has to be followed by '=': '=' sets, '+=' appends, ':=' replaces")]
    Operator {
        /// Which of the two.
        found: char,
    },
    /// A value holds a character that is not printable ASCII.
    #[error("{found:?} cannot be in a value, which is printable ASCII and white space")]
    NotPrintable {
        /// The character.
        found: char,
    },
    /// A value's quote is opened and not closed.
    #[error("this {quote} is never closed; there are no escapes, it ends at the next {quote}")]
    Unterminated {
        /// The quote.
        quote: char,
    },
    /// Something stands between a closing quote and the end of the value.
    #[error(
        "{found:?} follows a closed quote, where only ',', ';', '#', '}}' or a newline can; \
         separate values with ',' (quotes cannot be escaped: use the other kind)"
    )]
    AfterQuote {
        /// The character.
        found: char,
    },
    /// A key is set twice with `=`.
    #[error("the key has a value already; '+=' appends to it, ':=' replaces it")]
    Redefined,
    /// An array without quotes that begins on a later line than its key.
    #[error(
        "an array's first value has to be on the line of its key: Linux 7.0 and later take the key \
         as empty and refuse this line"
    )]
    ArrayOnLaterLine,
    /// More than a kernel has room for.
    #[error("there are more than {MAX_NODES} key words and values, the most a kernel takes")]
    TooManyNodes,
    /// A key of too many words.
    #[error("the key has more than {MAX_DEPTH} words, the most a kernel takes")]
    TooDeep,
    /// A key of too many bytes.
    #[error("the key has {length} bytes, a kernel takes at most {MAX_KEY_LENGTH}")]
    KeyTooLong {
        /// Its length in bytes up to this word.
        length: usize,
    },
    /// Too many braces are open.
    #[error("there are {MAX_BRACES} braces open before this one, the most a kernel takes")]
    TooManyBraces,
    /// A brace is closed that was not opened.
    #[error("no brace is open that this one could close; remove it")]
    UnexpectedBrace,
    /// A brace is opened and not closed.
    #[error("this brace is never closed; add a '}}'")]
    OpenBrace,
}

impl From<ParseError> for Diagnostic {
    fn from(error: ParseError) -> Self {
        Self::error(Some(error.place), error.key, error.kind.to_string())
    }
}
