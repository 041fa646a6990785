//! The text as TOML.

use toml::Spanned;
use toml::de::DeTable;

use super::name::shown;
use crate::diagnostic::{Diagnostic, Place};

/// Parses a text. The error is the parser's own message, which holds no part of the text.
pub(super) fn parse(text: &str) -> Result<DeTable<'_>, Diagnostic> {
    DeTable::parse(text).map(Spanned::into_inner).map_err(|error| {
        let place = error.span().map(|span| Place::of(text, span.start));
        let hint = if text.starts_with("#cloud-config") || text.starts_with("#!") {
            "; Bottlerocket takes neither scripts nor cloud-init's YAML"
        } else {
            ""
        };
        // The one error that is about a key, and says nothing without it.
        let key = match error.span().filter(|_| error.message() == "duplicate key") {
            Some(span) => shown(text.get(span).unwrap_or_default()),
            None => String::new(),
        };
        Diagnostic::error(place, key, format!("not TOML: {}{hint}", error.message()))
    })
}
