//! Reads the text of a boot configuration as the kernel does (`lib/bootconfig.c`, Linux 6.12), and
//! says where and why it would not.
//!
//! It refuses a little more than that kernel:
//!
//! - an array without quotes that begins on a line after its `=`: Linux 7.0 and later refuse it;
//! - keys too deep or too long under a key that has a value too, which 6.12 forgets to look at
//!   and then cannot print;
//! - a NUL, at which a kernel ends the text, and text that is not UTF-8;
//! - a text so long that [`super::pack`] would not take it.

use super::error::{ParseError, ParseErrorKind};
use super::limits::{MAX_BRACES, MAX_DEPTH, MAX_KEY_LENGTH, MAX_NODES, MAX_SIZE};
use super::traps;
use super::tree::{self, Quotes, Tree, Value};
use crate::diagnostic::{Diagnostic, Place};

const KEY_ENDS: [char; 8] = ['{', '}', '=', '+', ';', ':', '\n', '#'];
const VALUE_ENDS: [char; 5] = [',', ';', '\n', '#', '}'];

/// A text that was understood.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// What it says.
    pub tree: Tree,
    /// How many nodes a kernel uses up for it: key words and values, replaced ones too.
    pub nodes: usize,
    /// What it may not have meant to say, or does not say to every kernel.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a text.
pub fn parse(text: &str) -> Result<Parsed, ParseError> {
    let refuse =
        |offset, kind| ParseError { place: Place::of(text, offset), key: String::new(), kind };
    if let Some(offset) = text.find('\0') {
        return Err(refuse(offset, ParseErrorKind::Nul));
    }
    if text.len() >= MAX_SIZE {
        let first = text.floor_char_boundary(MAX_SIZE - 1);
        return Err(refuse(first, ParseErrorKind::TooLong { length: text.len() }));
    }
    let mut parser = Parser::new(text);
    parser.statements()?;
    let Parser { tree, nodes, warnings, .. } = parser;
    Ok(Parsed { tree, nodes, warnings })
}

/// Reads the bytes of a text file.
pub fn parse_bytes(bytes: &[u8]) -> Result<Parsed, ParseError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text),
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let place = Place::of(&good, good.len());
            Err(ParseError { place, key: String::new(), kind: ParseErrorKind::NotUtf8 })
        }
    }
}

/// How a value ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Another value follows.
    Comma,
    /// The brace at this offset closes what the key is in.
    Brace(usize),
    /// The statement is over.
    Statement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Set,
    Append,
    Replace,
}

/// Offsets of a piece of the text.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

/// A value where it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) value: Value,
    /// Where it begins, its quote included.
    pub(super) start: usize,
    /// Whether a newline came before it, after the `=` or the comma.
    pub(super) later_line: bool,
    end: End,
}

#[derive(Debug)]
struct Brace {
    offset: usize,
    /// The scope that was there before it.
    before: Vec<usize>,
}

