//! What a kernel makes of a boot configuration: the list in `/proc/bootconfig` and the parameters
//! on its command line, byte for byte; and the indented form of the kernel's tool.

use std::fmt::Write;

use thiserror::Error;

use super::limits::MAX_PRINTED_DEPTH;
use super::tree::{Key, Tree, Value};
use super::{INIT, KERNEL};

/// A list that ends before its time, as the kernel's does.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error(
    "listing boot configuration: {key} has more than {MAX_PRINTED_DEPTH} words; the kernel's list \
     (/proc/bootconfig) ends before it"
)]
pub struct CutShort {
    /// The lines before that key.
    pub printed: String,
    /// The key.
    pub key: String,
}

/// One line for each key, `key = "value", "value"`, as `bootconfig -l` prints it. `/proc/bootconfig`
/// differs in one thing: the tool forgets the other values of a list that begins with an empty one.
pub fn list(tree: &Tree) -> Result<String, CutShort> {
    let mut printed = String::new();
    for (words, key) in tree.leaves() {
        if words.len() > MAX_PRINTED_DEPTH {
            return Err(CutShort { printed, key: words.join(".") });
        }
        let values = match key.values().first() {
            None => "\"\"".to_owned(),
            Some(first) if first.text().is_empty() => "\"\"".to_owned(),
            Some(_) => quoted(key.values()),
        };
        // Writing into a string cannot fail.
        let _ = writeln!(printed, "{} = {values}", words.join("."));
    }
    Ok(printed)
}

/// What the kernel puts on its command line for the subkeys of [`KERNEL`] or of [`INIT`]:
/// `key=value ` for each value, `key ` for a key without one (`xbc_snprint_cmdline` in Linux 6.12;
/// older kernels put every value in double quotes).
///
/// It is nothing at all if the key has a value itself: the kernel then drops its subkeys too.
pub fn parameters(tree: &Tree, key: &str) -> String {
    let Some(root) = tree.get(key).filter(|root| !root.is_leaf()) else { return String::new() };
    let mut leaves = Vec::new();
    for key in root.subkeys() {
        key.collect(&[], &mut leaves);
    }
    let mut line = String::new();
    for (words, key) in leaves {
        let name = words.join(".");
        if key.values().is_empty() {
            let _ = write!(line, "{name} ");
        }
        for value in key.values() {
            let quote = if value.text().contains([' ', '\t', '\r', '\n']) { "\"" } else { "" };
            let _ = write!(line, "{name}={quote}{value}{quote} ");
        }
    }
    line
}

/// The whole command line, as `/proc/cmdline` shows it, of a kernel that the loader gave `loader`
/// (`setup_command_line` in `init/main.c`): kernel parameters come before the loader's, and
/// arguments to init directly after its `--`, which is added if it is not there.
pub fn cmdline(tree: &Tree, loader: &str) -> String {
    let kernel = parameters(tree, KERNEL);
    let init = parameters(tree, INIT);
    let init = init.trim();
    if init.is_empty() {
        return kernel + loader;
    }
    match init_arguments(loader) {
        Some(offset) => {
            // The kernel repeats the byte before, a space but for a loader's line that ends there.
            format!("{kernel}{}{init}{}", &loader[..offset], &loader[offset - 1..])
        }
        None => format!("{kernel}{loader} -- {init}"),
    }
}

/// The offset after the `--` of a command line and its spaces. Quotes hide it, as from the kernel.
fn init_arguments(line: &str) -> Option<usize> {
    let mut quoted = false;
    let mut word = 0;
    for (offset, c) in line.char_indices().chain([(line.len(), ' ')]) {
        quoted ^= c == '"';
        if c.is_ascii_whitespace() && !quoted {
            if &line[word..offset] == "--" {
                let rest = line[offset..].trim_ascii_start();
                return Some(line.len() - rest.len());
            }
            word = offset + 1;
        }
    }
    None
}

/// The tree in braces, as `bootconfig` prints it without an option, less a brace too many that the
/// tool closes after a key with a value and a single subkey inside of braces.
pub fn compact(tree: &Tree) -> String {
    let mut out = String::new();
    compact_keys(tree.keys(), 0, &mut out);
    out
}

