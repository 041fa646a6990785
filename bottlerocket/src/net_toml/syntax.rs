//! From bytes to a TOML table that netdog's TOML library reads as well.

use toml::Spanned;
use toml::de::DeTable;

use super::MAX_SIZE;
use super::findings::Findings;
use crate::diagnostic::{Diagnostic, Place};
use crate::toml_1_0;

/// The text and its table, or why it is none.
pub(super) fn parse(bytes: &[u8]) -> Result<(&str, Spanned<DeTable<'_>>), Vec<Diagnostic>> {
    if bytes.len() > MAX_SIZE {
        let length = bytes.len();
        let message = format!("the file is {length} bytes long; at most {MAX_SIZE} are read");
        return Err(vec![Diagnostic::error(None, "", message)]);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error))?;
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut findings = Findings::default();
    for error in &errors {
        refuse(text, error, &mut findings);
    }
    if errors.is_empty() {
        toml_1_0::check(text, |offset, message| findings.error_at(offset, "", message));
    }
    match findings.len() {
        0 => Ok((text, table)),
        _ => Err(findings.into_diagnostics(text)),
    }
}

fn not_utf8(bytes: &[u8], error: std::str::Utf8Error) -> Vec<Diagnostic> {
    let start = error.valid_up_to();
    let valid = String::from_utf8_lossy(&bytes[..start]);
    let message = format!("byte 0x{:02x} is not UTF-8, and TOML is UTF-8 throughout", bytes[start]);
    vec![Diagnostic::error(Some(Place::of(&valid, start)), "", message)]
}

fn refuse(text: &str, error: &toml::de::Error, findings: &mut Findings) {
    let span = error.span().unwrap_or(text.len()..text.len());
    let word = text.get(span.clone()).unwrap_or_default();
    if error.message() == "duplicate key" {
        let message = "is defined a second time; TOML takes every key and every table once";
        findings.error_at(span.start, word, message);
    } else {
        findings.error_at(span.start, "", format!("this is not TOML: {}", error.message()));
    }
}
