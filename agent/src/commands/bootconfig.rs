//! `nibs bootconfig`, and `bootconfig` as the kernel has it: the boot configuration at the end of
//! an initrd, of which a Bottlerocket machine's `bootconfig.data` is nothing but that.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use nibs_bottlerocket::bootconfig::{
    self, CutShort, PackError, ParseErrorKind, Parsed, Tree, UnpackError,
};
use nibs_bottlerocket::diagnostic::{Diagnostic, Severity};

use super::Exit;

/// What the kernel's tool ends with if it was not asked rightly: -1.
const KERNEL_TOOL_USAGE: u8 = 255;

/// `nibs bootconfig`
#[derive(Debug, Subcommand)]
pub enum Bootconfig {
    /// Make a bootconfig.data of a text. Warns of what Bottlerocket does not take.
    Pack {
        /// The text.
        #[arg(value_name = "IN")]
        input: PathBuf,
        /// The packed file.
        #[arg(value_name = "OUT")]
        output: PathBuf,
    },
    /// Print what the kernel makes of a file, text or packed or an initrd.
    Show(Show),
    /// Take the boot configuration from the end of an initrd.
    Strip {
        /// The initrd.
        file: PathBuf,
    },
}

/// `nibs bootconfig show`
#[derive(Debug, Args)]
pub struct Show {
    /// The file.
    pub file: PathBuf,

    /// The kernel's command line, if this is the loader's, instead of the list in /proc/bootconfig.
    #[arg(long, value_name = "LINE", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "")]
    pub cmdline: Option<String>,
}

/// `bootconfig`, with the options of the kernel's own tool.
#[derive(Debug, Parser)]
#[command(name = "bootconfig", version)]
struct KernelTool {
    /// Apply this boot configuration to the initrd, instead of the one it has.
    #[arg(short = 'a', value_name = "CONFIG", conflicts_with_all = ["delete", "list"])]
    apply: Option<PathBuf>,

    /// Delete the boot configuration from the initrd.
    #[arg(short = 'd', conflicts_with = "list")]
    delete: bool,

    /// List the keys and values, instead of the tree.
    #[arg(short = 'l')]
    list: bool,

    /// The initrd, or to look at it a text.
    #[arg(value_name = "INITRD")]
    file: PathBuf,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{doing} {}: {source}", .path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{}", at(.path, .finding))]
    Text { path: PathBuf, finding: Diagnostic, errno: i32 },
    #[error("{}: {source}", .path.display())]
    Unpack { path: PathBuf, source: UnpackError },
    #[error("{}: {source}", .path.display())]
    Pack { path: PathBuf, source: PackError },
    #[error("{}: no boot configuration at its end, and it is too long to be the text of one", .0.display())]
    NoConfiguration(PathBuf),
    #[error("{}: {source}", .path.display())]
    CutShort { path: PathBuf, source: CutShort },
}

impl Refused {
    fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }

    /// The kernel tool's exit code: minus an errno, as a byte.
    fn kernel_tool_code(&self) -> u8 {
        let errno = match self {
            Self::File { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Self::Text { errno, .. } => *errno,
            Self::Pack { .. } => libc::E2BIG,
            Self::Unpack { source, .. } => match source {
                UnpackError::TooLong { .. } | UnpackError::SizeBeyondStart { .. } => libc::E2BIG,
                _ => libc::EINVAL,
            },
            Self::NoConfiguration(_) | Self::CutShort { .. } => 0,
        };
        (-errno).to_le_bytes()[0]
    }
}

/// Runs `nibs bootconfig`.
pub(super) fn run(command: &Bootconfig) -> anyhow::Result<Exit> {
    let done = match command {
        Bootconfig::Pack { input, output } => pack(input, output),
        Bootconfig::Show(Show { file, cmdline }) => show(file, cmdline.as_deref()),
        Bootconfig::Strip { file } => strip(file).map(|()| String::new()),
    };
    match done {
        Ok(out) => {
            print(&out)?;
            Ok(Exit::Done)
        }
        Err(refused) => {
            if let Refused::CutShort { source, .. } = &refused {
                print(&source.printed)?;
            }
            eprintln!("{refused}");
            Ok(Exit::Failed)
        }
    }
}

/// Runs as the kernel's tool, by the process's arguments, with its exit codes: 0, or minus an
/// errno as a byte. Two are not the tool's: a text that cannot be read ends in EINVAL here, where
/// the tool shows it and ends with its size; and what it prints of such a text is ours.
pub fn kernel_tool() -> ExitCode {
    let code = match KernelTool::try_parse() {
        Ok(tool) => run_kernel_tool(&tool),
        Err(usage) => {
            // Nothing to be done if that cannot be said either.
            let _ = usage.print();
            KERNEL_TOOL_USAGE
        }
    };
    ExitCode::from(code)
}

