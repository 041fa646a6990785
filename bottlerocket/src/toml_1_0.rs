//! What TOML 1.1 has and 1.0 has not.
//!
//! Bottlerocket reads its files with `toml` 0.8, which is TOML 1.0. The one used here is TOML 1.1
//! and also takes inline tables over several lines and with a comma at their end, the escapes `\e`
//! and `\x`, and times without seconds.

use toml_parser::decoder::Encoding;
use toml_parser::parser::{EventReceiver, RecursionGuard, parse_document};
use toml_parser::{ErrorSink, Source, Span};

/// Deepest nesting of arrays and inline tables, as in both TOML libraries.
const MAX_DEPTH: u32 = 80;

/// Finds what TOML 1.0 refuses in a text that is TOML 1.1, and tells `refuse` the offset of each in
/// bytes and what is wrong there. It quotes nothing of the text.
pub(crate) fn check(text: &str, refuse: impl FnMut(usize, String)) {
    let source = Source::new(text);
    let mut newer = Newer { source, open: Vec::new(), comma: None, refuse };
    let tokens = source.lex().into_vec();
    parse_document(&tokens, &mut RecursionGuard::new(&mut newer, MAX_DEPTH), &mut ());
}

enum Open {
    Array,
    InlineTable {
        /// Whether a line break in it was told.
        broken: bool,
    },
}

struct Newer<'t, F> {
    source: Source<'t>,
    open: Vec<Open>,
    /// A comma after which there was no key yet.
    comma: Option<Span>,
    refuse: F,
}

impl<F: FnMut(usize, String)> Newer<'_, F> {
    fn refuse(&mut self, offset: usize, what: &str, instead: &str) {
        let message = format!("{what} is TOML 1.1, and Bottlerocket reads TOML 1.0; {instead}");
        (self.refuse)(offset, message);
    }

    fn text(&mut self, span: Span, encoding: Option<Encoding>) {
        self.comma = None;
        if !matches!(encoding, Some(Encoding::BasicString | Encoding::MlBasicString)) {
            return;
        }
        let mut bytes = self.raw(span).bytes().enumerate();
        while let Some((_, byte)) = bytes.next() {
            if byte == b'\\'
                && let Some((at, escaped @ (b'e' | b'x'))) = bytes.next()
            {
                let what = format!("the escape \\{}", char::from(escaped));
                self.refuse(span.start() + at - 1, &what, "write \\u and four digits");
            }
        }
    }

    /// Hours, minutes and seconds have two digits each, and nothing else without quotes has a
    /// colon.
    fn time(&mut self, span: Span) {
        let raw = self.raw(span).as_bytes();
        if let Some(colon) = raw.iter().position(|&byte| byte == b':')
            && raw.get(colon + 3) != Some(&b':')
        {
            self.refuse(span.start(), "a time without seconds", "add :00");
        }
    }
}

impl<'t, F> Newer<'t, F> {
    fn raw(&self, span: Span) -> &'t str {
        self.source.get(span).map(|raw| raw.as_str()).unwrap_or_default()
    }
}

impl<F: FnMut(usize, String)> EventReceiver for Newer<'_, F> {
    fn inline_table_open(&mut self, _: Span, _: &mut dyn ErrorSink) -> bool {
        self.comma = None;
        self.open.push(Open::InlineTable { broken: false });
        true
    }

    fn inline_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.open.pop();
        if let Some(comma) = self.comma.take() {
            self.refuse(comma.start(), "a comma at the end of an inline table", "remove it");
        }
    }

    fn array_open(&mut self, _: Span, _: &mut dyn ErrorSink) -> bool {
        self.comma = None;
        self.open.push(Open::Array);
        true
    }

    fn array_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.open.pop();
        self.comma = None;
    }

    fn value_sep(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.comma = Some(span);
    }

    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, _: &mut dyn ErrorSink) {
        self.text(span, encoding);
    }

    fn scalar(&mut self, span: Span, encoding: Option<Encoding>, _: &mut dyn ErrorSink) {
        self.text(span, encoding);
        if encoding.is_none() {
            self.time(span);
        }
    }

    fn newline(&mut self, span: Span, _: &mut dyn ErrorSink) {
        if let Some(Open::InlineTable { broken }) = self.open.last_mut()
            && !std::mem::replace(broken, true)
        {
            let instead = "write it on one line, or as a table with a header";
            self.refuse(span.start(), "an inline table over several lines", instead);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Place;
    use toml::de::DeTable;

    fn found(text: &str) -> Vec<String> {
        DeTable::parse(text).unwrap();
        let mut found = Vec::new();
        check(text, |offset, message| {
            found.push(format!("{}: {message}", Place::of(text, offset)));
        });
        found
    }

    #[test]
    fn what_only_toml_1_1_has_is_refused_with_its_place() {
        for (text, place, words) in [
            ("a = { b = 1,\n c = 2 }\n", "1:13: ", "on one line"),
            ("a = { b = 1, }\n", "1:12: ", "comma"),
            ("a = { b = [ 1 ] # why\n}", "1:22: ", "on one line"),
            ("a = \"\\e\"\n", "1:6: ", "escape \\e"),
            ("a = \"\"\"\n\\x41\"\"\"\n", "2:1: ", "escape \\x"),
            ("\"\\x41\" = 1\n", "1:2: ", "escape \\x"),
            ("a = [07:32]\n", "1:6: ", "without seconds"),
            ("a = 1979-05-27T07:32Z\n", "1:5: ", "without seconds"),
            ("a = 1979-05-27 07:32+01:00\n", "1:5: ", "without seconds"),
        ] {
            let found = found(text);
            assert!(
                matches!(&found[..], [only] if only.starts_with(place) && only.contains(words)),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn each_is_told_once() {
        assert_eq!(found("a = {\n b = { c = \"\\e\\x41\" }\n\n, }\n").len(), 4);
    }

    #[test]
    fn toml_1_0_is_not_suspected() {
        for text in [
            "a = { b = [\n1,\n2,\n], c = { d = 1 } }\n",
            "[a.'b{']\nc = \"{\\\\e\" # {\n[[d]]\n",
            "a = '\\e\\x41'\nb = '''\\e'''\n",
            "a = [\n  1, # one\n]\n",
            "a = 07:32:00.5\nb = 1979-05-27T07:32:00+01:00\nc = 1979-05-27\nd = '07:32'\n",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }
}
