//! What Bottlerocket takes of what the kernel takes, and what cannot work.
//!
//! At the first boot Bottlerocket's `prairiedog` reads `/proc/bootconfig` into settings. What it
//! cannot read ends the boot, with nobody to see it. At each boot it reads them back from
//! `/etc/prairiedog.toml`, which a template writes (core-kit `sources/api/prairiedog`,
//! bottlerocket `packages/os/prairiedog-toml`).

use super::limits::{
    MAX_INIT_ARGUMENTS, MAX_NODES_BEFORE_5_19, MAX_PRINTED_DEPTH, SHIPPED_INIT_ARGUMENTS,
};
use super::pack::{self, UnpackError};
use super::parser::{self, Parsed};
use super::tree::{Key, Tree, Value};
use super::{INIT, KERNEL, print};
use crate::diagnostic::Diagnostic;

/// A parameter that has to come before another to count for it.
const ORDERED: [(&str, &str); 1] = [("kernel.hugepagesz", "kernel.hugepages")];

/// What a check of a file found.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// What the file says; none if that is not known.
    pub tree: Option<Tree>,
    /// All that was found, errors and warnings.
    pub findings: Vec<Diagnostic>,
}

impl Checked {
    /// Whether Bottlerocket takes the file.
    pub fn is_valid(&self) -> bool {
        !self.findings.iter().any(Diagnostic::is_error)
    }

    fn refused(finding: Diagnostic) -> Self {
        Self { tree: None, findings: vec![finding] }
    }
}

/// Checks the bytes of a file, text or packed, for all that can be wrong with it on Bottlerocket.
pub fn check(data: &[u8]) -> Checked {
    match pack::unpack(data) {
        Err(UnpackError::MagicMissing { .. }) => check_text(data),
        _ => check_packed(data),
    }
}

/// As [`check`], of a text that is yet to be packed.
pub fn check_text(text: &[u8]) -> Checked {
    match parser::parse_bytes(text) {
        Ok(Parsed { tree, warnings, .. }) => {
            let mut findings = [warnings, bottlerocket_check(&tree)].concat();
            findings.sort_by_key(|finding| finding.place);
            Checked { tree: Some(tree), findings }
        }
        Err(error) => Checked::refused(error.into()),
    }
}

/// As [`check`], of the file that the machine reads. A kernel ignores a text that is not packed.
pub fn check_packed(data: &[u8]) -> Checked {
    match pack::unpack(data) {
        Ok(text) => check_text(text.as_bytes()),
        Err(error @ UnpackError::MagicMissing { .. }) => {
            let advice = "a kernel ignores what is not packed; nibs bootconfig pack does that";
            Checked::refused(Diagnostic::error(None, "", format!("{error}; {advice}")))
        }
        Err(error) => Checked::refused(Diagnostic::error(None, "", error.to_string())),
    }
}

/// What Bottlerocket does not take of a tree, or what cannot work there. What a text may not have
/// meant to say is in [`Parsed::warnings`]; [`check`] gives both.
pub fn bottlerocket_check(tree: &Tree) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    for key in tree.keys() {
        match key.word() {
            KERNEL | INIT => check_parent(key, &mut findings),
            word => findings.push(error(
                key,
                word,
                "Bottlerocket takes no keys but those under 'kernel' and 'init', and does not end \
                 its first boot with this one",
            )),
        }
    }
    for (words, key) in tree.leaves() {
        let name = words.join(".");
        if words.len() > MAX_PRINTED_DEPTH {
            let message = format!(
                "the key has {} words; with more than {MAX_PRINTED_DEPTH} the kernel's list \
                 /proc/bootconfig ends before it, and Bottlerocket loses the rest",
                words.len()
            );
            findings.push(error(key, &name, message));
        }
        for value in key.values() {
            check_value(&name, value, &mut findings);
        }
    }
    check_order(tree, &mut findings);
    check_limits(tree, &mut findings);
    findings
}

