//! A boot configuration as a tree of key words, with values at some of them.

use std::fmt;

use thiserror::Error;

use crate::diagnostic::Place;

/// A boot configuration: keys in the order in which the kernel takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    pub(super) keys: Vec<Key>,
}

/// One word of a key, what it is set to, and the longer keys that begin with it.
///
/// Two are equal if they say the same, wherever they were written.
#[derive(Debug, Clone)]
pub struct Key {
    pub(super) word: String,
    pub(super) values: Vec<Value>,
    pub(super) subkeys: Vec<Key>,
    pub(super) place: Option<Place>,
}

/// One value. Two are equal if their texts are.
#[derive(Debug, Clone)]
pub struct Value {
    pub(super) text: String,
    pub(super) quotes: Quotes,
    pub(super) place: Option<Place>,
}

/// What a value was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quotes {
    /// Nothing, so that spaces around it, commas and the like are not part of it.
    None,
    /// `'`
    Single,
    /// `"`
    Double,
}

/// Why something is not a key.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Nothing between two dots, or nothing at all.
    #[error("a key is words joined by single dots, found none in {key:?}")]
    EmptyWord {
        /// The whole key.
        key: String,
    },
    /// A character that no key has.
    #[error("a key's words are made of letters, digits, '-' and '_', found {found:?} in {key:?}")]
    Character {
        /// The whole key.
        key: String,
        /// The first such character.
        found: char,
    },
}

impl Tree {
    /// A tree without keys, which is no boot configuration yet: a kernel refuses an empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The keys of one word.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Finds a key by its words joined by dots.
    pub fn get(&self, key: &str) -> Option<&Key> {
        let mut words = key.split('.');
        let first = find(&self.keys, words.next()?)?;
        words.try_fold(first, |key, word| find(&key.subkeys, word))
    }

    /// Sets a key, words joined by dots, to a list of values; none is a key without a value.
    /// Values it had before are gone, and the order of the keys stays.
    pub fn set<V: Into<String>>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Result<(), KeyError> {
        for word in key.split('.') {
            check_word(word).map_err(|found| match found {
                None => KeyError::EmptyWord { key: key.to_owned() },
                Some(found) => KeyError::Character { key: key.to_owned(), found },
            })?;
        }
        let path: Vec<usize> = key.split('.').fold(Vec::new(), |path, word| {
            let (index, _) = enter(self.subkeys(&path), word, None);
            [path.as_slice(), &[index]].concat()
        });
        if let Some(entry) = self.at(&path) {
            entry.values = values.into_iter().map(|text| Value::quoted(text.into())).collect();
        }
        Ok(())
    }

    /// The key at a path of indices; none if the path is empty.
    pub(super) fn at(&mut self, path: &[usize]) -> Option<&mut Key> {
        let (first, rest) = path.split_first()?;
        Some(rest.iter().fold(&mut self.keys[*first], |key, &index| &mut key.subkeys[index]))
    }

    /// The keys under the one at a path of indices; those of one word if the path is empty.
    pub(super) fn subkeys(&mut self, path: &[usize]) -> &mut Vec<Key> {
        path.iter().fold(&mut self.keys, |keys, &index| &mut keys[index].subkeys)
    }

    /// Every key that the kernel takes for a parameter, that is those with values and those
    /// without subkeys, with its words, in the kernel's order.
    pub fn leaves(&self) -> Vec<(Vec<&str>, &Key)> {
        let mut leaves = Vec::new();
        for key in &self.keys {
            key.collect(&[], &mut leaves);
        }
        leaves
    }

    /// How many nodes a kernel needs for it: key words and values. A text that replaced values
    /// needs more.
    pub fn nodes(&self) -> usize {
        self.keys.iter().map(Key::nodes).sum()
    }
}

impl Key {
    /// The word.
    pub fn word(&self) -> &str {
        &self.word
    }

    /// What the key is set to; empty for a key without a value.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The longer keys.
    pub fn subkeys(&self) -> &[Key] {
        &self.subkeys
    }

    /// Where the word was written first, if it was.
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// Whether the kernel takes the key itself for a parameter.
    pub fn is_leaf(&self) -> bool {
        !self.values.is_empty() || self.subkeys.is_empty()
    }

    /// The leaves under it, itself included, with their words after `before`.
    pub(super) fn collect<'a>(
        &'a self,
        before: &[&'a str],
        leaves: &mut Vec<(Vec<&'a str>, &'a Key)>,
    ) {
        let words = [before, &[self.word.as_str()]].concat();
        if self.is_leaf() {
            leaves.push((words.clone(), self));
        }
        for key in &self.subkeys {
            key.collect(&words, leaves);
        }
    }

    fn nodes(&self) -> usize {
        1 + self.values.len() + self.subkeys.iter().map(Self::nodes).sum::<usize>()
    }
}

impl Value {
    /// The value itself, without quotes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it was written in.
    pub fn quotes(&self) -> Quotes {
        self.quotes
    }

    /// Where it was written, if it was.
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    fn quoted(text: String) -> Self {
        Self { text, quotes: Quotes::Double, place: None }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (&self.word, &self.values, &self.subkeys) == (&other.word, &other.values, &other.subkeys)
    }
}

impl Eq for Key {}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Value {}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is wrong with a word: a character, or that it has none.
pub(super) fn check_word(word: &str) -> Result<(), Option<char>> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match word.chars().find(|&c| !allowed(c)) {
        Some(found) => Err(Some(found)),
        None if word.is_empty() => Err(None),
        None => Ok(()),
    }
}

fn find<'a>(keys: &'a [Key], word: &str) -> Option<&'a Key> {
    keys.iter().find(|key| key.word == word)
}

/// Where the key of that word is, added as the last one if it is new, and whether it is.
pub(super) fn enter(keys: &mut Vec<Key>, word: &str, place: Option<Place>) -> (usize, bool) {
    if let Some(index) = keys.iter().position(|key| key.word == word) {
        return (index, false);
    }
    let word = word.to_owned();
    keys.push(Key { word, values: Vec::new(), subkeys: Vec::new(), place });
    (keys.len() - 1, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_and_are_found_by_their_words() {
        let mut tree = Tree::new();
        tree.set("kernel.hugepagesz", ["1G"]).unwrap();
        tree.set("kernel.hugepages", ["8"]).unwrap();
        tree.set("init.splash", [""; 0]).unwrap();
        tree.set("kernel.hugepagesz", ["2M"]).unwrap();

        let leaves: Vec<_> = tree.leaves().iter().map(|(words, _)| words.join(".")).collect();
        assert_eq!(leaves, ["kernel.hugepagesz", "kernel.hugepages", "init.splash"]);
        assert_eq!(tree.get("kernel.hugepagesz").unwrap().values()[0].text(), "2M");
        assert!(tree.get("kernel").unwrap().values().is_empty());
        assert!(tree.get("kernel.hugepagesz.more").is_none());
        assert_eq!(tree.nodes(), 7);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let mut tree = Tree::new();
        for key in ["", ".", "kernel.", ".a", "a..b"] {
            let error = tree.set(key, ["1"]).unwrap_err();
            assert_eq!(error, KeyError::EmptyWord { key: key.to_owned() });
        }
        for (key, found) in [("a b", ' '), ("kernel.ключ", 'к'), ("a=b", '=')] {
            let error = tree.set(key, ["1"]).unwrap_err();
            assert_eq!(error, KeyError::Character { key: key.to_owned(), found });
        }
        assert_eq!(tree, Tree::new());
    }
}
