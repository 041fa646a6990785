//! `key.sub=value` arguments as a value tree, so that a command line takes a job file's keys.

use serde_json::{Map, Value};

use crate::DecodeError;

/// Builds a table from `a.b=c` arguments.
///
/// A value is read as JSON where it starts like a list, a table or a quoted string
/// (`files=[{"path":"/a","content":"b"}]`), as a number or boolean where it is one, else as text.
/// A digest of digits only must stay text: a number is taken only up to 18 digits.
pub fn table<S: AsRef<str>>(arguments: &[S]) -> Result<Value, DecodeError> {
    let mut root = Map::new();
    for argument in arguments {
        let argument = argument.as_ref();
        let (path, text) = argument.split_once('=').ok_or_else(|| {
            DecodeError::new(format!("{argument:?} has no `=`; expected key=value, as in a job"))
        })?;
        insert(&mut root, path, scalar(text).map_err(|e| e.within(path))?)?;
    }
    Ok(Value::Object(root))
}

/// More digits than this are text, such as a digest, and no number that a job can hold.
const LONGEST_NUMBER: usize = 18;

fn scalar(text: &str) -> Result<Value, DecodeError> {
    if text.starts_with(['[', '{', '"']) {
        return serde_json::from_str(text)
            .map_err(|e| DecodeError::new(format!("reading the value as JSON: {e}")));
    }
    Ok(match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => {
            let number = !text.is_empty()
                && text.len() <= LONGEST_NUMBER
                && (text == "0" || !text.starts_with('0'))
                && text.bytes().all(|byte| byte.is_ascii_digit());
            match text.parse::<u64>() {
                Ok(value) if number => value.into(),
                _ => text.into(),
            }
        }
    })
}

fn insert(root: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), DecodeError> {
    let (parents, leaf) = path.rsplit_once('.').unwrap_or(("", path));
    if path.split('.').any(str::is_empty) {
        return Err(DecodeError::new(format!("{path:?} has an empty key")));
    }
    let mut table = root;
    for key in parents.split('.').filter(|key| !key.is_empty()) {
        table = match table.entry(key).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(inner) => inner,
            _ => return Err(DecodeError::new(format!("`{key}` is given as a value and a table"))),
        };
    }
    match table.insert(leaf.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(DecodeError::new(format!("`{path}` is given twice"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dotted_keys_nest_and_values_keep_their_kind() {
        let value = table(&["image.url=http://h/i?a=b", "image.n=7", "deep=true", "mode=0600"]);
        let expected =
            json!({"image": {"url": "http://h/i?a=b", "n": 7}, "deep": true, "mode": "0600"});
        assert_eq!(value.unwrap(), expected);
    }

    #[test]
    fn a_digest_of_digits_is_text_and_a_list_is_json() {
        let digest = "1".repeat(64);
        let value = table(&[format!("sha256={digest}"), "files=[{\"path\":\"/a\"}]".into()]);
        assert_eq!(value.unwrap(), json!({"sha256": digest, "files": [{"path": "/a"}]}));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in [&["noequals"][..], &["a..b=1"], &["a=1", "a=2"], &["a=1", "a.b=2"], &["a=[1"]] {
            assert!(table(bad).is_err(), "{bad:?}");
        }
    }
}
