//! The kernel's own tool as the judge: `tools/bootconfig` of Linux 6.12, built from Debian's
//! `linux-source-6.12`, has to take what is taken here, pack it to the same bytes and print the
//! same list; `oracle.c` asks the kernel's parser for the command line.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use nibs_bottlerocket::bootconfig::{
    INIT, KERNEL, ParseErrorKind, footer, list, pack, parameters, parse, strip,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::conformance::samples_of;
use crate::texts;

const SOURCE: &str = "/usr/src/linux-source-6.12.tar.xz";
/// What of it is needed, in its top folder.
const MEMBERS: [&str; 4] = [
    "include/linux/bootconfig.h",
    "lib/bootconfig.c",
    "tools/bootconfig/include/linux/bootconfig.h",
    "tools/bootconfig/main.c",
];
/// Random texts, each of which starts three processes.
const CASES: u32 = 200;

struct Oracle {
    tool: PathBuf,
    /// None if the kernel's source is older than the function that it asks.
    cmdline: Option<PathBuf>,
}

/// The oracle, or why there is none.
fn oracle() -> Option<&'static Oracle> {
    static ORACLE: OnceLock<Result<Oracle, String>> = OnceLock::new();
    match ORACLE.get_or_init(build) {
        Ok(oracle) => Some(oracle),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

fn build() -> Result<Oracle, String> {
    let source = fs::metadata(SOURCE)
        .map_err(|_| format!("needs {SOURCE} (Debian package linux-source-6.12)"))?;
    if Command::new("cc").arg("--version").output().is_err() {
        return Err("needs a C compiler, cc".to_owned());
    }
    // Reading the archive takes seconds, so what was read of this very one is kept.
    let modified = source.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    let name = format!("bootconfig-{}-{}", source.len(), modified.as_secs());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !folder.is_dir() {
        let scratch = folder.with_extension(std::process::id().to_string());
        fs::create_dir_all(&scratch).unwrap();
        let members = MEMBERS.map(|member| format!("linux-source-6.12/{member}"));
        let mut tar = Command::new("tar");
        tar.args(["--strip-components=1", "--occurrence=1", "-xJf", SOURCE, "-C"]).arg(&scratch);
        run(tar.args(members));
        // Another test run may have been faster.
        if let Err(error) = fs::rename(&scratch, &folder) {
            fs::remove_dir_all(&scratch).unwrap();
            assert!(folder.is_dir(), "{error}");
        }
    }
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bootconfig/oracle.c");
    let parser = fs::read_to_string(folder.join("lib/bootconfig.c")).unwrap();
    let cmdline = if parser.contains("xbc_snprint_cmdline") {
        Some(compile(&folder, &driver, "cmdline"))
    } else {
        eprintln!("skipped: {SOURCE} has no xbc_snprint_cmdline to compare command lines with");
        None
    };
    let tool = compile(&folder, &folder.join("tools/bootconfig/main.c"), "bootconfig");
    Ok(Oracle { tool, cmdline })
}

/// Compiles `main` with the kernel's parser into a program of that name.
fn compile(folder: &Path, main: &Path, name: &str) -> PathBuf {
    let program = folder.join(name);
    let scratch = folder.join(format!("{name}.{}", std::process::id()));
    let mut cc = Command::new("cc");
    cc.arg("-w").arg("-o").arg(&scratch).arg("-I").arg(folder.join("tools/bootconfig/include"));
    run(cc.arg(main).arg(folder.join("lib/bootconfig.c")));
    fs::rename(&scratch, &program).unwrap();
    program
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    output
}

/// Files for one test, gone at its end.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let name = format!("bootconfig-{name}-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Oracle {
    /// The initrd with the text applied to it; none if the tool refuses the text.
    fn apply(&self, files: &Files, text: &str, initrd: &[u8]) -> Option<Vec<u8>> {
        let config = files.write("config", text.as_bytes());
        let initrd = files.write("initrd", initrd);
        let output = Command::new(&self.tool).arg("-a").args([&config, &initrd]).output().unwrap();
        output.status.success().then(|| fs::read(initrd).unwrap())
    }

    /// What is left of an initrd.
    fn delete(&self, files: &Files, initrd: &[u8]) -> Vec<u8> {
        let initrd = files.write("initrd", initrd);
        run(Command::new(&self.tool).arg("-d").arg(&initrd));
        fs::read(initrd).unwrap()
    }

    /// The list of a packed file.
    fn list(&self, files: &Files, packed: &[u8]) -> String {
        let packed = files.write("packed", packed);
        let output = run(Command::new(&self.tool).arg("-l").arg(packed));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The parameters of the kernel and of init, each in a line.
    fn cmdline(&self, text: &str) -> Option<String> {
        let mut child = Command::new(self.cmdline.as_ref()?)
            .args([KERNEL, INIT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", output.status);
        Some(String::from_utf8(output.stdout).unwrap())
    }

    /// Compares all that is made of a text. Says whether it was taken.
    fn compare(&self, files: &Files, text: &str) -> Result<bool, TestCaseError> {
        let theirs = self.apply(files, text, b"");
        let (parsed, packed) = match (parse(text), theirs) {
            (Ok(parsed), Some(packed)) => (parsed, packed),
            (Ok(parsed), None) => {
                return Err(TestCaseError::fail(format!("{text:?} is taken: {:?}", parsed.tree)));
            }
            (Err(_), None) => return Ok(false),
            (Err(error), Some(_)) => {
                // What this kernel takes and another does not, or cannot print.
                let known = matches!(
                    error.kind,
                    ParseErrorKind::ArrayOnLaterLine
                        | ParseErrorKind::TooDeep
                        | ParseErrorKind::KeyTooLong { .. }
                );
                prop_assert!(known, "{text:?} is refused: {error}");
                return Ok(false);
            }
        };
        prop_assert_eq!(pack(text).unwrap(), &packed[..], "{:?}", text);
        let list = list(&parsed.tree).unwrap_or_else(|cut| cut.printed);
        prop_assert_eq!(list, self.list(files, &packed), "{:?}", text);
        if let Some(theirs) = self.cmdline(text) {
            let [kernel, init] = [KERNEL, INIT].map(|key| parameters(&parsed.tree, key));
            prop_assert_eq!(format!("{kernel}\n{init}\n"), theirs, "{:?}", text);
        }
        Ok(true)
    }

    /// Compares random texts, of which at least so many in a hundred have to be taken.
    fn compare_random(&self, name: &str, texts: impl Strategy<Value = String>, percent: u32) {
        let files = Files::new(name);
        let taken = std::cell::Cell::new(0);
        let config = ProptestConfig { cases: CASES, failure_persistence: None, ..<_>::default() };
        let result = TestRunner::new(config).run(&texts, |text| {
            taken.set(taken.get() + u32::from(self.compare(&files, &text)?));
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
        let taken = taken.get();
        assert!(taken >= CASES * percent / 100, "only {taken} of {CASES} texts were taken");
    }
}

#[test]
fn every_sample_and_case_is_read_as_the_kernel_reads_it() {
    let Some(oracle) = oracle() else { return };
    let files = Files::new("samples");
    let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
    for prefix in ["good-", "bad-", "exp-", "escaped"] {
        texts.extend(samples_of(prefix));
    }
    for folder in ["good", "bad"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bootconfig").join(folder);
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let cases = paths.filter(|path| path.extension().is_some_and(|kind| kind == "bconf"));
        texts.extend(cases.map(|path| (path.display().to_string(), fs::read(&path).unwrap())));
    }
    for (name, bytes) in texts {
        let text = String::from_utf8(bytes).unwrap();
        // The tool does not see what follows a NUL.
        if !text.contains('\0') {
            oracle.compare(&files, &text).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn random_pieces_are_read_as_the_kernel_reads_them() {
    let Some(oracle) = oracle() else { return };
    // Nearly all of them are refused, here and there: that is what they are for.
    oracle.compare_random("pieces", texts::pieces(), 0);
}

#[test]
fn random_statements_are_read_as_the_kernel_reads_them() {
    let Some(oracle) = oracle() else { return };
    oracle.compare_random("statements", texts::statements(), 20);
}

#[test]
fn what_is_written_here_is_taken_by_the_kernel() {
    let Some(oracle) = oracle() else { return };
    let written =
        texts::trees().prop_map(|tree| nibs_bottlerocket::bootconfig::render(&tree).unwrap());
    oracle.compare_random("trees", written, 100);
}

#[test]
fn the_limits_are_the_kernels() {
    let Some(oracle) = oracle() else { return };
    let files = Files::new("limits");
    // Values count, and one that is replaced does not give its node back.
    for (count, taken) in [(8192, true), (8193, false)] {
        let values = vec!["1"; count - 3].join(",");
        assert_eq!(oracle.compare(&files, &format!("a = {values}\nb\nc\n")).unwrap(), taken);
        let values = vec!["1"; count - 4].join(",");
        let replaced = format!("a = {values}\na := 1\nb\nc\nd\n");
        assert_eq!(oracle.compare(&files, &replaced).unwrap(), taken);
        let values = vec!["1"; count - 5].join(",");
        let replaced = format!("a = {values}\na := 1,2\nb\nc\nd\n");
        assert_eq!(oracle.compare(&files, &replaced).unwrap(), taken);
    }
    for (length, taken) in [(255, true), (256, false)] {
        let key = format!("kernel.{}\n", "k".repeat(length - 7));
        assert_eq!(oracle.compare(&files, &key).unwrap(), taken);
    }
    for (words, taken) in [(15, true), (16, true), (17, false)] {
        let key = format!("kernel{} = 1\n", ".k".repeat(words - 1));
        assert_eq!(oracle.compare(&files, &key).unwrap(), taken);
    }
    // The tool takes a byte more, and a size that older kernels then refuse.
    let long = |length: usize| format!("kernel.a\n{}", "#".repeat(length - 9));
    assert!(oracle.compare(&files, &long(32_763)).unwrap());
    assert!(oracle.apply(&files, &long(32_764), b"").is_some());
    let kind = ParseErrorKind::TooLong { length: 32_764 };
    assert_eq!(parse(&long(32_764)).unwrap_err().kind, kind);
}

#[test]
fn an_initrd_gets_and_loses_its_configuration_as_the_tool_does_it() -> io::Result<()> {
    let Some(oracle) = oracle() else { return Ok(()) };
    let files = Files::new("initrds");
    let (old, text) = ("kernel.old = 1, 2, 3\n", "kernel.a = 1\n");
    for length in 0..9u8 {
        let initrd: Vec<u8> = (0..length).collect();
        let mut before = initrd.clone();
        before.extend(footer(old, u64::from(length)).unwrap());
        assert_eq!(oracle.apply(&files, old, &initrd).unwrap(), before);

        let mut after = strip(&before).unwrap().to_vec();
        after.extend(footer(text, u64::from(length)).unwrap());
        assert_eq!(oracle.apply(&files, text, &before).unwrap(), after);
        assert_eq!(oracle.delete(&files, &after), initrd);
    }
    Ok(())
}
