//! A container's program: which it is, and its start.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, PipeWriter, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nibs_job::Secret;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgid, setgroups, setsid, setuid};

use super::error::{Error, Result};
use super::image::Config;
use super::user::User;

/// Where programs are looked for if the image says nothing, as Docker has it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long another process may take from its fork(2) to its execve(2).
const WRITERS_TIMEOUT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// The words of a command line: the image's entry point, then `command` or the image's own.
pub(super) fn words(config: &Config, command: &[String]) -> Vec<String> {
    let arguments = if command.is_empty() { &config.command } else { command };
    config.entrypoint.iter().chain(arguments).cloned().collect()
}

/// What is to be run.
#[derive(Debug)]
pub(super) struct Program {
    image: String,
    words: Vec<String>,
    environment: BTreeMap<String, Secret>,
    directory: PathBuf,
    user: User,
}

impl Program {
    /// The program of an image, in the root of the calling thread. `command` replaces the image's
    /// `CMD`, and `environment` overrides what the image sets.
    pub(super) fn new(
        image: &str,
        config: &Config,
        command: &[String],
        environment: &BTreeMap<String, Secret>,
    ) -> Result<Self> {
        let words = words(config, command);
        if words.is_empty() {
            return Err(Error::NoProgram { image: image.to_owned() });
        }
        let user = User::look_up(&config.user).map_err(|cause| Error::User {
            image: image.to_owned(),
            user: config.user.clone(),
            cause,
        })?;
        let host = nix::unistd::gethostname().unwrap_or_default();
        let mut all = BTreeMap::from([
            ("PATH".to_owned(), Secret::new(PATH)),
            ("HOME".to_owned(), Secret::new(&*user.home)),
            ("HOSTNAME".to_owned(), Secret::new(host.to_string_lossy())),
        ]);
        for setting in &config.environment {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            all.insert(key.to_owned(), Secret::new(value));
        }
        all.extend(environment.clone());
        let directory = Path::new("/").join(&config.working_directory);
        fs::create_dir_all(&directory).map_err(|cause| Error::Prepare {
            step: format!("making its working directory {}", directory.display()),
            cause,
        })?;
        Ok(Self { image: image.to_owned(), words, environment: all, directory, user })
    }

    /// Its name, as it is called.
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// Starts it in the root and the namespaces of the calling thread.
    pub(super) fn start(&self, stdout: PipeWriter, stderr: PipeWriter) -> Result<Child> {
        let failed = |cause| Error::Start {
            image: self.image.clone(),
            program: self.name().to_owned(),
            cause,
        };
        let found = self.find()?;
        // The C library would take what the kernel cannot run for a shell's script.
        if is_foreign(&found) {
            return Err(failed(io::Error::from_raw_os_error(libc::ENOEXEC)));
        }
        wait_for_writers(&found);
        let mut command = Command::new(found);
        command.arg0(self.name()).args(&self.words[1..]).current_dir(&self.directory).env_clear();
        command.envs(self.environment.iter().map(|(key, value)| (key, value.expose())));
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let (uid, gid) = (Uid::from_raw(self.user.uid), Gid::from_raw(self.user.gid));
        let groups: Vec<_> = self.user.groups.iter().copied().map(Gid::from_raw).collect();
        let enter = move || -> io::Result<()> {
            setsid()?;
            // Here, since a procfs shows the PID namespace of who mounts it.
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)?;
            setgroups(&groups)?;
            setgid(gid)?;
            setuid(uid)?;
            // Should the agent be killed. After setuid(2), which clears it. The parent that counts
            // is the calling thread, not the process: it waits for the program's end.
            Ok(set_pdeathsig(Signal::SIGKILL)?)
        };
        // SAFETY: between fork and exec the closure only makes system calls, on memory that was
        // allocated before; nix copies short paths to its stack.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(enter);
        }
        command.spawn().map_err(failed)
    }

    /// Where the program is. Looked up here, so that what is not there has an error of its own.
    fn find(&self) -> Result<PathBuf> {
        let name = self.name();
        let is_program = |path: &PathBuf| {
            let found = path.metadata();
            found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        let not_found = |looked: String| Error::NotFound {
            image: self.image.clone(),
            program: name.to_owned(),
            looked,
        };
        if name.contains('/') {
            let path = self.directory.join(name);
            // What is there but not executable the kernel refuses in its own words.
            return if path.exists() { Ok(path) } else { Err(not_found("that place".into())) };
        }
        let path = self.environment.get("PATH").map_or("", Secret::expose);
        let mut places = path.split(':').map(|place| self.directory.join(place).join(name));
        places.find(is_program).ok_or_else(|| not_found(format!("PATH ({path})")))
    }
}

/// Waits until nobody has the program open for writing, which execve(2) refuses (ETXTBSY): what
/// another thread of the agent forked while a layer was unpacked holds the layer's files until its
/// own execve(2). Starting it again would not do: the first process of a PID namespace is its last.
fn wait_for_writers(program: &Path) {
    // Else the kernel refuses it in its own words.
    if !program.metadata().is_ok_and(|found| found.is_file()) {
        return;
    }
    let Ok(file) = fs::File::open(program) else { return };
    let deadline = Instant::now() + WRITERS_TIMEOUT;
    while Instant::now() < deadline {
        // SAFETY: takes no memory. The lease ends with the descriptor.
        #[allow(unsafe_code)]
        let lease = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
        // Of what is open for writing there is none to be had (F_SETLEASE of fcntl(2)).
        if Errno::result(lease) != Err(Errno::EAGAIN) {
            return;
        }
        thread::sleep(POLL);
    }
}

/// Whether a program is for machines of another kind (ELF, `e_machine` of its header).
fn is_foreign(program: &Path) -> bool {
    // A FIFO would never be open. The kernel refuses it in its own words.
    if !program.metadata().is_ok_and(|found| found.is_file()) {
        return false;
    }
    let mut head = [0; 20];
    let read = fs::File::open(program).and_then(|mut file| file.read_exact(&mut head));
    let machine = u16::from_le_bytes([head[18], head[19]]);
    let own: &[u16] = match std::env::consts::ARCH {
        "x86_64" => &[libc::EM_X86_64, libc::EM_386],
        "aarch64" => &[libc::EM_AARCH64, libc::EM_ARM],
        _ => return false,
    };
    read.is_ok() && head.starts_with(b"\x7fELF") && !own.contains(&machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_still_open_for_writing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        let writer = fs::File::create(&program).unwrap();
        let hold = Duration::from_millis(300);
        let begun = Instant::now();
        let closer = thread::spawn(move || {
            thread::sleep(hold);
            drop(writer);
        });
        wait_for_writers(&program);
        assert!((hold..WRITERS_TIMEOUT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        closer.join().unwrap();
    }
}