/// `kernel` and `init` themselves: the kernel lists them if they have a value or no subkeys.
fn check_parent(key: &Key, findings: &mut Vec<Diagnostic>) {
    let word = key.word();
    match key.values() {
        [] => {}
        [only] if only.text().is_empty() && key.subkeys().is_empty() => {}
        [only] if only.text().is_empty() => findings.push(error(
            key,
            word,
            format!(
                "the kernel drops all parameters under '{word}' if it has a value itself, even an \
                 empty one; remove it"
            ),
        )),
        _ => findings.push(error(
            key,
            word,
            format!(
                "'{word}' cannot have a value itself, Bottlerocket does not end its first boot with \
                 one; write {word}.NAME = VALUE"
            ),
        )),
    }
}

fn check_value(name: &str, value: &Value, findings: &mut Vec<Diagnostic>) {
    let text = value.text();
    let strange = text.chars().find(|&c| !matches!(c, ' '..='~'));
    let message = if let Some(found) = strange {
        format!(
            "Bottlerocket cannot read the value {text:?} back from /proc/bootconfig: it holds \
             {found:?}, allowed is printable ASCII"
        )
    } else if text.contains('"') && text.contains('\'') {
        format!("Bottlerocket takes no value with both ' and \" in it, as {text} has")
    } else if let Some(found) = text.chars().find(|&c| c == '"' || c == '\\') {
        format!(
            "Bottlerocket cannot keep the value {text}: it writes {found} unescaped into \
             /etc/prairiedog.toml, and then cannot read that"
        )
    } else {
        return;
    };
    findings.push(Diagnostic::error(value.place(), name, message));
}

fn check_order(tree: &Tree, findings: &mut Vec<Diagnostic>) {
    let leaves = tree.leaves();
    let position = |name: &str| leaves.iter().position(|(words, _)| words.join(".") == name);
    for (first, second) in ORDERED {
        if let (Some(late), Some(early)) = (position(first), position(second))
            && early < late
        {
            let message = format!(
                "it comes before {first} and so is not about pages of that size; put {first} first"
            );
            let place = leaves[early].1.place();
            findings.push(Diagnostic::warning(place, second, message));
        }
    }
}

fn check_limits(tree: &Tree, findings: &mut Vec<Diagnostic>) {
    let arguments = match print::parameters(tree, INIT).is_empty() {
        true => 0,
        false => {
            let leaves = tree.leaves().into_iter().filter(|(words, _)| words[0] == INIT);
            leaves.map(|(_, key)| key.values().len().max(1)).sum()
        }
    };
    let room = MAX_INIT_ARGUMENTS - SHIPPED_INIT_ARGUMENTS;
    if arguments > room {
        let message = format!(
            "these are {arguments} arguments to init; the kernel panics at more than \
             {MAX_INIT_ARGUMENTS}, of which Bottlerocket's own take {SHIPPED_INIT_ARGUMENTS}, so at \
             most {room} can be here"
        );
        let place = tree.get(INIT).and_then(Key::place);
        findings.push(Diagnostic::error(place, INIT, message));
    }
    let nodes = tree.nodes();
    if nodes > MAX_NODES_BEFORE_5_19 {
        let message = format!(
            "there are {nodes} key words and values; kernels before 5.19 take at most \
             {MAX_NODES_BEFORE_5_19}"
        );
        findings.push(Diagnostic::warning(None, "", message));
    }
}

