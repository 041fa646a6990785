//! The same parameters as Bottlerocket's own setting, `settings.boot` of user data.
//!
//! Bottlerocket reads `bootconfig.data` into its settings at the first boot, unless user data sets
//! anything in `settings.boot`; and at every boot it writes `bootconfig.data` anew from its
//! settings (core-kit `sources/api/prairiedog/src/bootconfig.rs`). So where both are given they
//! have to say the same.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::tree::{Key, KeyError, Tree};
use super::{INIT, KERNEL};
use crate::diagnostic::{Diagnostic, Place};

/// The table `settings.boot`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BootSettings {
    /// Reboot at the first boot if its parameters are not the ones of this table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_to_reconcile: Option<bool>,
    /// Parameters of the kernel.
    #[serde(default, alias = "kernel", skip_serializing_if = "Parameters::is_empty")]
    pub kernel_parameters: Parameters,
    /// Arguments to init.
    #[serde(default, alias = "init", skip_serializing_if = "Parameters::is_empty")]
    pub init_parameters: Parameters,
}

/// A table of keys, each with a list of strings, in an order: some parameters change what the ones
/// after them mean. An empty list is a key without a value.
///
/// In a file it is a table. That has its order only if the reader of the file keeps it: a `toml`
/// without its feature `preserve_order` sorts by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, Vec<String>)>);

impl Parameters {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(key, values)| (key.as_str(), values.as_slice()))
    }

    /// The values of a key.
    pub fn get(&self, key: &str) -> Option<&[String]> {
        self.iter().find(|&(known, _)| known == key).map(|(_, values)| values)
    }

    /// The parameters of a tree under one of its two keys.
    fn of(tree: &Tree, word: &str) -> Self {
        let leaves = leaves(tree, word).into_iter();
        leaves.map(|(name, key)| (name, texts(key))).collect()
    }
}

impl FromIterator<(String, Vec<String>)> for Parameters {
    /// The last one of a key counts.
    fn from_iter<I: IntoIterator<Item = (String, Vec<String>)>>(parameters: I) -> Self {
        let mut list: Vec<(String, Vec<String>)> = Vec::new();
        for (key, values) in parameters {
            match list.iter_mut().find(|(known, _)| *known == key) {
                Some(entry) => entry.1 = values,
                None => list.push((key, values)),
            }
        }
        Self(list)
    }
}

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, values) in &self.0 {
            map.serialize_entry(key, values)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ParametersVisitor)
    }
}

struct ParametersVisitor;

impl<'de> Visitor<'de> for ParametersVisitor {
    type Value = Parameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of parameters, each with a list of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = map.next_entry::<String, Vec<String>>()? {
            list.push(entry);
        }
        Ok(list.into_iter().collect())
    }
}

impl TryFrom<&BootSettings> for Tree {
    type Error = KeyError;

    /// The boot configuration that Bottlerocket makes of the settings. Without any parameters it
    /// is the one that images are shipped with.
    fn try_from(settings: &BootSettings) -> Result<Self, KeyError> {
        let mut tree = Tree::new();
        for (word, parameters) in
            [(KERNEL, &settings.kernel_parameters), (INIT, &settings.init_parameters)]
        {
            tree.set(word, [""; 0])?;
            for (key, values) in parameters.iter() {
                tree.set(&format!("{word}.{key}"), values)?;
            }
        }
        Ok(tree)
    }
}

impl From<&Tree> for BootSettings {
    /// The settings that say the same as a tree, as far as it is [Bottlerocket's].
    ///
    /// Bottlerocket itself reads a bare key as one with an empty value, since the kernel lists
    /// both alike. Here it stays an empty list.
    ///
    /// [Bottlerocket's]: super::bottlerocket_check
    fn from(tree: &Tree) -> Self {
        Self {
            reboot_to_reconcile: None,
            kernel_parameters: Parameters::of(tree, KERNEL),
            init_parameters: Parameters::of(tree, INIT),
        }
    }
}

/// What a boot configuration and the table `settings.boot` of the user data beside it say
/// differently, each as an error. The order of keys is not looked at: Bottlerocket's own
/// comparison does not either.
pub fn consistency(tree: &Tree, settings: &BootSettings) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let tables = [
        (KERNEL, "kernel-parameters", &settings.kernel_parameters),
        (INIT, "init-parameters", &settings.init_parameters),
    ];
    for (word, table, parameters) in tables {
        let leaves = leaves(tree, word);
        for (name, key) in &leaves {
            let here = texts(key);
            let message = match parameters.get(name) {
                None => format!(
                    "it is not in settings.boot.{table} of user data, from which Bottlerocket \
                     rewrites the boot configuration, so the next boot would lose it; add \
                     \"{name}\" = {here:?} there, or leave settings.boot out of user data"
                ),
                Some(there) if *there != here => format!(
                    "it is {here:?} here and {there:?} in settings.boot.{table} of user data, from \
                     which Bottlerocket rewrites the boot configuration; let both say the same"
                ),
                Some(_) => continue,
            };
            findings.push(Diagnostic::error(place(key), format!("{word}.{name}"), message));
        }
        for (name, values) in parameters.iter() {
            if !leaves.iter().any(|(known, _)| known == name) {
                let message = format!(
                    "settings.boot.{table} of user data sets it to {values:?}, but the boot \
                     configuration does not, so the first boot would be without it; add it here"
                );
                findings.push(Diagnostic::error(None, format!("{word}.{name}"), message));
            }
        }
    }
    findings
}

