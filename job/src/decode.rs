//! Decoding with errors that name the path, the key and the nearest valid one.
//!
//! serde tells an error type which keys a table may have, but the usual formats melt that into a
//! sentence. This deserializer reads a [`serde_json::Value`] and keeps it: the path to the fault
//! is built up as the error travels out of the nested tables.

use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde_json::Value;

/// Decodes `T` from a value tree.
pub fn decode<T: DeserializeOwned>(value: Value) -> Result<T, DecodeError> {
    T::deserialize(Node(value))
}

/// Why a value is not what it should be, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// From the innermost to the outermost, since that is the order in which they are learnt.
    path: Vec<String>,
    fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownName { name: String, known: &'static [&'static str] },
    MissingKey(&'static str),
    Other(String),
}

impl DecodeError {
    /// An error that no serde type finds by itself.
    pub fn new(message: impl Into<String>) -> Self {
        Self { path: Vec::new(), fault: Fault::Other(message.into()) }
    }

    /// The value of `name` is not one of `known`.
    pub fn unknown_name(name: &str, known: &'static [&'static str]) -> Self {
        Self { path: Vec::new(), fault: Fault::UnknownName { name: name.to_owned(), known } }
    }

    /// The same error seen from one level further out: `segment` is `key` or `key[index]`.
    #[must_use]
    pub fn within(mut self, segment: impl Into<String>) -> Self {
        self.path.push(segment.into());
        self
    }

    /// The dotted path to the fault, empty at the top.
    pub fn path(&self) -> String {
        let mut path = String::new();
        for segment in self.path.iter().rev() {
            if !path.is_empty() && !segment.starts_with('[') {
                path.push('.');
            }
            path.push_str(segment);
        }
        path
    }
}

/// The known word closest to what was written, if it is close enough to be a slip of the pen.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    const CLOSE_ENOUGH: f64 = 0.6;
    known
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= CLOSE_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path();
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        let (what, word, known) = match &self.fault {
            Fault::UnknownKey { key, known } => ("key", key, known),
            Fault::UnknownName { name, known } => ("name", name, known),
            Fault::MissingKey(key) => return write!(f, "key `{key}` is missing"),
            Fault::Other(message) => return f.write_str(message),
        };
        write!(f, "{what} `{word}` is not known")?;
        if let Some(nearest) = nearest(word, known) {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        if known.is_empty() {
            f.write_str(" (none is allowed here)")
        } else {
            write!(f, " (known: {})", known.join(", "))
        }
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    /// Names the kinds but not the value found, which may be a secret in the wrong place.
    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let kind = match found {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
            Unexpected::Float(_) => "a fractional number",
            Unexpected::Str(_) | Unexpected::Char(_) => "text",
            Unexpected::Unit | Unexpected::Option => "nothing",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            _ => "something else",
        };
        Self::new(format!("expected {expected}, found {kind}"))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self { path: Vec::new(), fault: Fault::UnknownKey { key: key.to_owned(), known } }
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        Self::unknown_name(name, known)
    }

    fn missing_field(key: &'static str) -> Self {
        Self { path: Vec::new(), fault: Fault::MissingKey(key) }
    }
}

struct Node(Value);

impl<'de> Deserializer<'de> for Node {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(value) => visitor.visit_string(value),
            Value::Array(items) => visitor.visit_seq(Seq { items: items.into_iter(), next: 0 }),
            Value::Object(table) => {
                visitor.visit_map(Table { entries: table.into_iter(), pending: None })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    /// Every enum of the contract is a plain name; tables choose their type by a key instead.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::String(name) => {
                let name: StringDeserializer<DecodeError> = name.into_deserializer();
                visitor.visit_enum(name)
            }
            _ => Err(DecodeError::new(format!("expected one of: {}", variants.join(", ")))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Seq {
    items: std::vec::IntoIter<Value>,
    next: usize,
}

impl<'de> SeqAccess<'de> for Seq {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let index = self.next;
        self.next += 1;
        self.items
            .next()
            .map(|item| seed.deserialize(Node(item)))
            .transpose()
            .map_err(|e| e.within(format!("[{index}]")))
    }
}

struct Table {
    entries: serde_json::map::IntoIter,
    pending: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Table {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        self.pending = self.entries.next();
        match &self.pending {
            Some((key, _)) => seed.deserialize(key.as_str().into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let (key, value) = self
            .pending
            .take()
            .ok_or_else(|| DecodeError::new("a value was read without a key"))?;
        seed.deserialize(Node(value)).map_err(|e| e.within(key))
    }
}