struct Parser<'a> {
    text: &'a str,
    /// Offset of what is read next.
    at: usize,
    tree: Tree,
    /// Nodes that a kernel has used up so far.
    nodes: usize,
    /// The key that the innermost open brace belongs to, as a path of indices.
    scope: Vec<usize>,
    braces: Vec<Brace>,
    warnings: Vec<Diagnostic>,
    /// The last offset whose place was asked for, and that: counting goes on from there.
    counted: (usize, Place),
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            tree: Tree::new(),
            nodes: 0,
            scope: Vec::new(),
            braces: Vec::new(),
            warnings: Vec::new(),
            counted: (0, Place { line: 1, column: 1 }),
        }
    }

    fn statements(&mut self) -> Result<(), ParseError> {
        while let Some(length) = self.rest().find(KEY_ENDS) {
            let key = self.trimmed(self.at, self.at + length);
            let offset = self.at + length;
            self.at = offset + 1;
            match self.text.as_bytes()[offset] {
                b'=' => self.assignment(key, Operator::Set)?,
                sign @ (b'+' | b':') => {
                    if !self.eat('=') {
                        let found = char::from(sign);
                        return Err(self.error(offset, key, ParseErrorKind::Operator { found }));
                    }
                    let append = sign == b'+';
                    let operator = if append { Operator::Append } else { Operator::Replace };
                    self.assignment(key, operator)?;
                }
                b'{' => self.open(key, offset)?,
                b'}' => {
                    self.bare(key)?;
                    self.close(offset)?;
                }
                b'#' => {
                    self.skip_comment();
                    self.bare(key)?;
                }
                _ => self.bare(key)?,
            }
        }
        let rest = self.trimmed(self.at, self.text.len());
        if rest.start < rest.end {
            return Err(self.error(rest.start, rest, ParseErrorKind::NoDelimiter));
        }
        if let Some(brace) = self.braces.last() {
            let key = self.name(&self.scope);
            let place = Place::of(self.text, brace.offset);
            return Err(ParseError { place, key, kind: ParseErrorKind::OpenBrace });
        }
        if self.tree.keys.is_empty() {
            let nothing = Span { start: 0, end: 0 };
            return Err(self.error(0, nothing, ParseErrorKind::Empty));
        }
        Ok(())
    }

    /// A key without a value, or nothing between two ends.
    fn bare(&mut self, key: Span) -> Result<(), ParseError> {
        if key.start < key.end {
            self.enter(key)?;
        }
        Ok(())
    }

    fn open(&mut self, key: Span, offset: usize) -> Result<(), ParseError> {
        if self.braces.len() == MAX_BRACES {
            return Err(self.error(offset, key, ParseErrorKind::TooManyBraces));
        }
        let path = self.enter(key)?;
        let before = std::mem::replace(&mut self.scope, path);
        self.braces.push(Brace { offset, before });
        Ok(())
    }

    fn close(&mut self, offset: usize) -> Result<(), ParseError> {
        let Some(brace) = self.braces.pop() else {
            let nothing = Span { start: offset, end: offset };
            return Err(self.error(offset, nothing, ParseErrorKind::UnexpectedBrace));
        };
        self.scope = brace.before;
        Ok(())
    }

    fn assignment(&mut self, span: Span, operator: Operator) -> Result<(), ParseError> {
        let path = self.enter(span)?;
        let had = self.tree.at(&path).map_or(0, |key| key.values.len());
        if had > 0 && operator == Operator::Set {
            return Err(self.error(span.start, span, ParseErrorKind::Redefined));
        }
        // The kernel writes the first new value over the first old one and forgets the others.
        let mut reused = usize::from(had > 0 && operator == Operator::Replace);
        let mut list: Vec<Found> = Vec::new();
        let end = loop {
            let found = self.value(span)?;
            match reused {
                0 => self.count(found.start, span)?,
                _ => reused -= 1,
            }
            let end = found.end;
            list.push(found);
            if end != End::Comma {
                break end;
            }
        };
        if let [first, _, ..] = &list[..]
            && first.later_line
            && first.value.quotes == Quotes::None
        {
            return Err(self.error(first.start, span, ParseErrorKind::ArrayOnLaterLine));
        }
        self.warnings.extend(traps::warnings(self.text, &self.name(&path), &list));
        let values = list.into_iter().map(|found| found.value);
        if let Some(key) = self.tree.at(&path) {
            if operator == Operator::Replace {
                key.values.clear();
            }
            key.values.extend(values);
        }
        match end {
            End::Brace(offset) => self.close(offset),
            End::Comma | End::Statement => Ok(()),
        }
    }

    fn value(&mut self, key: Span) -> Result<Found, ParseError> {
        let before = self.at;
        self.skip_spaces_and_comments();
        let start = self.at;
        let later_line = self.text[before..start].contains('\n');
        let quotes = match self.rest().as_bytes().first() {
            Some(b'\'') => Quotes::Single,
            Some(b'"') => Quotes::Double,
            _ => Quotes::None,
        };
        let content = match quotes {
            Quotes::None => self.plain(),
            Quotes::Single => self.quoted('\'', key)?,
            Quotes::Double => self.quoted('"', key)?,
        };
        let text = &self.text[content.start..content.end];
        let strange = |c: char| !(is_space(c) || c.is_ascii_graphic());
        if let Some((offset, found)) = text.char_indices().find(|&(_, c)| strange(c)) {
            let kind = ParseErrorKind::NotPrintable { found };
            return Err(self.error(content.start + offset, key, kind));
        }
        let end = self.value_end(quotes, key)?;
        let place = Some(self.place(start));
        let value = Value { text: text.to_owned(), quotes, place };
        Ok(Found { value, start, later_line, end })
    }

    /// A value without quotes, up to what ends it.
    fn plain(&mut self) -> Span {
        let start = self.at;
        match self.rest().find(VALUE_ENDS) {
            Some(length) => {
                self.at += length;
                self.trimmed(start, self.at)
            }
            // The kernel does not trim what the text's end cuts off.
            None => {
                self.at = self.text.len();
                Span { start, end: self.at }
            }
        }
    }

    /// What is between two quotes; the closing one is read too.
    fn quoted(&mut self, quote: char, key: Span) -> Result<Span, ParseError> {
        let start = self.at + 1;
        let Some(length) = self.text[start..].find(quote) else {
            return Err(self.error(self.at, key, ParseErrorKind::Unterminated { quote }));
        };
        self.at = start + length + 1;
        Ok(Span { start, end: start + length })
    }

    fn value_end(&mut self, quotes: Quotes, key: Span) -> Result<End, ParseError> {
        if quotes != Quotes::None {
            let spaces = self.rest().find(|c| !is_space(c) || c == '\n');
            self.at = spaces.map_or(self.text.len(), |length| self.at + length);
        }
        let offset = self.at;
        let Some(found) = self.rest().chars().next() else { return Ok(End::Statement) };
        self.at += found.len_utf8();
        match found {
            ',' => Ok(End::Comma),
            '}' => Ok(End::Brace(offset)),
            ';' | '\n' => Ok(End::Statement),
            '#' => {
                self.skip_comment();
                Ok(End::Statement)
            }
            _ => Err(self.error(offset, key, ParseErrorKind::AfterQuote { found })),
        }
    }

    /// The path of a key, made if it is new.
    fn enter(&mut self, span: Span) -> Result<Vec<usize>, ParseError> {
        let mut path = self.scope.clone();
        let mut length = self.name(&path).len();
        let mut offset = span.start;
        for word in self.text[span.start..span.end].split('.') {
            tree::check_word(word).map_err(|found| match found {
                None => self.error(offset, span, ParseErrorKind::EmptyWord),
                Some(found) => {
                    let character = offset + word.find(found).unwrap_or_default();
                    self.error(character, span, ParseErrorKind::Character { found })
                }
            })?;
            length += word.len() + usize::from(!path.is_empty());
            if length > MAX_KEY_LENGTH {
                return Err(self.error(offset, span, ParseErrorKind::KeyTooLong { length }));
            }
            if path.len() == MAX_DEPTH {
                return Err(self.error(offset, span, ParseErrorKind::TooDeep));
            }
            let place = Some(self.place(offset));
            let (index, new) = tree::enter(self.tree.subkeys(&path), word, place);
            if new {
                self.count(offset, span)?;
            }
            path.push(index);
            offset += word.len() + 1;
        }
        Ok(path)
    }

    /// Counts a node of the kernel's.
    fn count(&mut self, offset: usize, key: Span) -> Result<(), ParseError> {
        if self.nodes == MAX_NODES {
            return Err(self.error(offset, key, ParseErrorKind::TooManyNodes));
        }
        self.nodes += 1;
        Ok(())
    }

    /// The place of an offset, not before the last one that was asked for.
    fn place(&mut self, offset: usize) -> Place {
        let (from, mut place) = self.counted;
        for c in self.text[from..offset].chars() {
            place = match c {
                '\n' => Place { line: place.line + 1, column: 1 },
                _ => Place { column: place.column + 1, ..place },
            };
        }
        self.counted = (offset, place);
        place
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn eat(&mut self, expected: char) -> bool {
        let found = self.rest().starts_with(expected);
        self.at += if found { expected.len_utf8() } else { 0 };
        found
    }

    fn skip_comment(&mut self) {
        let newline = self.rest().find('\n');
        self.at = newline.map_or(self.text.len(), |length| self.at + length + 1);
    }

    fn skip_spaces_and_comments(&mut self) {
        loop {
            let spaces = self.rest().find(|c| !is_space(c));
            self.at = spaces.map_or(self.text.len(), |length| self.at + length);
            if !self.rest().starts_with('#') {
                return;
            }
            self.skip_comment();
        }
    }

    fn trimmed(&self, start: usize, end: usize) -> Span {
        let text = self.text[start..end].trim_end_matches(is_space);
        let end = start + text.len();
        Span { start: end - text.trim_start_matches(is_space).len(), end }
    }

    /// The words of a path joined by dots.
    fn name(&self, path: &[usize]) -> String {
        let mut keys = self.tree.keys();
        let mut words = Vec::new();
        for &index in path {
            words.push(keys[index].word());
            keys = keys[index].subkeys();
        }
        words.join(".")
    }

    fn error(&self, offset: usize, key: Span, kind: ParseErrorKind) -> ParseError {
        let words = [self.name(&self.scope), self.text[key.start..key.end].to_owned()];
        let words: Vec<_> = words.into_iter().filter(|words| !words.is_empty()).collect();
        ParseError { place: Place::of(self.text, offset), key: words.join("."), kind }
    }
}

