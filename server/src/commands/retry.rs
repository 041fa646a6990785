//! `nibs-server retry`

use anyhow::Result;
use nibs_server::client::Client;

use super::wait_for;
use crate::cli::Retry;

pub(crate) fn retry(options: Retry) -> Result<()> {
    let client = Client::new(options.server.url)?;
    let retried = wait_for(client.retry(&options.machine, options.job.as_deref()))?;
    println!("job {} is offered to machine {} once more", retried.job, retried.machine);
    Ok(())
}
