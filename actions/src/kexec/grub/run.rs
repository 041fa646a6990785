//! Runs the statements of a `grub.cfg`, as far as they decide about what is started.

use super::super::Entry;
use super::Variables;
use super::script::{Piece, Statement, Word};

/// What GRUB says of itself to its scripts.
const FEATURES: [&str; 4] = [
    "feature_menuentry_id",
    "feature_platform_search_hint",
    "feature_default_font_path",
    "feature_timeout_style",
];

/// Commands that load a kernel of Linux, and its initramfs, by all their names.
const LINUX: [&str; 3] = ["linux", "linux16", "linuxefi"];
const INITRD: [&str; 3] = ["initrd", "initrd16", "initrdefi"];

/// How much the values of variables may come to wherever they stand, in bytes. Far more than any
/// menu needs, but `set a="$a$a"` a few dozen times would take all memory.
pub(super) const MOST_EXPANDED: usize = 1 << 20;

/// An item of a menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// An entry.
    Entry { title: String, id: String, body: Vec<Statement> },
    /// A menu within the menu.
    Submenu { title: String, id: String, body: Vec<Statement> },
    /// Where entries of the Boot Loader Specification go.
    Specification,
    /// One of those.
    Known { id: String, entry: Entry },
}

impl Item {
    pub(super) fn title(&self) -> &str {
        match self {
            Self::Entry { title, .. } | Self::Submenu { title, .. } => title,
            Self::Known { entry, .. } => &entry.title,
            Self::Specification => "",
        }
    }

    pub(super) fn id(&self) -> &str {
        match self {
            Self::Entry { id, .. } | Self::Submenu { id, .. } | Self::Known { id, .. } => id,
            Self::Specification => "",
        }
    }
}

/// The state of a script that runs.
pub(super) struct Interpreter<'a> {
    variables: Variables,
    environment: &'a Variables,
    /// Bytes that variables stood for so far.
    expanded: usize,
}

/// What statements leave behind.
#[derive(Default)]
struct Made {
    items: Vec<Item>,
    kernel: Option<String>,
    initrds: Vec<String>,
    arguments: Vec<String>,
}

impl<'a> Interpreter<'a> {
    /// One that finds `environment` where a script loads it.
    pub(super) fn new(environment: &'a Variables) -> Self {
        let mut variables: Variables =
            FEATURES.map(|name| (name.to_owned(), "y".to_owned())).into_iter().collect();
        variables.insert("grub_platform".into(), "efi".into());
        Self { variables, environment, expanded: 0 }
    }

    /// The value of a variable; empty if it has none.
    pub(super) fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// Whether variables stood for more than is allowed; where they did, they stood for nothing.
    pub(super) fn is_too_long(&self) -> bool {
        self.expanded > MOST_EXPANDED
    }

    /// Runs statements and tells the menu that they make.
    pub(super) fn run(&mut self, statements: &[Statement]) -> Vec<Item> {
        let mut made = Made::default();
        self.statements(statements, &mut made);
        made.items
    }

    /// Runs an entry's statements and tells what they start, if that is a kernel of Linux.
    pub(super) fn boot(&mut self, title: &str, body: &[Statement]) -> Option<Entry> {
        let mut made = Made::default();
        self.statements(body, &mut made);
        Some(Entry {
            title: title.to_owned(),
            kernel: without_device(&made.kernel?).into(),
            initrds: made.initrds.iter().map(|path| without_device(path).into()).collect(),
            command_line: made.arguments.join(" "),
        })
    }

    /// Titles of the entries, in menus within too, that start a kernel of Linux.
    pub(super) fn bootable(&mut self, items: &[Item]) -> Vec<String> {
        let mut titles = Vec::new();
        for item in items {
            match item {
                Item::Entry { title, body, .. } => {
                    titles.extend(self.boot(title, body).map(|entry| format!("{:?}", entry.title)));
                }
                Item::Submenu { body, .. } => {
                    let within = self.run(body);
                    titles.extend(self.bootable(&within));
                }
                Item::Known { entry, .. } => titles.push(format!("{:?}", entry.title)),
                Item::Specification => {}
            }
        }
        titles
    }

    /// The words of a text, with the values of the variables in them.
    pub(super) fn expanded(&mut self, text: &str) -> Vec<String> {
        match super::script::parse(&format!("echo {text}")).as_deref() {
            Ok([Statement::Command { words, .. }]) => {
                words.iter().skip(1).flat_map(|word| self.word(word)).collect()
            }
            _ => text.split_ascii_whitespace().map(str::to_owned).collect(),
        }
    }

    /// Whether the last of the statements succeeded.
    fn statements(&mut self, statements: &[Statement], made: &mut Made) -> bool {
        let mut succeeded = true;
        for statement in statements {
            succeeded = match statement {
                Statement::If { branches, otherwise } => {
                    let mut chosen = otherwise;
                    for (condition, body) in branches {
                        if self.statements(condition, made) {
                            chosen = body;
                            break;
                        }
                    }
                    self.statements(chosen, made)
                }
                Statement::Command { words, block } => {
                    self.command(words, block.as_deref().unwrap_or_default(), made)
                }
            };
        }
        succeeded
    }

