//! Values of a TOML table, read one key at a time: each is placed, and what is wrong is told.

use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::findings::{Findings, choice, did_you_mean, quoted};

/// A table under its dotted key.
pub(super) struct Fields<'a> {
    pub(super) key: String,
    pub(super) offset: usize,
    table: &'a DeTable<'a>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(key: &str, offset: usize, table: &'a DeTable<'a>) -> Self {
        Self { key: key.to_owned(), offset, table }
    }

    /// The dotted key of one of the table's keys.
    pub(super) fn key_of(&self, name: &str) -> String {
        format!("{}.{}", self.key, quoted(name))
    }

    /// The value of a key, if the table has it.
    pub(super) fn get(&self, name: &str, findings: &mut Findings) -> Option<Value<'a>> {
        self.table.get(name).map(|value| Value::new(self.key_of(name), value, findings))
    }

    /// The value of a key that the table must have; says so if it has not.
    pub(super) fn require(
        &self,
        name: &str,
        expected: &str,
        findings: &mut Findings,
    ) -> Option<Value<'a>> {
        let value = self.get(name, findings);
        if value.is_none() {
            let message = format!("is missing; expected {expected}");
            findings.error_at(self.offset, &self.key_of(name), message);
        }
        value
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// Every key with the place of it, in the order of the file.
    pub(super) fn keys(&self) -> Vec<(&'a str, usize)> {
        let place = |key: &'a Spanned<_>| -> (&'a str, usize) {
            let name: &std::borrow::Cow<'a, str> = key.get_ref();
            (name, key.span().start)
        };
        let mut keys: Vec<_> = self.table.keys().map(place).collect();
        keys.sort_by_key(|&(_, offset)| offset);
        keys
    }

    /// Tells of each key that is none of the known ones. Returns whether there was one.
    pub(super) fn refuse_unknown(
        &self,
        what: &str,
        known: &[&str],
        findings: &mut Findings,
    ) -> bool {
        let unknown = self.keys().into_iter().filter(|(name, _)| !known.contains(name));
        let before = findings.len();
        for (name, offset) in unknown {
            let allowed = choice(known);
            let meant = did_you_mean(name, known);
            let message = format!("is no key of {what}; allowed is {allowed}{meant}");
            findings.error_at(offset, &self.key_of(name), message);
        }
        findings.len() > before
    }
}

/// A value under its dotted key.
pub(super) struct Value<'a> {
    pub(super) key: String,
    pub(super) offset: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    pub(super) fn new(
        key: String,
        value: &'a Spanned<DeValue<'a>>,
        findings: &mut Findings,
    ) -> Self {
        let offset = value.span().start;
        findings.place(&key, offset);
        Self { key, offset, value: value.get_ref() }
    }

    /// Tells that something else belongs here.
    pub(super) fn refuse(&self, expected: &str, findings: &mut Findings) {
        let found = match self.value {
            DeValue::String(string) => format!("{:?}", shortened(string)),
            DeValue::Integer(integer) => shortened(&integer.to_string()),
            DeValue::Float(float) => shortened(&float.to_string()),
            DeValue::Boolean(boolean) => boolean.to_string(),
            DeValue::Datetime(datetime) => datetime.to_string(),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        findings.error(&self.key, format!("expected {expected}, found {found}"));
    }

    fn expect<T>(&self, value: Option<T>, expected: &str, findings: &mut Findings) -> Option<T> {
        if value.is_none() {
            self.refuse(expected, findings);
        }
        value
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        self.value.as_bool()
    }

    pub(super) fn as_str(&self) -> Option<&'a str> {
        match self.value {
            DeValue::String(string) => Some(string),
            _ => None,
        }
    }

    pub(super) fn as_table(&self) -> Option<Fields<'a>> {
        self.value.as_table().map(|table| Fields::new(&self.key, self.offset, table))
    }

    pub(super) fn bool(&self, findings: &mut Findings) -> Option<bool> {
        self.expect(self.as_bool(), "true or false", findings)
    }

    pub(super) fn table(&self, expected: &str, findings: &mut Findings) -> Option<Fields<'a>> {
        self.expect(self.as_table(), expected, findings)
    }

    /// An integer in the type's range, of which `expected` tells.
    pub(super) fn integer<T: TryFrom<i64>>(
        &self,
        expected: &str,
        findings: &mut Findings,
    ) -> Option<T> {
        let integer = self.value.as_integer().and_then(|integer| {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok()?.try_into().ok()
        });
        self.expect(integer, expected, findings)
    }

    /// A string that is read further.
    pub(super) fn parse<T: FromStr>(&self, expected: &str, findings: &mut Findings) -> Option<T> {
        self.expect(self.as_str().and_then(|string| string.parse().ok()), expected, findings)
    }

    /// One of some words.
    pub(super) fn word<'w>(&self, words: &[&'w str], findings: &mut Findings) -> Option<&'w str> {
        let word = words.iter().copied().find(|&word| self.as_str() == Some(word));
        if word.is_none() {
            let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
            self.refuse(&quoted.join(" or "), findings);
        }
        word
    }

    /// The items of an array under their keys; none, and told, if it is no array.
    pub(super) fn items(&self, expected: &str, findings: &mut Findings) -> Option<Vec<Value<'a>>> {
        let array = self.expect(self.value.as_array(), expected, findings)?;
        let item = |(index, value)| Value::new(format!("{}[{index}]", self.key), value, findings);
        Some(array.iter().enumerate().map(item).collect())
    }
}

/// A value is quoted in a message only as far as it helps.
fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