fn error(key: &Key, name: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(key.place(), name, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootconfig::EMPTY;

    /// The findings of a text as a compiler would print them.
    fn findings(text: &str) -> Vec<String> {
        check(text.as_bytes()).findings.iter().map(ToString::to_string).collect()
    }

    fn assert_finds(text: &str, expected: &str) {
        let found = findings(text);
        assert!(
            matches!(&found[..], [only] if only.starts_with(expected)),
            "{text:?}: expected {expected:?}, found {found:#?}"
        );
    }

    #[test]
    fn what_bottlerocket_takes_has_no_findings() {
        for text in [
            EMPTY,
            "kernel = \"\"\ninit = ''\n",
            "kernel {\n console = \"ttyS0,115200n8\", \"tty0\"\n quiet\n it = \"it's\"\n}\n",
            "kernel.a-b_C.9 = \" !#$%&()*+,-./:;<=>?@[]^_`{|}~\"\n",
            "kernel.a = 1, 2\ninit.splash\n",
            "kernel.hugepagesz = 1G\nkernel.hugepages = 8\n",
        ] {
            assert_eq!(findings(text), [""; 0], "{text}");
            assert!(check(&pack::pack(text).unwrap()).is_valid(), "{text}");
        }
    }

    #[test]
    fn only_kernel_and_init_have_parameters() {
        assert_finds("kernel.a = 1\nkernelx.b = 1\n", "2:1: error: kernelx: Bottlerocket takes no");
    }

    #[test]
    fn the_two_parents_have_no_value() {
        assert_finds("kernel = x\n", "1:1: error: kernel: 'kernel' cannot have a value itself");
        assert_finds("init = \"\", \"\"\n", "1:1: error: init: 'init' cannot have a value itself");
        let dropped = "1:1: error: kernel: the kernel drops all parameters under 'kernel'";
        assert_finds("kernel = \"\"\nkernel.a = 1\n", dropped);
    }

    #[test]
    fn values_can_be_read_back() {
        let tab = "1:12: error: kernel.a: Bottlerocket cannot read the value \"x\\ty\" back";
        assert_finds("kernel.a = \"x\ty\"\n", tab);
        assert_finds("kernel.a = \"x\ny\"\n", "1:12: error: kernel.a: Bottlerocket cannot read");
        assert_finds(
            "kernel.a = x'\"\n",
            "1:12: error: kernel.a: Bottlerocket takes no value with",
        );
        assert_finds("kernel.a = 'x\"'\n", "1:12: error: kernel.a: Bottlerocket cannot keep");
        assert_finds("kernel.a = 'x\\y'\n", "1:12: error: kernel.a: Bottlerocket cannot keep");
    }

    #[test]
    fn fifteen_levels_under_kernel_are_one_too_many() {
        let nested = |levels: usize| {
            let keys: String = (0..levels).map(|level| format!("k{level} {{\n")).collect();
            format!("kernel {{\n{keys}{}", "}\n".repeat(levels + 1))
        };
        assert_eq!(findings(&nested(14)), [""; 0]);
        assert_finds(&nested(15), "16:1: error: kernel.k0.k1.k2.k3.k4.k5.k6.k7.k8.k9.k10.k11");
        assert_finds(&nested(16), "17:5: error: kernel.k0");
    }

    #[test]
    fn too_many_arguments_to_init_panic_the_kernel() {
        let arguments = |count: usize| {
            let values: Vec<_> = (1..count).map(|value| format!("\"{value}\"")).collect();
            format!("init.bare\ninit.a = {}\n", values.join(", "))
        };
        assert_eq!(findings(&arguments(28)), [""; 0]);
        assert_finds(&arguments(29), "1:1: error: init: these are 29 arguments to init");
    }

    #[test]
    fn page_sizes_come_before_numbers_of_pages() {
        let text = "kernel.hugepages = 8\nkernel.hugepagesz = 1G\n";
        assert_finds(text, "1:8: warning: kernel.hugepages: it comes before kernel.hugepagesz");
        assert!(check(text.as_bytes()).is_valid());
    }

    #[test]
    fn old_kernels_have_room_for_less() {
        let many: String = (0..1023).map(|key| format!("kernel.k{key}\n")).collect();
        assert_eq!(findings(&many), [""; 0]);
        let text = format!("{many}kernel.more\n");
        assert_finds(&text, "warning: there are 1025 key words and values; kernels before 5.19");
    }

    #[test]
    fn a_damaged_packed_file_is_named() {
        let mut data = pack::pack(EMPTY).unwrap();
        data[0] = b'K';
        let checked = check(&data);
        assert!(checked.findings[0].message.contains("checksum"), "{:?}", checked.findings);
        assert!(checked.tree.is_none() && !checked.is_valid());
    }

    #[test]
    fn a_text_that_is_none_is_refused_where_it_ends() {
        let checked = check(b"kernel.a = 1\nb\xff\n");
        let said = checked.findings[0].to_string();
        assert!(said.starts_with("2:2: error: this byte is not UTF-8"), "{said}");
    }
}
