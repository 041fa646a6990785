//! Keeps `docs/bottlerocket.md` true: its examples are done as a reader would do them, one after the
//! other in one directory, and what the page says is printed has to be what is printed.
//!
//! A block is meant by what stands behind its three backticks: `toml NAME` and `text NAME` are
//! files, `toml NAME of JOB` is what that job's interfaces make, `console` is a session. Other
//! blocks are of a machine that is not here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nibs_bottlerocket::net_toml::{Mac, Names, Network, render};
use nibs_job::{FileFormat, Job, Task};
use tempfile::TempDir;

const FENCE: &str = "```";
const PROMPT: &str = "$ ";

/// The card that the page speaks of: its address, and what udev calls it.
const CARD: (&str, &str) = ("52:54:00:12:34:56", "ens3");

/// A fenced block.
struct Block {
    /// Of its first line in the page, from 1.
    line: usize,
    /// What stands behind the backticks.
    info: Vec<String>,
    text: String,
}

impl Block {
    fn info(&self) -> Vec<&str> {
        self.info.iter().map(String::as_str).collect()
    }
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn page() -> String {
    fs::read_to_string(docs().join("bottlerocket.md")).unwrap()
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix(FENCE)) {
            (None, Some(info)) => {
                let info = info.split_whitespace().map(str::to_owned).collect();
                open = Some(Block { line: index + 2, info, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// What a command prints, on whichever of the two outputs.
fn printed(command: &str, directory: &Path) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_nibs")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1\n{command}")])
        .current_dir(directory)
        .env("PATH", path)
        .env_remove("NIBS_LOG")
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A session as it goes here, with the commands of one in the page.
fn session(block: &Block, directory: &Path) -> String {
    let commands = block.text.lines().filter_map(|line| line.strip_prefix(PROMPT));
    commands.map(|command| format!("{PROMPT}{command}\n{}", printed(command, directory))).collect()
}

/// The `net.toml` of a job that describes interfaces.
fn made(job: &str) -> String {
    let job = Job::parse(job, FileFormat::Toml).unwrap();
    let Task::Bottlerocket(with) = &job.actions[0].task else { panic!("{job:?}") };
    let net = with.net.as_ref().unwrap();
    let network = Network::from_tables(net.interfaces.as_ref().unwrap()).unwrap();
    let find = |mac: &Mac| (mac.as_str() == CARD.0).then(|| CARD.1.to_owned());
    render(&network, net.format, &Names { find: &find, candidates: &[] }).unwrap()
}

#[test]
fn the_examples_print_what_the_page_says() {
    let directory = TempDir::new().unwrap();
    let mut files = BTreeMap::new();
    let mut commands = String::new();
    for block in blocks(&page()) {
        let line = block.line;
        match block.info()[..] {
            ["console"] => {
                let here = session(&block, directory.path());
                assert_eq!(here, block.text, "the session in line {line}");
                commands += &block.text;
            }
            ["toml" | "text", name] => {
                fs::write(directory.path().join(name), &block.text).unwrap();
                files.insert(name.to_owned(), block.text);
            }
            ["toml", _, "of", job] => {
                assert_eq!(made(&files[job]), block.text, "what {job} makes, in line {line}");
                commands += job;
            }
            ["sh" | "text"] => {}
            ref other => panic!("line {line}: a block of no known kind: {other:?}"),
        }
    }
    assert!(files.len() > 5 && commands.contains("nibs check job"), "{:?}", files.keys());
    for name in files.keys() {
        assert!(commands.contains(name.as_str()), "{name} is shown, and nothing is done with it");
    }
}

/// The anchors of a page: each heading in lower case, without punctuation, with `-` for spaces.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// Where the links of a page lead, but for those to the web.
fn links(page: &str) -> Vec<&str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target).filter(|target| !target.contains("://")).collect()
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let root = docs().join("..");
    let in_docs = fs::read_dir(docs()).unwrap().map(|entry| entry.unwrap().path());
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let pages: Vec<_> = in_docs.chain([root.join("README.md")]).filter(is_page).collect();
    assert!(pages.len() > 5, "{pages:?}");
    for path in pages {
        let page = fs::read_to_string(&path).unwrap();
        for link in links(&page) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let to = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            let from = path.display();
            assert!(to.exists(), "{from}: there is no {file}");
            if !anchor.is_empty() {
                let known = anchors(&fs::read_to_string(&to).unwrap());
                assert!(known.iter().any(|it| it == anchor), "{from}: {link} not in {known:#?}");
            }
        }
    }
}
