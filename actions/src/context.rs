//! What an action gets from the executor: the machine, a way to stop it, and ears for what it says.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nibs_bottlerocket::net_toml::Lease;
use nibs_job::{LogLevel, Progress};
use tokio_util::sync::CancellationToken;

/// Where an action says how far it is and what it found.
pub trait Sink: Send + Sync {
    /// How far the action is. Only the latest matters.
    fn progress(&self, progress: Progress);
    /// The work starts over from its first byte.
    fn reset(&self, reason: String);
    /// Something is not as it should be, and the work goes on.
    fn warning(&self, message: String);
    /// A line for the log.
    fn log(&self, level: LogLevel, message: String);
}

/// The roots below which a machine is seen, where tests put directories of their own, and what its
/// owner knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// sysfs.
    pub sysfs: PathBuf,
    /// Device nodes.
    pub dev: PathBuf,
    /// procfs.
    pub proc: PathBuf,
    /// EFI variables.
    pub efivars: PathBuf,
    /// What lasts as long as the machine is up.
    pub run: PathBuf,
    /// What programs ship that is the same on every machine.
    pub share: PathBuf,
    /// An OCI image layout with the container images that came along.
    pub images: PathBuf,
    /// The DHCP lease by which this process keeps the machine's network up; none if another does.
    pub lease: Option<Lease>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            sysfs: "/sys".into(),
            dev: "/dev".into(),
            proc: "/proc".into(),
            efivars: "/sys/firmware/efi/efivars".into(),
            run: "/run".into(),
            share: "/usr/share".into(),
            images: "/images".into(),
            lease: None,
        }
    }
}

impl Machine {
    /// Where a device node that a job names below `/dev` is on this machine.
    pub fn device(&self, path: impl AsRef<Path>) -> PathBuf {
        match path.as_ref().strip_prefix("/dev") {
            Ok(below) => self.dev.join(below),
            Err(_) => path.as_ref().to_owned(),
        }
    }
}

/// Why work ended before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    /// Somebody told it to stop.
    #[error("cancelled")]
    Cancelled,
    /// The action's `timeout` has passed.
    #[error("the action's timeout has passed")]
    TimedOut,
}

/// When work has to end early. Clones share the same cancellation.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Cancels the work.
    pub cancel: CancellationToken,
    /// When the work has to be done.
    pub deadline: Option<Instant>,
}

impl Stop {
    /// Fails once the work has to end. Cheap: asked at every block.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.cancel.is_cancelled() {
            return Err(Interrupted::Cancelled);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Interrupted::TimedOut),
            _ => Ok(()),
        }
    }

    /// Waits for a future, at most until the work has to end.
    pub async fn guard<T>(&self, future: impl Future<Output = T>) -> Result<T, Interrupted> {
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.cancel.cancelled() => Err(Interrupted::Cancelled),
            () = deadline => Err(Interrupted::TimedOut),
            output = future => Ok(output),
        }
    }

    /// A stop that ends with this one, and that can be cancelled by itself.
    pub fn child(&self) -> Self {
        Self { cancel: self.cancel.child_token(), deadline: self.deadline }
    }
}

/// What an action gets from the executor.
#[derive(Clone)]
pub struct Context {
    /// The machine it works on.
    pub machine: Machine,
    /// When it has to end early.
    pub stop: Stop,
    /// Where it says how far it is.
    pub sink: Arc<dyn Sink>,
    /// The runtime that drives HTTP. It must make progress by itself (multi-thread), since the
    /// action's threads block on it.
    pub runtime: tokio::runtime::Handle,
    /// How clients for HTTP are made on this machine.
    pub http: crate::http::Options,
    /// The disk that an earlier action of the same job wrote.
    pub installed_disk: Option<PathBuf>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("machine", &self.machine)
            .field("stop", &self.stop)
            .field("installed_disk", &self.installed_disk)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Fails once the action has to end.
    pub fn check(&self) -> Result<(), Interrupted> {
        self.stop.check()
    }

    /// Says something for the log, of ordinary importance.
    pub fn info(&self, message: impl Into<String>) {
        self.sink.log(LogLevel::Info, message.into());
    }
}

/// Hears nothing, for tests of what says nothing that matters.
#[cfg(test)]
pub(crate) struct Deaf;

#[cfg(test)]
impl Sink for Deaf {
    fn progress(&self, _: Progress) {}
    fn reset(&self, _: String) {}
    fn warning(&self, _: String) {}
    fn log(&self, _: LogLevel, _: String) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn device_nodes_are_looked_up_below_the_machines_root() {
        let machine = Machine { dev: "/tmp/fake/dev".into(), ..Machine::default() };
        assert_eq!(machine.device("/dev/disk/by-id/x"), Path::new("/tmp/fake/dev/disk/by-id/x"));
        assert_eq!(machine.device("/elsewhere"), Path::new("/elsewhere"));
    }

    #[test]
    fn a_child_ends_with_its_parent_but_not_the_other_way_round() {
        let parent = Stop::default();
        let (first, second) = (parent.child(), parent.child());
        first.cancel.cancel();
        assert_eq!(first.check(), Err(Interrupted::Cancelled));
        assert_eq!(parent.check(), Ok(()));
        parent.cancel.cancel();
        assert_eq!(second.check(), Err(Interrupted::Cancelled));
    }

    #[tokio::test]
    async fn waiting_ends_at_the_deadline() {
        let deadline = Some(Instant::now() + Duration::from_millis(10));
        let stop = Stop { deadline, ..Stop::default() };
        let waited = stop.guard(std::future::pending::<()>()).await;
        assert_eq!(waited, Err(Interrupted::TimedOut));
        assert_eq!(stop.check(), Err(Interrupted::TimedOut));
    }
}
