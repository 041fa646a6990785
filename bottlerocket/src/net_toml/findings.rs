//! The findings of one check while it runs: where each value of the file is, and what is wrong.

use std::collections::HashMap;

use super::MAX_FINDINGS;
use crate::diagnostic::{Diagnostic, Place, Severity};

/// How like a known word an unknown one must be to be called its misspelling (Jaro-Winkler).
const LIKENESS: f64 = 0.8;

/// What was found, and where the values are that may still be complained about.
#[derive(Default)]
pub(super) struct Findings {
    offsets: HashMap<String, usize>,
    found: Vec<Found>,
}

struct Found {
    severity: Severity,
    offset: Option<usize>,
    key: String,
    message: String,
}

impl Findings {
    /// Remembers where a dotted key's value is, in bytes from the start of the file.
    pub(super) fn place(&mut self, key: &str, offset: usize) {
        self.offsets.insert(key.to_owned(), offset);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    /// netdog refuses the file for this.
    pub(super) fn error(&mut self, key: &str, message: impl Into<String>) {
        self.push(Severity::Error, self.offset(key), key, message.into());
    }

    /// As [`Findings::error`], where there is no value: of a key, or of one that is missing.
    pub(super) fn error_at(&mut self, offset: usize, key: &str, message: impl Into<String>) {
        self.push(Severity::Error, Some(offset), key, message.into());
    }

    /// netdog takes this, but it cannot work.
    pub(super) fn warning(&mut self, key: &str, message: impl Into<String>) {
        self.push(Severity::Warning, self.offset(key), key, message.into());
    }

    fn push(&mut self, severity: Severity, offset: Option<usize>, key: &str, message: String) {
        self.found.push(Found { severity, offset, key: key.to_owned(), message });
    }

    fn offset(&self, key: &str) -> Option<usize> {
        self.offsets.get(key).copied()
    }

    /// The findings in the order of the file, at most [`MAX_FINDINGS`] and a word on the rest:
    /// finding a place costs a look through the file.
    pub(super) fn into_diagnostics(mut self, text: &str) -> Vec<Diagnostic> {
        let left_off = self.found.len().saturating_sub(MAX_FINDINGS);
        if left_off > 0 {
            self.found.sort_by_key(|found| (std::cmp::Reverse(found.severity), found.offset));
            self.found.truncate(MAX_FINDINGS);
        }
        self.found.sort_by_key(|found| found.offset);
        let last = (left_off > 0).then(|| Diagnostic {
            severity: self
                .found
                .iter()
                .map(|found| found.severity)
                .max()
                .unwrap_or(Severity::Error),
            place: None,
            key: String::new(),
            message: format!("{left_off} more findings are left off"),
        });
        let diagnostic = |found: Found| Diagnostic {
            severity: found.severity,
            place: found.offset.map(|offset| Place::of(text, offset)),
            key: found.key,
            message: found.message,
        };
        self.found.into_iter().map(diagnostic).chain(last).collect()
    }
}

/// A key as TOML writes it: bare if it can be.
pub(super) fn quoted(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { string(key) }
}

/// A basic string of TOML 1.0.
pub(super) fn string(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            c if c.is_control() => text.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// `a`, `b` or `c`: what is allowed.
pub(super) fn choice(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [word] => format!("`{word}`"),
        [words @ .., last] => format!("`{}` or `{last}`", words.join("`, `")),
    }
}

/// A question whether the nearest of the known words was meant, to end a message with; empty if
/// none is near.
pub(super) fn did_you_mean(word: &str, known: &[&str]) -> String {
    let like = |known: &&str| strsim::jaro_winkler(&word.to_lowercase(), &known.to_lowercase());
    let nearest = known.iter().map(|known| (like(known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, known)) if likeness >= LIKENESS => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_only_if_it_is_near() {
        assert_eq!(did_you_mean("dchp4", &["dhcp4", "static4"]), "; did you mean `dhcp4`?");
        assert_eq!(did_you_mean("colour", &["dhcp4", "static4"]), "");
    }

    #[test]
    fn strings_are_written_as_toml_reads_them() {
        assert_eq!(quoted("eno-1_a"), "eno-1_a");
        assert_eq!(quoted("a:\"b\\\u{1}"), r#""a:\"b\\\u0001""#);
        let read: toml::Table = toml::from_str(&format!("{} = 1", quoted("a\u{7f}\"é"))).unwrap();
        assert!(read.contains_key("a\u{7f}\"é"));
    }

    #[test]
    fn of_too_many_findings_the_errors_are_told() {
        let mut findings = Findings::default();
        for _ in 0..MAX_FINDINGS {
            findings.warning("a", "a warning");
        }
        findings.error("b", "an error");
        let told = findings.into_diagnostics("");
        assert_eq!(told.len(), MAX_FINDINGS + 1);
        assert!(told.iter().any(|found| found.message == "an error"));
        assert_eq!(told.last().unwrap().message, "1 more findings are left off");
    }
}
