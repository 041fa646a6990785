//! Walks over user data with the table of settings in hand.

use std::ops::Range;

use semver::Version;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Options;
use super::findings::Findings;
use super::name::{advice, dotted, nearest, shown};
use super::settings::{self, SETTINGS};
use super::shape::{Key, Names, Shape, Table, one_of};

/// Releases up to this one have no settings but those in the table. What a newer one refuses is
/// not known.
const READ_UP_TO: Version = Version::new(1, 62, 0);

const ROOT: &str = "settings";

/// How deep an unknown key may stand to be taken for a key of another of the settings: where the
/// keys of settings stand, or one above.
const MISPLACED_AT: usize = 3;

/// A key of the text, with its place.
type Name<'n, 't> = &'n Spanned<DeString<'t>>;

/// One walk.
pub(super) struct Walk<'w, 't> {
    options: &'w Options,
    findings: &'w mut Findings<'t>,
    /// The keys down to where the walk is, as they are shown.
    path: Vec<String>,
}

impl<'w, 't> Walk<'w, 't> {
    pub(super) fn new(options: &'w Options, findings: &'w mut Findings<'t>) -> Self {
        Self { options, findings, path: Vec::new() }
    }

    /// A walk that begins at a key.
    pub(super) fn at(options: &'w Options, findings: &'w mut Findings<'t>, path: &[&str]) -> Self {
        let path = path.iter().map(|&part| part.to_owned()).collect();
        Self { options, findings, path }
    }

    /// The whole file; gives its settings if they are a table.
    pub(super) fn document<'n, 'd>(&mut self, root: &'n DeTable<'d>) -> Option<&'n DeTable<'d>> {
        for name in root.keys().filter(|name| name.get_ref() != ROOT) {
            let hint = if SETTINGS.iter().any(|setting| setting.key.is(name.get_ref())) {
                format!("; did you mean {ROOT}.{}?", shown(name.get_ref()))
            } else {
                nearest(name.get_ref(), [ROOT])
                    .map(|_| format!("; did you mean {ROOT}?"))
                    .unwrap_or_default()
            };
            let message = format!("the OS reads {ROOT} only and drops this without a word{hint}");
            self.findings.warning(Some(name.span()), shown(name.get_ref()), message);
        }
        let Some((name, value)) = root.get_key_value(ROOT) else {
            let message =
                format!("there is no table {ROOT}: the OS refuses the file and never gets ready");
            self.findings.error(None, "", message);
            return None;
        };
        let DeValue::Table(table) = value.get_ref() else {
            let found = value.get_ref().type_str();
            let message = format!("expected a table, found {}", with_article(found));
            self.findings.error(Some(name.span()), ROOT, message);
            return None;
        };
        self.path.push(ROOT.to_owned());
        for (name, value) in table {
            self.path.push(shown(name.get_ref()));
            self.setting(name, value);
            self.path.pop();
        }
        self.path.pop();
        Some(table)
    }

