//! User data as files: `user_data/good` is taken without a word, `user_data/warned` with words,
//! `user_data/bad` is refused. Beside each of the latter is a `.expected` file with the findings,
//! one a line. What options a file is checked with, its comments say (`#: variant metal-k8s-1.28`).

use std::fs;
use std::path::{Path, PathBuf};

use nibs_bottlerocket::diagnostic::{Diagnostic, Severity};
use nibs_bottlerocket::net_toml::Dns;
use nibs_bottlerocket::user_data::{self, MAX_FINDINGS, Options, Variant, check, decode};
use proptest::prelude::*;

/// What every value of `secrets.toml` holds.
const SECRET: &str = "hunter2";

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/user_data").join(name)
}

fn samples(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no samples in {name}");
    files
}

fn options(text: &str) -> Options {
    let mut options = Options::default();
    for option in text.lines().filter_map(|line| line.strip_prefix("#: ")) {
        match option.split_once(' ') {
            Some(("variant", name)) => options.variant = Some(Variant::of_image(name).unwrap()),
            Some(("version", version)) => options.os_version = Some(version.parse().unwrap()),
            None if option == "static-network" => options.static_network = true,
            _ => panic!("unknown option {option}"),
        }
    }
    options
}

fn findings(path: &Path) -> Vec<Diagnostic> {
    let text = decode(&fs::read(path).unwrap()).unwrap().text;
    check(&text, &options(&text))
}

fn shown(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

/// Compares with the file beside the sample; says what to write there if it differs.
fn expect(path: &Path, diagnostics: &[Diagnostic]) {
    let expected = fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
    let found = shown(diagnostics);
    assert_eq!(found, expected, "{}: found\n{found}", path.display());
}

fn is_refused(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

#[test]
fn good_files_are_taken_without_a_word() {
    for path in samples("good") {
        assert_eq!(shown(&findings(&path)), "", "{}", path.display());
    }
}

#[test]
fn warned_files_are_taken_with_the_expected_words() {
    for path in samples("warned") {
        let found = findings(&path);
        assert!(!is_refused(&found), "{}:\n{}", path.display(), shown(&found));
        expect(&path, &found);
    }
}

#[test]
fn bad_files_are_refused_with_the_expected_words() {
    for path in samples("bad") {
        let found = findings(&path);
        assert!(is_refused(&found), "{}:\n{}", path.display(), shown(&found));
        expect(&path, &found);
    }
}

#[test]
fn no_finding_quotes_a_value() {
    let path = directory("bad/secrets.toml");
    let text = fs::read_to_string(&path).unwrap();
    let found = shown(&check(&text, &options(&text)));
    assert!(found.lines().count() > 20, "{found}");
    assert!(!found.contains(SECRET), "{found}");

    // Nor does the parser, wherever the text breaks off.
    for (end, _) in text.char_indices() {
        let cut = shown(&check(&text[..end], &Options::default()));
        assert!(!cut.contains(SECRET), "{cut}");
    }
    for broken in
        ["a = hunter2", "a = \"hunter2", "hunter2", "a = 'x' hunter2", "a = \"\\hunter2\""]
    {
        let found = shown(&check(broken, &Options::default()));
        assert!(found.contains("error") && !found.contains(SECRET), "{found}");
    }
}

#[test]
fn findings_are_bounded() {
    let keys: String = (0..100_000).map(|number| format!("x{number} = 1\n")).collect();
    let found = check(&format!("[settings]\n{keys}"), &Options::default());
    assert_eq!(found.len(), MAX_FINDINGS);
}

#[test]
fn an_empty_file_is_taken_with_a_warning() {
    let found = check("", &Options::default());
    assert_eq!(shown(&found), "warning: the file is empty: the OS starts with its defaults\n");
}

#[test]
fn line_ends_do_not_change_the_findings() {
    let lines = |text: &str, options: &Options| -> Vec<_> {
        let found = check(text, options).into_iter();
        found.map(|found| (found.place.map(|at| at.line), found.key, found.message)).collect()
    };
    for path in ["good", "warned", "bad"].into_iter().flat_map(samples) {
        let text = fs::read_to_string(path).unwrap();
        let options = options(&text);
        assert_eq!(lines(&text, &options), lines(&text.replace('\n', "\r\n"), &options));
    }
}

fn any_toml() -> impl Strategy<Value = String> {
    let words = [
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        ".",
        ",",
        "=",
        "\n",
        " ",
        "#",
        "\"",
        "'",
        "\"\"\"",
        "\\",
        "settings",
        "kubernetes",
        "node-taints",
        "boot",
        "kernel",
        "host-containers",
        "ntp",
        "time-servers",
        "true",
        "-1",
        "1.5",
        "1979-05-27",
        "a:b",
        "é",
        "\u{1b}",
        "\u{feff}",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..40)
        .prop_map(|words| words.concat())
}

fn exercise(text: &str) {
    let options = Options { static_network: true, ..Options::default() };
    let refused = is_refused(&check(text, &options));
    let boot = user_data::boot_settings(text);
    assert!(refused || boot.is_ok(), "{text}");
    let dns = Dns { name_servers: vec!["::1".parse().unwrap()], search_list: vec![] };
    if let Ok(added) = user_data::add_dns(text, &dns)
        && !refused
    {
        assert!(!is_refused(&check(&added, &options)), "{added}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(decoded) = decode(&bytes) {
            exercise(&decoded.text);
        }
        let mut gzip = vec![0x1f, 0x8b];
        gzip.extend(bytes);
        let _ = decode(&gzip);
    }

    #[test]
    fn no_toml_makes_it_panic(text in any_toml()) {
        exercise(&text);
        exercise(&format!("[settings]\n{text}"));
    }
}
