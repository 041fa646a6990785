//! `run-command`: programs of an installed system, run inside of it.

use std::process::Command;

use nibs_job::Secret;
use nibs_job::params::RunCommand;

use crate::mount::{self, System};
use crate::process::{self, Named};
use crate::{Context, Done, Error, volume};

/// What a container of the same action would find.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const HOME: &str = "/root";

/// Does the action. Arguments and variables are never logged: they may be secrets.
pub(crate) fn run(params: &RunCommand, context: &Context) -> Result<Done, Error> {
    let (device, filesystem) = volume::filesystem(&params.root, context)?;
    let place = format!("the system on {} ({})", device.display(), filesystem.as_str());
    mount::with_system(&device, filesystem, |system| {
        if params.resolv_conf {
            system.lend_resolv_conf()?;
        }
        for (index, words) in params.commands.iter().enumerate() {
            let turn = format!("command {} of {}", index + 1, params.commands.len());
            one(words, &turn, &place, system, params, context)?;
        }
        Ok::<(), Error>(())
    })?;
    Ok(Done::default())
}

fn one(
    words: &[Secret],
    turn: &str,
    place: &str,
    system: &System,
    params: &RunCommand,
    context: &Context,
) -> Result<(), Error> {
    context.check()?;
    let mut words = words.iter().map(Secret::expose);
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(program);
    command.args(words).env_clear().env("PATH", PATH).env("HOME", HOME);
    command.envs(params.environment.iter().map(|(name, value)| (name, value.expose())));
    context.info(format!("running {program} ({turn}) in {place}"));
    let remedy = "install it there, or name one that is there, with its loader or interpreter";
    let named = Named { program, place, remedy };
    Ok(process::run(&mut command, named, |command| system.spawn(command), context)?)
}
