//! One task of a job, done.

use std::path::PathBuf;

use nibs_job::Task;

use crate::stream_image::Explanation;
use crate::{
    Context, Error, PowerChange, archive, boot_order, bottlerocket, kexec, layout, power,
    run_command, storage, stream_image, upload_image, write_files,
};

/// What an action has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// What is not as asked for though the goal was reached, one sentence each.
    pub degraded: Vec<String>,
    /// The disk that was written, for the actions after it.
    pub installed_disk: Option<PathBuf>,
    /// What the machine is to do once the job's end is acknowledged.
    pub then: Option<PowerChange>,
}

/// Does one task. Blocks until it is done, failed, cancelled or out of time.
pub fn run(task: &Task, context: &Context) -> Result<Done, Error> {
    context.check()?;
    match task {
        Task::StreamImage(params) => stream_image::run(params, context),
        Task::Bottlerocket(params) => bottlerocket::run(params, context),
        Task::WriteFiles(params) => write_files::run(params, context),
        Task::ExtractArchive(params) => archive::run(params, context),
        Task::UploadImage(params) => upload_image::run(params, context),
        Task::BootOrder(params) => boot_order::run(params, context),
        Task::RunCommand(params) => run_command::run(params, context),
        Task::WipeDisk(params) => layout::wipe(params, context),
        Task::PartitionDisk(params) => layout::partition(params, context),
        Task::MakeFilesystem(params) => layout::make_filesystem(params, context),
        Task::Storage(params) => storage::run(params, context),
        Task::Kexec(params) => kexec::run(params, context),
        Task::Reboot(params) => power::run(&PowerChange::Reboot, params.delay, context),
        Task::PowerOff(params) => power::run(&PowerChange::PowerOff, params.delay, context),
    }
}

/// What one task would do, without doing it; none for a task that cannot tell. Blocks until its
/// image's server has answered.
pub fn explain(task: &Task, context: &Context) -> Result<Option<Explanation>, Error> {
    context.check()?;
    match task {
        Task::StreamImage(params) => stream_image::explain(params, context).map(Some),
        Task::Bottlerocket(params) => bottlerocket::explain(params, context).map(Some),
        _ => Ok(None),
    }
}
