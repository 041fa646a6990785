//! `nibs check`: is it right, without doing any of it?

use std::path::Path;

use super::Exit;
use super::job_file::JobFile;

/// `nibs check job FILE`
pub(super) fn job(path: &Path) -> anyhow::Result<Exit> {
    match JobFile::read(path)?.parse() {
        Ok(job) => {
            println!("{}: job {} is valid", path.display(), job.id);
            Ok(Exit::Done)
        }
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            Ok(Exit::Failed)
        }
    }
}
