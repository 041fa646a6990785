//! `run-container`: the program of a container image.

use nibs_job::params::RunContainer;

use crate::{Context, Done, Error, container};

/// Runs the program of a container image, and waits for its end.
pub(crate) fn run(params: &RunContainer, context: &Context) -> Result<Done, Error> {
    container::run(params, context)?;
    Ok(Done::default())
}