fn run_kernel_tool(tool: &KernelTool) -> u8 {
    let file = &tool.file;
    let done = match &tool.apply {
        Some(config) => apply(config, file),
        None if tool.delete => strip(file).map(|()| String::new()),
        None => tree_of(file).and_then(|tree| match tool.list {
            true => list(file, &tree),
            false => Ok(bootconfig::compact(&tree)),
        }),
    };
    let (out, refused) = match done {
        Ok(out) => (out, None),
        Err(Refused::CutShort { path, source }) => {
            (source.printed.clone(), Some(Refused::CutShort { path, source }))
        }
        // An empty initrd has none, which is no error for the tool.
        Err(Refused::Text { errno: libc::ENOENT, .. })
            if tool.apply.is_none() && fs::metadata(file).is_ok_and(|file| file.len() == 0) =>
        {
            (String::new(), None)
        }
        Err(refused) => (String::new(), Some(refused)),
    };
    let printed = print(&out).map_err(Refused::file("printing what is in", file));
    match refused.or(printed.err()) {
        None => 0,
        Some(refused) => {
            eprintln!("{refused}");
            refused.kernel_tool_code()
        }
    }
}

/// Packs a text, and says what was made.
fn pack(input: &Path, output: &Path) -> Result<String, Refused> {
    let (text, parsed) = read_text(input)?;
    let ours = bootconfig::bottlerocket_check(&parsed.tree).into_iter();
    // It may be for another system, so what Bottlerocket refuses is only said.
    for finding in ours.map(|finding| Diagnostic { severity: Severity::Warning, ..finding }) {
        eprintln!("{}", at(input, &finding));
    }
    let refuse = |source| Refused::Pack { path: input.to_owned(), source };
    let packed = bootconfig::pack(&text).map_err(refuse)?;
    fs::write(output, &packed).map_err(Refused::file("writing", output))?;
    Ok(format!("{}: {} bytes\n", output.display(), packed.len()))
}

/// What the kernel makes of a file.
fn show(file: &Path, loader: Option<&str>) -> Result<String, Refused> {
    let tree = tree_of(file)?;
    match loader {
        Some(loader) => Ok(bootconfig::cmdline(&tree, loader).trim().to_owned() + "\n"),
        None => list(file, &tree),
    }
}

fn list(file: &Path, tree: &Tree) -> Result<String, Refused> {
    bootconfig::list(tree).map_err(|source| Refused::CutShort { path: file.to_owned(), source })
}

/// Applies a text to an initrd, and says what was applied, as the kernel's tool does.
fn apply(config: &Path, file: &Path) -> Result<String, Refused> {
    let (text, parsed) = read_text(config)?;
    let mut initrd = Initrd::open(file, true)?;
    let length = initrd.length_without()?;
    let refuse = |source| Refused::Pack { path: config.to_owned(), source };
    let footer = bootconfig::footer(&text, length).map_err(refuse)?;
    initrd.replace_end(length, &footer)?;
    Ok(format!(
        "Apply {} to {}\n\tNumber of nodes: {}\n\tSize: {} bytes\n",
        config.display(),
        file.display(),
        parsed.nodes,
        text.len() + 1,
    ))
}

/// Takes the boot configuration off an initrd; having none is all right.
fn strip(file: &Path) -> Result<(), Refused> {
    let mut initrd = Initrd::open(file, true)?;
    match initrd.length_without()? {
        length if length == initrd.length => Ok(()),
        length => initrd.replace_end(length, &[]),
    }
}

/// Reads and checks a text. Warnings are printed.
fn read_text(path: &Path) -> Result<(String, Parsed), Refused> {
    let bytes = fs::read(path).map_err(Refused::file("reading", path))?;
    let parsed = parse(path, &bytes)?;
    // What was parsed is UTF-8.
    Ok((String::from_utf8_lossy(&bytes).into_owned(), parsed))
}

/// What a file says: an initrd, a packed file, or a text.
fn tree_of(path: &Path) -> Result<Tree, Refused> {
    let initrd = Initrd::open(path, false)?;
    let parsed = match bootconfig::unpack(&initrd.tail) {
        Ok(text) => parse(path, text.as_bytes()),
        Err(UnpackError::MagicMissing { .. }) if initrd.length <= bootconfig::MAX_SIZE as u64 => {
            parse(path, &initrd.tail)
        }
        Err(UnpackError::MagicMissing { .. }) => Err(Refused::NoConfiguration(path.to_owned())),
        Err(source) => Err(Refused::Unpack { path: path.to_owned(), source }),
    };
    Ok(parsed?.tree)
}

