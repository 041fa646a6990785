//! What a check of a file finds: where, about what, and what is allowed there.

use std::fmt;

use serde::Serialize;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The file is taken, but something in it cannot work as it stands.
    Warning,
    /// The file is refused.
    Error,
}

/// A place in a text, both numbers from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Place {
    /// The place of a byte of a text. An offset past the end is the end's place.
    pub fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
        Self {
            line: number(before.matches('\n').count()),
            column: number(before[start..].chars().count()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How grave it is.
    pub severity: Severity,
    /// Where it is; none if it is about the whole file.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The dotted key that it is about; empty if it is about none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What is wrong, what was found, and what is allowed or can be done.
    pub message: String,
}

impl Diagnostic {
    /// Something for which the file is refused.
    pub fn error(place: Option<Place>, key: impl Into<String>, message: impl Into<String>) -> Self {
        let (key, message) = (key.into(), message.into());
        Self { severity: Severity::Error, place, key, message }
    }

    /// Something that cannot work, in a file that is taken.
    pub fn warning(
        place: Option<Place>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, key, message) }
    }

    /// Whether the file is refused for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Takes a warning as seriously as an error.
    pub fn make_strict(&mut self) {
        self.severity = Severity::Error;
    }

    /// The same as compilers write it, with the file's name: `FILE:3:7: error: key: message`.
    pub fn in_file(&self, file: impl fmt::Display) -> String {
        let space = if self.place.is_some() { "" } else { " " };
        format!("{file}:{space}{self}")
    }
}

/// As compilers write it behind the file's name and a colon: `3:7: error: key: message`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(match self.severity {
            Severity::Warning => "warning: ",
            Severity::Error => "error: ",
        })?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let text = "a\nбв = 1\n";
        let place = |offset| Place::of(text, offset);
        assert_eq!(place(0), Place { line: 1, column: 1 });
        assert_eq!(place(text.find('=').unwrap()), Place { line: 2, column: 4 });
        assert_eq!(place(1000), Place { line: 3, column: 1 });
    }

    #[test]
    fn a_finding_reads_like_a_compilers() {
        let place = Some(Place { line: 3, column: 7 });
        let finding = Diagnostic::error(place, "eth0.dhcp4", "expected a boolean, found 3");
        assert_eq!(finding.to_string(), "3:7: error: eth0.dhcp4: expected a boolean, found 3");
        assert!(finding.in_file("net.toml").starts_with("net.toml:3:7: error: eth0.dhcp4: "));
        let finding = Diagnostic::warning(None, "", "it is empty");
        assert_eq!(finding.to_string(), "warning: it is empty");
        assert_eq!(finding.in_file("a"), "a: warning: it is empty");
    }
}