    /// One of the settings, which belong to some variants.
    fn setting(&mut self, name: Name<'_, '_>, value: &Spanned<DeValue<'_>>) {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key.is(name.get_ref())) else {
            let known: Vec<_> = SETTINGS.iter().map(|setting| setting.key.name).collect();
            self.unknown(name, &known, false);
            return;
        };
        match self.options.variant {
            Some(variant) if !setting.variants.contains(&variant) => {
                let message =
                    format!("images of {variant} do not know it: the OS refuses the file");
                self.error(name.span(), &message);
            }
            None if !setting.variants.iter().any(|variant| variant.is_metal()) => {
                self.warning(
                    name.span(),
                    "no image for bare metal knows it: the OS refuses the file there",
                );
            }
            _ => {}
        }
        self.known(&setting.key, name, value);
    }

    fn known(&mut self, key: &Key, name: Name<'_, '_>, value: &Spanned<DeValue<'_>>) {
        if let Some((major, minor, patch)) = key.since
            && let since = Version::new(major, minor, patch)
            && let Some(version) = &self.options.os_version
            && *version < since
        {
            let message = format!(
                "Bottlerocket {version} refuses the file for it: {since} or later is needed"
            );
            self.error(name.span(), &message);
        }
        self.value(&key.shape, name, value);
    }

    pub(super) fn value(
        &mut self,
        shape: &Shape,
        name: Name<'_, '_>,
        value: &Spanned<DeValue<'_>>,
    ) {
        match (shape, value.get_ref()) {
            (Shape::Any, _) | (Shape::Boolean, DeValue::Boolean(_)) => {}
            (Shape::Integer(least, most), DeValue::Integer(integer)) => {
                let number = i64::from_str_radix(integer.as_str(), integer.radix());
                if !number.is_ok_and(|number| (*least..=*most).contains(&number)) {
                    self.refuse(shape, value, "another integer");
                }
            }
            (Shape::Text(form), DeValue::String(text)) => {
                if !(form.taken)(text) {
                    self.refuse(shape, value, "another string");
                } else if let Some((works, otherwise)) = form.works
                    && !works(text)
                {
                    self.warning(value.span(), otherwise);
                }
            }
            (Shape::OneOf(known), DeValue::String(text)) => {
                if !known.contains(&text.as_ref()) {
                    self.refuse(shape, value, "another string");
                }
            }
            (Shape::OneOfAtLeast(known), DeValue::String(text)) => {
                if !known.contains(&text.as_ref()) {
                    let known = one_of(known);
                    let message = format!("expected {known}; other releases may know more");
                    self.warning(value.span(), &message);
                }
            }
            (Shape::List(shape), DeValue::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.item(shape, index, name, item);
                }
            }
            (Shape::Pair(first, second), DeValue::Array(items)) => match &items[..] {
                [a, b] => {
                    self.item(first, 0, name, a);
                    self.item(second, 1, name, b);
                }
                _ => self.refuse(shape, value, &format!("an array of {}", items.len())),
            },
            (Shape::Map(names, shape), DeValue::Table(table)) => {
                for (name, value) in table {
                    self.path.push(shown(name.get_ref()));
                    self.other(*names, shape, name, value);
                    self.path.pop();
                }
            }
            (Shape::Table(shape), DeValue::Table(table)) => self.table(shape, name, table),
            (Shape::Either(shapes), found) => {
                match shapes.iter().find(|shape| takes(shape, found)) {
                    Some(shape) => self.value(shape, name, value),
                    None => self.mismatch(shape, name, value),
                }
            }
            _ => self.mismatch(shape, name, value),
        }
    }

    fn item(
        &mut self,
        shape: &Shape,
        index: usize,
        name: Name<'_, '_>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let Some(last) = self.path.last_mut() else { return };
        let before = last.len();
        last.push_str(&format!("[{index}]"));
        self.value(shape, name, value);
        if let Some(last) = self.path.last_mut() {
            last.truncate(before);
        }
    }

    fn table(&mut self, shape: &Table, name: Name<'_, '_>, table: &DeTable<'_>) {
        for key in shape.keys {
            if key.required && !table.keys().any(|name| key.is(name.get_ref())) {
                let message = format!("{} is missing: the OS refuses the file", key.name);
                self.error(name.span(), &message);
            }
            if let Some(alias) = key.alias
                && table.contains_key(key.name)
                && table.contains_key(alias)
            {
                let message = format!("{} and {alias} are the same; give one of them", key.name);
                self.error(name.span(), &message);
            }
        }
        for (name, value) in table {
            self.path.push(shown(name.get_ref()));
            match (shape.keys.iter().find(|key| key.is(name.get_ref())), shape.others) {
                (Some(key), _) => self.known(key, name, value),
                (None, Some((names, shape))) => self.other(names, shape, name, value),
                (None, None) => {
                    let known: Vec<_> = shape.keys.iter().map(|key| key.name).collect();
                    self.unknown(name, &known, shape.open);
                }
            }
            self.path.pop();
        }
    }

    /// A key that is the user's to choose.
    fn other(
        &mut self,
        names: Names,
        shape: &Shape,
        name: Name<'_, '_>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let (taken, expected, hint) = match names {
            Names::Form(form) => {
                ((form.taken)(name.get_ref()), form.expected.to_owned(), String::new())
            }
            Names::OneOf(known) => {
                let near = nearest(name.get_ref(), known.iter().copied());
                let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                (known.contains(&name.get_ref().as_ref()), one_of(known), hint)
            }
        };
        if !taken {
            self.error(name.span(), &format!("expected {expected} as the key{hint}"));
        }
        self.value(shape, name, value);
    }

    fn unknown(&mut self, name: Name<'_, '_>, known: &[&str], open: bool) {
        let near = nearest(name.get_ref(), known.iter().copied());
        let elsewhere = settings::home_of(name.get_ref())
            .filter(|_| near.is_none() && self.path.len() <= MISPLACED_AT);
        let hint = match elsewhere {
            Some(home) => format!("; did you mean {ROOT}.{home}.{}?", shown(name.get_ref())),
            None => advice(name.get_ref(), known),
        };
        if open {
            self.warning(name.span(), &format!("the OS ignores this unknown key{hint}"));
        } else if let Some(version) =
            self.options.os_version.as_ref().filter(|it| **it > READ_UP_TO)
        {
            let message = format!("no release up to {READ_UP_TO} knows it; {version} may{hint}");
            self.warning(name.span(), &message);
        } else {
            self.error(name.span(), &format!("unknown key: the OS refuses the file{hint}"));
        }
    }

    /// The value is of the right type, but not one that is allowed.
    fn refuse(&mut self, shape: &Shape, value: &Spanned<DeValue<'_>>, found: &str) {
        let message = format!("expected {}, found {found}", shape.expected());
        self.error(value.span(), &message);
    }

    /// The value is of another type.
    fn mismatch(&mut self, shape: &Shape, name: Name<'_, '_>, value: &Spanned<DeValue<'_>>) {
        let found = value.get_ref();
        let hint = hint(shape, found);
        let message = format!(
            "expected {}, found {}{hint}",
            shape.expected(),
            with_article(found.type_str())
        );
        let span = if found.is_table() { name.span() } else { value.span() };
        self.error(span, &message);
    }

    fn error(&mut self, span: Range<usize>, message: &str) {
        self.findings.error(Some(span), dotted(&self.path), message);
    }

    fn warning(&mut self, span: Range<usize>, message: &str) {
        self.findings.warning(Some(span), dotted(&self.path), message);
    }
}

/// Whether a shape is of the value's TOML type.
fn takes(shape: &Shape, value: &DeValue<'_>) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Boolean => value.is_bool(),
        Shape::Integer(..) => value.is_integer(),
        Shape::Text(_) | Shape::OneOf(_) | Shape::OneOfAtLeast(_) => value.is_str(),
        Shape::List(_) | Shape::Pair(..) => value.is_array(),
        Shape::Map(..) | Shape::Table(_) => value.is_table(),
        Shape::Either(shapes) => shapes.iter().any(|shape| takes(shape, value)),
    }
}

/// What the writer most likely meant.
fn hint(shape: &Shape, found: &DeValue<'_>) -> &'static str {
    let string = DeValue::String("".into());
    match found {
        DeValue::Table(_) => "; if dots belong to the key, put the key in quotes",
        DeValue::String(_) if matches!(shape, Shape::Boolean | Shape::Integer(..)) => {
            "; write it without quotes"
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) if takes(shape, &string) => {
            "; put it in quotes"
        }
        DeValue::String(_) if matches!(shape, Shape::List(_)) => "; put it in square brackets",
        _ => "",
    }
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}