/// The keys under `word` with their names after it.
fn leaves<'a>(tree: &'a Tree, word: &str) -> Vec<(String, &'a Key)> {
    let mut leaves = Vec::new();
    for key in tree.get(word).map_or(&[][..], Key::subkeys) {
        key.collect(&[], &mut leaves);
    }
    leaves.into_iter().map(|(words, key)| (words.join("."), key)).collect()
}

fn texts(key: &Key) -> Vec<String> {
    key.values().iter().map(|value| value.text().to_owned()).collect()
}

fn place(key: &Key) -> Option<Place> {
    key.values().first().map_or(key.place(), super::Value::place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootconfig::{EMPTY, parse, render};

    const TEXT: &str = "kernel {\n  console = \"ttyS0,115200n8\", \"tty0\"\n  quiet\n}\n\
                        init.systemd.log_level = \"debug\"\n";

    const SETTINGS: &str = r#"
        reboot-to-reconcile = true
        [kernel-parameters]
        console = ["ttyS0,115200n8", "tty0"]
        quiet = []
        [init-parameters]
        "systemd.log_level" = ["debug"]
    "#;

    fn tree(text: &str) -> Tree {
        parse(text).unwrap().tree
    }

    fn settings(text: &str) -> BootSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn one_makes_the_other() {
        let settings = settings(SETTINGS);
        assert_eq!(Tree::try_from(&settings).unwrap(), tree(TEXT));
        let mut back = BootSettings::from(&tree(TEXT));
        back.reboot_to_reconcile = Some(true);
        assert_eq!(back, settings);
    }

    #[test]
    fn no_parameters_are_the_shipped_configuration() {
        let none = BootSettings::default();
        assert_eq!(Tree::try_from(&none).unwrap(), tree(EMPTY));
        assert_eq!(BootSettings::from(&tree(EMPTY)), none);
    }

    #[test]
    fn the_order_of_parameters_is_kept() {
        let pairs = ["hugepagesz", "hugepages", "a"].map(|key| (key.to_owned(), vec![]));
        let kernel_parameters = pairs.into_iter().collect();
        let settings = BootSettings { kernel_parameters, ..BootSettings::default() };
        let text = render(&Tree::try_from(&settings).unwrap()).unwrap();
        assert_eq!(text, "kernel.hugepagesz\nkernel.hugepages\nkernel.a\ninit\n");
        assert_eq!(BootSettings::from(&tree(&text)), settings);
    }

    #[test]
    fn the_names_that_bottlerocket_stores_are_taken_and_others_not() {
        let short = settings("kernel = { quiet = [] }\ninit = { a = [\"1\"] }");
        assert_eq!(short.kernel_parameters.get("quiet"), Some(&[][..]));
        assert_eq!(short.init_parameters.get("a"), Some(&["1".to_owned()][..]));
        for bad in ["kernel-parameter = {}", "kernel = { a = \"1\" }", "kernel = { a.b = [] }"] {
            assert!(toml::from_str::<BootSettings>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        let settings = settings("kernel = { \"a b\" = [] }");
        let error = Tree::try_from(&settings).unwrap_err();
        assert_eq!(error, KeyError::Character { key: "kernel.a b".to_owned(), found: ' ' });
    }

    #[test]
    fn what_says_the_same_is_consistent() {
        assert_eq!(consistency(&tree(TEXT), &settings(SETTINGS)), []);
        let settings = BootSettings { reboot_to_reconcile: Some(true), ..BootSettings::default() };
        assert_eq!(consistency(&tree(EMPTY), &settings), []);
    }

    #[test]
    fn each_difference_is_an_error_with_its_place() {
        let settings = settings(
            "kernel-parameters = { console = [\"tty0\"], quiet = [\"\"], extra = [\"1\", \"2\"] }",
        );
        let findings = consistency(&tree(TEXT), &settings);
        let found: Vec<_> = findings.iter().map(ToString::to_string).collect();
        let expected = [
            "2:13: error: kernel.console: it is [\"ttyS0,115200n8\", \"tty0\"] here and [\"tty0\"]",
            "3:3: error: kernel.quiet: it is [] here and [\"\"] in settings.boot.kernel-parameters",
            "error: kernel.extra: settings.boot.kernel-parameters of user data sets it to [\"1\",",
            "5:26: error: init.systemd.log_level: it is not in settings.boot.init-parameters",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }

    /// The trap: user data that only asks for the reboot, and a configuration beside it.
    #[test]
    fn any_boot_setting_drops_the_file() {
        let findings = consistency(&tree(TEXT), &settings("reboot-to-reconcile = true"));
        assert_eq!(findings.len(), 3);
    }
}
