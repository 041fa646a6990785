//! The container's thread: from an empty root to the program's end.

use std::io::PipeWriter;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, Sender};

use nibs_job::params::{NetworkNamespace, PidNamespace, RunContainer};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;

use super::end::Processes;
use super::error::{Error, Result};
use super::image::Config;
use super::layer::{self, LayerError};
use super::program::Program;
use super::room::Room;
use super::root::{Place, Root};
use crate::image::ChunkReader;
use crate::{Machine, Sink, Stop};

/// What the thread is given.
pub(super) struct Task<'a> {
    pub(super) params: &'a RunContainer,
    pub(super) config: &'a Config,
    pub(super) machine: &'a Machine,
    pub(super) stop: &'a Stop,
    pub(super) sink: &'a dyn Sink,
    pub(super) place: &'a Place,
    pub(super) stdout: PipeWriter,
    pub(super) stderr: PipeWriter,
}

/// What comes from outside.
pub(super) enum Feed {
    /// A layer, from the lowest up.
    Layer { digest: String, chunks: ChunkReader },
    /// That were all, and they are proven.
    Whole,
}

/// What is told outside, in this order.
#[derive(Debug)]
pub(super) enum Said {
    /// There is a root, with so much room.
    Room(Room),
    /// The program runs.
    Running(Processes),
    /// It has ended.
    Ended(ExitStatus),
}

/// Runs the container. None: the image did not come whole, which is known outside.
pub(super) fn run(task: Task<'_>, feed: &Receiver<Feed>, say: &Sender<Said>) -> Result<Option<()>> {
    let params = task.params;
    let network = match params.network {
        NetworkNamespace::Host => CloneFlags::empty(),
        NetworkNamespace::None => CloneFlags::CLONE_NEWNET,
    };
    let (root, room) = Root::enter(task.place, &params.volumes, task.machine, network)?;
    // Whoever does not listen any more has a reason, which is told there.
    let _ = say.send(Said::Room(room.clone()));
    let image = params.image.to_string();
    let mut is_lowest = true;
    loop {
        match feed.recv() {
            Ok(Feed::Whole) => break,
            Ok(Feed::Layer { digest, mut chunks }) => {
                let unpacked = layer::unpack(&mut chunks, is_lowest, task.stop);
                // Whatever else was said, or is still to come.
                task.stop.check()?;
                // Whatever its decoder said: the layer did not come whole.
                if !matches!(unpacked, Err(LayerError::Full)) && chunks.ends_broken() {
                    return Ok(None);
                }
                let degraded = unpacked.map_err(|error| match error {
                    LayerError::Full => room.full(&image),
                    LayerError::Wrong(cause) => {
                        Error::Layer { image: image.clone(), layer: digest, cause }
                    }
                })?;
                warn_of(&degraded, task.sink);
                is_lowest = false;
            }
            Err(_) => return Ok(None),
        }
    }
    root.furnish(task.sink)?;
    let program = Program::new(&image, task.config, &params.command, &params.environment)?;
    if params.pid == PidNamespace::Own {
        enter_pid_namespace(task.sink)?;
    }
    task.stop.check()?;
    let mut child = program.start(task.stdout, task.stderr)?;
    let pid = i32::try_from(child.id()).map_or(Pid::this(), Pid::from_raw);
    let _ =
        say.send(Said::Running(Processes { program: pid, namespace: root.namespace().to_owned() }));
    let waited = child.wait();
    let status = waited.map_err(|cause| Error::Prepare { step: "waiting for it".into(), cause })?;
    let _ = say.send(Said::Ended(status));
    Ok(Some(()))
}

/// The next child of this thread will see its own processes only.
fn enter_pid_namespace(sink: &dyn Sink) -> Result<()> {
    match unshare(CloneFlags::CLONE_NEWPID) {
        Ok(()) => Ok(()),
        Err(Errno::EINVAL) => {
            let missing = "this kernel has no PID namespaces (CONFIG_PID_NS): the container sees \
                           the machine's processes";
            sink.warning(missing.into());
            Ok(())
        }
        Err(errno) => {
            let step = "making its PID namespace".into();
            Err(Error::Prepare { step, cause: errno.into() })
        }
    }
}

/// A layer has too many files to name each.
fn warn_of(degraded: &[String], sink: &dyn Sink) {
    if let Some(first) = degraded.first() {
        let more = match degraded.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more like it"),
        };
        sink.warning(format!("{first}{more}: the filesystem keeps no such attributes"));
    }
}
