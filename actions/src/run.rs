//! One task of a job, done.

use std::path::PathBuf;

use nibs_job::Task;

use crate::stream_image::Explanation;
use crate::{
    Context, Error, PowerChange, archive, boot_order, bottlerocket, power, stream_image,
    upload_image, write_files,
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
        Task::Reboot(_) => power::run(PowerChange::Reboot, context),
        Task::PowerOff(_) => power::run(PowerChange::PowerOff, context),
    }
}

/// What one task would do, without doing it; none for a task that cannot tell. Blocks until its
/// image's server has answered.
pub fn explain(task: &Task, context: &Context) -> Result<Option<Explanation>, Error> {
    context.check()?;
    match task {
        Task::StreamImage(params) => stream_image::explain(params, context).map(Some),
        Task::Bottlerocket(params) => bottlerocket::explain(params, context).map(Some),
        Task::WriteFiles(_)
        | Task::ExtractArchive(_)
        | Task::UploadImage(_)
        | Task::BootOrder(_)
        | Task::Reboot(_)
        | Task::PowerOff(_) => Ok(None),
    }
}