fn compact_keys(keys: &[Key], depth: usize, out: &mut String) {
    let indent = "\t".repeat(depth);
    for key in keys {
        let mut name = key.word().to_owned();
        let mut key = key;
        if !key.values().is_empty() {
            let _ = writeln!(out, "{indent}{name} = {};", quoted(key.values()));
            if key.subkeys().is_empty() {
                continue;
            }
        }
        // Keys that lead to one other key only are joined with it, but for one that is to be
        // printed twice, for its value and for its subkeys.
        while let [only] = key.subkeys() {
            if !only.values().is_empty() && !only.subkeys().is_empty() {
                break;
            }
            name = format!("{name}.{}", only.word());
            key = only;
        }
        if key.subkeys().is_empty() && !key.values().is_empty() {
            let _ = writeln!(out, "{indent}{name} = {};", quoted(key.values()));
        } else if key.subkeys().is_empty() {
            let _ = writeln!(out, "{indent}{name};");
        } else {
            let _ = writeln!(out, "{indent}{name} {{");
            compact_keys(key.subkeys(), depth + 1, out);
            let _ = writeln!(out, "{indent}}}");
        }
    }
}

fn quoted(values: &[Value]) -> String {
    let quoted = values.iter().map(|value| {
        let quote = if value.text().contains('"') { '\'' } else { '"' };
        format!("{quote}{value}{quote}")
    });
    quoted.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootconfig::parse;

    fn tree(text: &str) -> Tree {
        parse(text).unwrap().tree
    }

    #[test]
    fn parameters_are_the_kernels() {
        let tree = tree(
            "kernel { console = \"ttyS0,115200n8\", tty0; quiet; dyndbg = \"file a +p\"; e = '' }\n\
             init.splash\n",
        );
        assert_eq!(
            parameters(&tree, KERNEL),
            "console=ttyS0,115200n8 console=tty0 quiet dyndbg=\"file a +p\" e= "
        );
        assert_eq!(parameters(&tree, INIT), "splash ");
        assert_eq!(parameters(&tree, "other"), "");
    }

    #[test]
    fn a_value_of_kernel_itself_drops_all_its_parameters() {
        assert_eq!(parameters(&tree("kernel = ''\nkernel.quiet\n"), KERNEL), "");
        assert_eq!(parameters(&tree("kernel {}\n"), KERNEL), "");
    }

    #[test]
    fn arguments_to_init_come_before_the_loaders() {
        let tree = tree("kernel.quiet\ninit { a = 1; b }\n");
        for (loader, expected) in [
            ("root=/dev/vda ro", "quiet root=/dev/vda ro -- a=1 b"),
            ("ro -- c", "quiet ro -- a=1 b c"),
            ("ro --  c=\"d e\" f", "quiet ro --  a=1 b c=\"d e\" f"),
            ("ro --", "quiet ro --a=1 b-"),
            ("x=\" -- \" -- c", "quiet x=\" -- \" -- a=1 b c"),
            ("--x --y", "quiet --x --y -- a=1 b"),
        ] {
            assert_eq!(cmdline(&tree, loader), expected);
        }
        let none = super::super::EMPTY;
        assert_eq!(cmdline(&parse(none).unwrap().tree, "ro -- c"), "ro -- c");
    }

    #[test]
    fn a_list_ends_where_the_kernels_does() {
        let deep = "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p";
        let error = list(&tree(&format!("first = 1\n{deep}\nlast\n"))).unwrap_err();
        let printed = "first = \"1\"\n".to_owned();
        assert_eq!(error, CutShort { printed, key: deep.to_owned() });
        let fits = &deep[..deep.len() - 2];
        assert_eq!(list(&tree(&format!("{fits}\n"))).unwrap(), format!("{fits} = \"\"\n"));
    }

    #[test]
    fn braces_are_closed_once() {
        let text = "a { b = 1; b.c = 2; d { e; f = 3 } }\ng = 4\n";
        let printed = compact(&tree(text));
        let expected = "a {\n\tb = \"1\";\n\tb.c = \"2\";\n\td {\n\t\te;\n\t\tf = \"3\";\n\t}\n}\n\
                        g = \"4\";\n";
        assert_eq!(printed, expected);
        assert_eq!(tree(&printed), tree(text));
    }
}