    fn command(&mut self, words: &[Word], block: &[Statement], made: &mut Made) -> bool {
        let words: Vec<String> = words.iter().flat_map(|word| self.word(word)).collect();
        let Some((name, arguments)) = words.split_first() else { return true };
        match name.as_str() {
            "set" => {
                if let Some((name, value)) = arguments.first().and_then(|a| a.split_once('=')) {
                    self.variables.insert(name.to_owned(), value.to_owned());
                }
                true
            }
            "unset" => {
                arguments.iter().for_each(|name| drop(self.variables.remove(name)));
                true
            }
            "load_env" => {
                let loaded = self.environment.iter();
                self.variables.extend(loaded.map(|(name, value)| (name.clone(), value.clone())));
                true
            }
            "menuentry" | "submenu" => {
                let (title, id) = title_and_id(arguments);
                let body = block.to_vec();
                made.items.push(match name.as_str() {
                    "submenu" => Item::Submenu { title, id, body },
                    _ => Item::Entry { title, id, body },
                });
                true
            }
            "blscfg" => {
                made.items.push(Item::Specification);
                true
            }
            "[" | "test" => {
                let end = arguments.len() - usize::from(arguments.last().is_some_and(|a| a == "]"));
                self.test(&arguments[..end])
            }
            "false" => false,
            name if LINUX.contains(&name) => {
                made.kernel = arguments.first().cloned();
                made.arguments = arguments.iter().skip(1).map(|a| with_quotes(a)).collect();
                true
            }
            name if INITRD.contains(&name) => {
                let files = arguments.iter().filter(|argument| !argument.starts_with("--"));
                made.initrds = files.cloned().collect();
                true
            }
            name => {
                if let Some((name, value)) = name.split_once('=') {
                    self.variables.insert(name.to_owned(), value.to_owned());
                }
                true
            }
        }
    }

    /// A condition of test(1), as far as scripts use it.
    fn test(&self, arguments: &[String]) -> bool {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let joined = |operator| arguments.iter().position(|argument| *argument == operator);
        if let Some(at) = joined("-o") {
            let (left, right) = (&arguments[..at], &arguments[at + 1..]);
            return simple(left, self.environment) || simple(right, self.environment);
        }
        if let Some(at) = joined("-a") {
            let (left, right) = (&arguments[..at], &arguments[at + 1..]);
            return simple(left, self.environment) && simple(right, self.environment);
        }
        simple(&arguments, self.environment)
    }

    /// What a word stands for: one word, none if it is empty and not in quotes, or several if blanks
    /// are in a variable that is not.
    fn word(&mut self, word: &Word) -> Vec<String> {
        let mut words = vec![String::new()];
        for piece in &word.pieces {
            let last = words.len() - 1;
            let (name, quoted) = match piece {
                Piece::Text(text) => {
                    words[last].push_str(text);
                    continue;
                }
                Piece::Variable { name, quoted } => (name, *quoted),
            };
            self.expanded = self.expanded.saturating_add(self.variable(name).len());
            if self.is_too_long() {
                break;
            }
            let value = self.variable(name);
            if quoted {
                words[last].push_str(value);
            } else {
                let mut parts = value.split_ascii_whitespace();
                words[last].push_str(parts.next().unwrap_or_default());
                words.extend(parts.map(str::to_owned));
            }
        }
        if words == [""] && !word.quoted {
            words.clear();
        }
        words
    }
}

fn simple(arguments: &[&str], environment: &Variables) -> bool {
    match arguments {
        ["!", rest @ ..] => !simple(rest, environment),
        [text] | ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        // Of the files only this one is known here.
        ["-s" | "-e" | "-f", file] => file.ends_with("/grubenv") && !environment.is_empty(),
        [left, "=" | "==", right] => left == right,
        [left, "!=", right] => left != right,
        _ => false,
    }
}

/// Title and id of an entry. Options other than `--id` have a value too, save `--unrestricted`.
fn title_and_id(arguments: &[String]) -> (String, String) {
    let (mut title, mut id) = (String::new(), String::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--id" => id = arguments.next().cloned().unwrap_or_default(),
            "--unrestricted" => {}
            "--class" | "--users" | "--hotkey" | "--source" => drop(arguments.next()),
            other => {
                if let Some(value) = other.strip_prefix("--id=") {
                    value.clone_into(&mut id);
                } else if !other.starts_with("--") && title.is_empty() {
                    other.clone_into(&mut title);
                }
            }
        }
    }
    (title, id)
}

/// A path without the device before it, as in `(hd0,gpt2)/vmlinuz`: there is only one filesystem.
fn without_device(path: &str) -> &str {
    match path.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((_, path)) => path,
        None => path,
    }
}

/// An argument as GRUB hands it to the kernel: one with a blank in quotes.
pub(super) fn with_quotes(argument: &str) -> String {
    if argument.contains(' ') { format!("\"{argument}\"") } else { argument.to_owned() }
}