/// Reads a text that came from a file. Warnings are printed.
fn parse(path: &Path, text: &[u8]) -> Result<Parsed, Refused> {
    let parsed = bootconfig::parse_bytes(text).map_err(|error| Refused::Text {
        path: path.to_owned(),
        errno: match error.kind {
            ParseErrorKind::Empty => libc::ENOENT,
            ParseErrorKind::TooLong { .. } => libc::E2BIG,
            ParseErrorKind::TooManyNodes => libc::ENOMEM,
            _ => libc::EINVAL,
        },
        finding: error.into(),
    })?;
    for warning in &parsed.warnings {
        eprintln!("{}", at(path, warning));
    }
    Ok(parsed)
}

/// A finding as compilers write it: `FILE:3:7: error: …`.
fn at(path: &Path, finding: &Diagnostic) -> String {
    finding.in_file(path.display())
}

fn print(out: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(out.as_bytes())?;
    stdout.flush()
}

/// A file that may be hundreds of megabytes long, of which the end matters.
struct Initrd {
    path: PathBuf,
    file: File,
    length: u64,
    /// Its last bytes, as many as a boot configuration may have.
    tail: Vec<u8>,
}

impl Initrd {
    fn open(path: &Path, write: bool) -> Result<Self, Refused> {
        let open = OpenOptions::new().read(true).write(write).open(path);
        let mut file = open.map_err(Refused::file("opening", path))?;
        let length = file.metadata().map_err(Refused::file("reading", path))?.len();
        let mut tail = Vec::new();
        let start = length.saturating_sub(bootconfig::TAIL as u64);
        file.seek(SeekFrom::Start(start))
            .and_then(|_| file.read_to_end(&mut tail))
            .map_err(Refused::file("reading", path))?;
        Ok(Self { path: path.to_owned(), file, length, tail })
    }

    /// The length without a boot configuration, which has to be whole if there is one.
    fn length_without(&self) -> Result<u64, Refused> {
        match bootconfig::strip(&self.tail) {
            Ok(before) => Ok(self.length - (self.tail.len() - before.len()) as u64),
            Err(UnpackError::MagicMissing { .. }) => Ok(self.length),
            Err(source) => Err(Refused::Unpack { path: self.path.clone(), source }),
        }
    }

