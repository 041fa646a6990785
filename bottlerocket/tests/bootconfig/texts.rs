//! Texts and trees at random: near enough to the grammar that many are right, and many almost.

use nibs_bottlerocket::bootconfig::Tree;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What boot configurations are made of, and what they must not be made of.
const PIECES: &[&str] = &[
    "a", "b", "c-1", "a.b", "a.c", "b.a.b", "kernel", "init", "kernel.a", "init.b", " ", " ", "\t",
    "\n", "\n", "\n", ";", ";", "=", " = ", "=", "+=", ":=", "{", "{\n", "}", "}\n", ",", ", ",
    ",\n", "#", "# x\n", "'", "\"", "'q'", "\"q\"", "\"a, b\"", "\"\"", "1", "1,2", "x y", ".",
    "+", ":", "\r\n", "\u{b}", "\u{c}", "é", "\u{1}",
];

/// Pieces in any order.
pub(crate) fn pieces() -> impl Strategy<Value = String> {
    vec(select(PIECES), 0..24).prop_map(|pieces| pieces.concat())
}

/// Statements that are right each for itself.
pub(crate) fn statements() -> impl Strategy<Value = String> {
    let key = select(&["a", "b", "a.b", "a.b.c", "kernel", "kernel.a", "kernel.b.c", "init.a"][..]);
    let value = prop_oneof![
        "[a-z0-9=/{:+]{0,6}",
        "\"[ -!#-~]{0,8}\"",
        "'[ -&(-~]{0,8}'",
        Just("\"two\nlines\"".to_owned()),
        Just("\"\"".to_owned()),
    ];
    let comma = select(&[",", ", ", " ,\n  ", ", # x\n"][..]);
    let values = vec((value, comma), 0..4).prop_map(|values| {
        let mut text = String::new();
        for (index, (value, comma)) in values.iter().enumerate() {
            text.push_str(if index == 0 { "" } else { comma });
            text.push_str(value);
        }
        text
    });
    let sign = select(&[" = ", "=", " += ", " := "][..]);
    let assignment = (key.clone(), sign, values).prop_map(|(key, sign, values)| {
        let words = [key, sign, values.as_str()];
        words.concat()
    });
    let end = select(&["\n", ";", " # x\n", "\r\n", " ;\n\n"][..]);
    let simple = prop_oneof![4 => assignment, 1 => key.clone().prop_map(str::to_owned)];
    let simple = (simple, end).prop_map(|(statement, end)| statement + end);
    let block = (key, vec(simple.clone(), 0..4))
        .prop_map(|(key, statements)| format!("{key} {{ {}}}\n", statements.concat()));
    vec(prop_oneof![3 => simple, 1 => block], 1..8).prop_map(|statements| statements.concat())
}

/// Trees with values that quotes can hold.
pub(crate) fn trees() -> impl Strategy<Value = Tree> {
    let key = vec("[A-Za-z0-9_-]{1,4}", 1..6).prop_map(|words| words.join("."));
    let few =
        vec(select(&["a", "b", "kernel", "init"][..]), 1..6).prop_map(|words| words.join("."));
    let value = prop_oneof!["[ -!#-~\t]{0,12}", "[ -&(-~\t]{0,12}"];
    vec((prop_oneof![key, few], vec(value, 0..4)), 1..10).prop_map(|parameters| {
        let mut tree = Tree::new();
        for (key, values) in parameters {
            tree.set(&key, values).unwrap();
        }
        tree
    })
}
