//! Shapes of settings: the words in which the table in `settings/` is written.

use super::form::Form;
use super::name::MOST_LISTED;

/// What a value has to be.
pub(super) enum Shape {
    /// The OS knows the key; what it holds is not looked at.
    Any,
    /// `true` or `false`.
    Boolean,
    /// A whole number from the first to the second, both included.
    Integer(i64, i64),
    /// A string of a form.
    Text(&'static Form),
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// One of these strings, or of more that a newer release knows.
    OneOfAtLeast(&'static [&'static str]),
    /// An array, of one shape.
    List(&'static Shape),
    /// An array of exactly two.
    Pair(&'static Shape, &'static Shape),
    /// A table of any keys of a kind.
    Map(Names, &'static Shape),
    /// A table of known keys.
    Table(Table),
    /// Any of these; each has a TOML type of its own.
    Either(&'static [Shape]),
}

/// Keys that are the user's to choose.
#[derive(Clone, Copy)]
pub(super) enum Names {
    /// Any of a form.
    Form(&'static Form),
    /// Any of these.
    OneOf(&'static [&'static str]),
}

/// A table of known keys.
pub(super) struct Table {
    pub(super) keys: &'static [Key],
    /// Keys of a kind that may stand beside the known ones.
    pub(super) others: Option<(Names, &'static Shape)>,
    /// Whether the OS ignores an unknown key, instead of refusing the file.
    pub(super) open: bool,
}

/// A known key.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// Another name for it.
    pub(super) alias: Option<&'static str>,
    pub(super) shape: Shape,
    /// No release before this one knows it: its major, minor and patch numbers.
    pub(super) since: Option<(u64, u64, u64)>,
    /// Whether the OS refuses the table without it.
    pub(super) required: bool,
}

pub(super) const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, alias: None, shape, since: None, required: false }
}

impl Key {
    pub(super) const fn since(self, major: u64, minor: u64, patch: u64) -> Self {
        Self { since: Some((major, minor, patch)), ..self }
    }

    pub(super) const fn or(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    pub(super) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name || self.alias == Some(name)
    }
}

/// A table in which the OS knows these keys only.
pub(super) const fn closed(keys: &'static [Key]) -> Shape {
    Shape::Table(Table { keys, others: None, open: false })
}

/// A table in which the OS ignores other keys.
pub(super) const fn open(keys: &'static [Key]) -> Shape {
    Shape::Table(Table { keys, others: None, open: true })
}

/// A table of known keys and of keys of a kind.
pub(super) const fn mixed(keys: &'static [Key], names: Names, shape: &'static Shape) -> Shape {
    Shape::Table(Table { keys, others: Some((names, shape)), open: false })
}

pub(super) const I32: Shape = Shape::Integer(i32::MIN as i64, i32::MAX as i64);
pub(super) const I64: Shape = Shape::Integer(i64::MIN, i64::MAX);
pub(super) const U8: Shape = Shape::Integer(0, u8::MAX as i64);
pub(super) const U16: Shape = Shape::Integer(0, u16::MAX as i64);
pub(super) const U32: Shape = Shape::Integer(0, u32::MAX as i64);
pub(super) const NOT_NEGATIVE: Shape = Shape::Integer(0, i32::MAX as i64);

impl Shape {
    /// What is expected, with its article.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Any => "anything".to_owned(),
            Self::Boolean => "a boolean".to_owned(),
            Self::Integer(i64::MIN, i64::MAX) => "an integer".to_owned(),
            Self::Integer(least, most) => format!("an integer from {least} to {most}"),
            Self::Text(form) => form.expected.to_owned(),
            Self::OneOf(texts) | Self::OneOfAtLeast(texts) => one_of(texts),
            Self::List(shape) => format!("an array, each item {}", shape.expected()),
            Self::Pair(first, second) => {
                format!("an array of two: {}, and {}", first.expected(), second.expected())
            }
            Self::Map(..) | Self::Table(_) => "a table".to_owned(),
            Self::Either(shapes) => {
                shapes.iter().map(Self::expected).collect::<Vec<_>>().join(", or ")
            }
        }
    }
}

/// The strings that are allowed, in quotes; of a long list only that there is one.
pub(super) fn one_of(texts: &[&str]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| format!("\"{text}\"")).collect();
    match &quoted[..] {
        [only] => only.clone(),
        _ if quoted.len() > MOST_LISTED => format!("one of {} names", quoted.len()),
        _ => format!("one of {}", quoted.join(", ")),
    }
}