    /// Puts bytes after the first `length` ones. If that fails the file is left with those alone.
    fn replace_end(&mut self, length: u64, end: &[u8]) -> Result<(), Refused> {
        let write = |file: &mut File| {
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
            file.write_all(end)?;
            file.sync_all()
        };
        write(&mut self.file).map_err(|error| {
            // The first error is the one to tell.
            let _ = self.file.set_len(length);
            Refused::file("writing", &self.path)(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kernel.console = \"ttyS0,115200n8\", \"tty0\"\ninit.splash\n";

    fn files() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (config, initrd) = (folder.path().join("config"), folder.path().join("initrd"));
        (folder, config, initrd)
    }

    /// Runs the kernel's tool with these arguments, the files' names among them.
    fn kernel_tool(arguments: &[&Path]) -> u8 {
        let name = Path::new("bootconfig");
        run_kernel_tool(&KernelTool::try_parse_from([&[name], arguments].concat()).unwrap())
    }

    /// The arguments of `nibs bootconfig show`.
    fn show_arguments(arguments: &[&str]) -> Show {
        #[derive(Debug, Parser)]
        struct Command {
            #[command(flatten)]
            show: Show,
        }
        Command::try_parse_from([&["show"], arguments].concat()).unwrap().show
    }

    #[test]
    fn the_loaders_line_may_be_left_out() {
        assert_eq!(show_arguments(&["file"]).cmdline, None);
        let Show { file, cmdline } = show_arguments(&["--cmdline", "file"]);
        assert_eq!((file, cmdline.as_deref()), (PathBuf::from("file"), Some("")));
    }

    fn option(option: &str) -> &Path {
        Path::new(option)
    }

    #[test]
    fn a_packed_text_shows_what_the_kernel_makes_of_it() {
        let (_folder, config, packed) = files();
        fs::write(&config, TEXT).unwrap();
        assert!(pack(&config, &packed).unwrap().ends_with(": 76 bytes\n"));
        assert_eq!(fs::read(&packed).unwrap(), bootconfig::pack(TEXT).unwrap());

        let expected = "kernel.console = \"ttyS0,115200n8\", \"tty0\"\ninit.splash = \"\"\n";
        assert_eq!(show(&packed, None).unwrap(), expected);
        assert_eq!(show(&config, None).unwrap(), expected);
        let Show { cmdline, .. } = show_arguments(&["--cmdline=ro", "file"]);
        let line = show(&packed, cmdline.as_deref()).unwrap();
        assert_eq!(line, "console=ttyS0,115200n8 console=tty0 ro -- splash\n");
        assert_eq!(run(&Bootconfig::Strip { file: packed.clone() }).unwrap(), Exit::Done);
        assert_eq!(fs::read(&packed).unwrap(), b"");
    }

    #[test]
    fn what_bottlerocket_does_not_take_is_packed_for_others() {
        let (_folder, config, packed) = files();
        fs::write(&config, "ftrace.event = 1\n").unwrap();
        pack(&config, &packed).unwrap();
        assert_eq!(show(&packed, None).unwrap(), "ftrace.event = \"1\"\n");
    }

    #[test]
    fn a_bad_text_is_told_with_its_place_and_nothing_is_written() {
        let (_folder, config, packed) = files();
        fs::write(&config, "kernel {\n  a = \"1\n}\n").unwrap();
        let refused = pack(&config, &packed).unwrap_err().to_string();
        let expected = format!("{}:2:7: error: kernel.a: this \" is never", config.display());
        assert!(refused.starts_with(&expected), "{refused}");
        assert!(!packed.exists());
        let command = Bootconfig::Pack { input: config, output: packed };
        assert_eq!(run(&command).unwrap(), Exit::Failed);
    }

    #[test]
    fn a_long_initrd_gets_and_loses_it_at_its_end() {
        let (_folder, config, path) = files();
        let before: Vec<u8> = (0..=250).cycle().take(3 * bootconfig::TAIL + 1).collect();
        fs::write(&path, &before).unwrap();
        fs::write(&config, "kernel.old = 1, 2\n").unwrap();
        assert_eq!(kernel_tool(&[option("-a"), &config, &path]), 0);
        fs::write(&config, TEXT).unwrap();
        assert_eq!(kernel_tool(&[option("-a"), &config, &path]), 0);

        let mut expected = before.clone();
        expected.extend(bootconfig::footer(TEXT, before.len() as u64).unwrap());
        assert_eq!(fs::read(&path).unwrap(), expected);
        assert!(show(&path, None).unwrap().starts_with("kernel.console = "));
        assert_eq!(kernel_tool(&[option("-l"), &path]), 0);
        assert_eq!(kernel_tool(&[&path]), 0);

        for _ in 0..2 {
            assert_eq!(kernel_tool(&[option("-d"), &path]), 0);
            assert_eq!(fs::read(&path).unwrap(), before);
        }
        assert!(matches!(show(&path, None), Err(Refused::NoConfiguration(_))));
        assert_eq!(kernel_tool(&[option("-l"), &path]), 0);
    }

    #[test]
    fn damage_is_told_and_nothing_is_changed() {
        let (_folder, config, path) = files();
        let mut damaged = bootconfig::pack(TEXT).unwrap();
        damaged[3] ^= 1;
        fs::write(&path, &damaged).unwrap();
        fs::write(&config, TEXT).unwrap();
        let code = (-libc::EINVAL).to_le_bytes()[0];
        for arguments in [&[option("-d"), &path][..], &[option("-a"), &config, &path]] {
            assert_eq!(kernel_tool(arguments), code);
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
        assert_eq!(run(&Bootconfig::Strip { file: path }).unwrap(), Exit::Failed);
    }

    #[test]
    fn exit_codes_are_the_kernel_tools() {
        let (folder, config, path) = files();
        let missing = folder.path().join("missing");
        fs::write(&path, "").unwrap();
        let code = |errno: i32| (-errno).to_le_bytes()[0];
        for (text, expected) in
            [("kernel {\n", libc::EINVAL), ("# nothing\n", libc::ENOENT), ("a\n", 0)]
        {
            fs::write(&config, text).unwrap();
            assert_eq!(kernel_tool(&[option("-a"), &config, &path]), code(expected), "{text}");
        }
        fs::write(&config, "#".repeat(40_000)).unwrap();
        assert_eq!(kernel_tool(&[option("-a"), &config, &path]), code(libc::E2BIG));
        fs::write(&path, "").unwrap();
        assert_eq!(kernel_tool(&[&path]), 0);
        assert_eq!(kernel_tool(&[&missing]), code(libc::ENOENT));
        assert_eq!(kernel_tool(&[option("-d"), &missing]), code(libc::ENOENT));
        assert_eq!(kernel_tool(&[option("-a"), &missing, &path]), code(libc::ENOENT));
    }

    #[test]
    fn one_thing_is_asked_of_the_kernels_tool_at_once() {
        for bad in [&["-d", "-l", "f"][..], &["-a", "c", "-d", "f"], &["-a", "c", "-l", "f"], &[]] {
            let arguments = [&["bootconfig"], bad].concat();
            assert!(KernelTool::try_parse_from(arguments).is_err(), "{bad:?}");
        }
    }
}
