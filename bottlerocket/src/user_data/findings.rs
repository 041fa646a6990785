//! What a check has found so far.

use std::ops::Range;

use super::MAX_FINDINGS;
use crate::diagnostic::{Diagnostic, Place, Severity};

/// Findings in one text.
pub(super) struct Findings<'t> {
    text: &'t str,
    found: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl<'t> Findings<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, found: Vec::new(), errors: 0, warnings: 0 }
    }

    /// The file is refused by the OS. `span` is in bytes of the text.
    pub(super) fn error(
        &mut self,
        span: Option<Range<usize>>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) {
        if self.errors < MAX_FINDINGS {
            let place = self.place(span);
            self.found.push(Diagnostic::error(place, key, message));
        }
        self.errors += 1;
    }

    /// The file is taken, but this cannot work.
    pub(super) fn warning(
        &mut self,
        span: Option<Range<usize>>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) {
        if self.warnings < MAX_FINDINGS {
            let place = self.place(span);
            self.found.push(Diagnostic::warning(place, key, message));
        }
        self.warnings += 1;
    }

    pub(super) fn first_error(&self) -> Option<&Diagnostic> {
        self.found.iter().find(|diagnostic| diagnostic.severity == Severity::Error)
    }

    pub(super) fn into_sorted(self) -> Vec<Diagnostic> {
        let mut found = self.found;
        found.sort_by_key(|diagnostic| diagnostic.place);
        found
    }

    fn place(&self, span: Option<Range<usize>>) -> Option<Place> {
        span.map(|span| Place::of(self.text, span.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_never_crowd_an_error_out() {
        let mut findings = Findings::new("text");
        for _ in 0..2 * MAX_FINDINGS {
            findings.warning(None, "", "odd");
        }
        findings.error(None, "", "wrong");
        let found = findings.into_sorted();
        assert_eq!(found.len(), MAX_FINDINGS + 1);
        assert!(found.iter().any(|diagnostic| diagnostic.severity == Severity::Error));
    }
}