/// White space in the kernel's sense (`isspace`), of which ASCII alone is taken here.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<ParseErrorKind> {
        parse(text).err().map(|error| error.kind)
    }

    #[test]
    fn the_longest_text_is_the_longest_that_can_be_packed() {
        let text = |length: usize| format!("kernel\n{}", "#".repeat(length - 7));
        assert_eq!(kind(&text(MAX_SIZE - 1)), None);
        let length = MAX_SIZE + 1;
        assert_eq!(kind(&text(length)), Some(ParseErrorKind::TooLong { length }));
    }

    #[test]
    fn key_words_and_values_count_and_replaced_values_too() {
        let text = |values: usize| format!("a = {}\nb.c\na := 1, 2\n", vec!["1"; values].join(","));
        let parsed = parse(&text(MAX_NODES - 4)).unwrap();
        assert_eq!((parsed.nodes, parsed.tree.nodes()), (MAX_NODES, 5));
        assert_eq!(kind(&text(MAX_NODES - 3)), Some(ParseErrorKind::TooManyNodes));
    }

    #[test]
    fn the_longest_key_has_its_dots_counted() {
        let text = |length: usize| format!("a {{ b {{ {}; }} }}\n", "k".repeat(length - 4));
        assert_eq!(kind(&text(MAX_KEY_LENGTH)), None);
        let length = MAX_KEY_LENGTH + 1;
        assert_eq!(kind(&text(length)), Some(ParseErrorKind::KeyTooLong { length }));
    }

    #[test]
    fn values_know_where_and_in_what_they_were_written() {
        let tree = parse("# ключ\nkernel.a = x,\n  'y' # ключ\n\n b\n").unwrap().tree;
        let values = tree.get("kernel.a").unwrap().values();
        let place = |line, column| Some(Place { line, column });
        assert_eq!(tree.get("b").unwrap().place(), place(5, 2));
        let written = values.iter().map(|value| (value.text(), value.quotes(), value.place()));
        assert_eq!(
            written.collect::<Vec<_>>(),
            [("x", Quotes::None, place(2, 12)), ("y", Quotes::Single, place(3, 3))]
        );
    }
}
