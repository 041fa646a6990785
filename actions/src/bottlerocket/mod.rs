//! `bottlerocket`: an image of that system and the three files that make it a node.
//!
//! A file that is wrong leaves a machine that nobody can log in to, so all is proven first:
//!
//! ```text
//! job, URLs, lease -> make, check the files -> other disks? -> stream the image -> find PRIVATE
//!                     (nothing is written yet)                 (if there is one)   write, read back
//!                     can keys be enrolled?                                        -> enrol the keys
//! ```
//!
//! - [`prove`]: the files' contents, from [`net`], [`fetch`] and the checks of `nibs_bottlerocket`;
//!   [`udev_name`]: what the installed system calls a card.
//! - [`duplicates`]: what a former installation left on other disks.
//! - [`private`]: the partition for the files; [`ext4`]: its filesystem, if it has to be made.
//! - [`secure_boot`]: the image's certificate into the firmware.

mod duplicates;
mod error;
mod ext4;
pub(crate) mod fetch;
mod net;
mod private;
mod prove;
mod secure_boot;
mod udev_name;

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use nibs_job::Secret;
use nibs_job::params::{Bottlerocket, Duplicates, NetFrom, StreamImage, UserData};

pub use self::error::Error;
use self::private::System;
use crate::disk::{self, Disk};
use crate::stream_image::{self, Explanation, FileSeen, ImageSeen, Refusal, Warnings};
use crate::{Context, Done};

/// Does the action. Contents of files are never logged: they may be secret.
pub(crate) fn run(params: &Bottlerocket, context: &Context) -> Result<Done, crate::Error> {
    let (target, system) = target(params, context)?;
    let params = &*with_user_data_that_is_there(params, &target, context)?;
    let files = prove::prove(params, system, context)?;
    if files.leaves_name_servers {
        let message = "the lease's name servers are left out: they belong into user-data, of which the \
                       job has none, and the system has read its own already";
        context.sink.warning(message.into());
    }
    if let Some(params) = &params.secure_boot {
        secure_boot::check(params, context)?;
    }
    duplicates::handle(params.duplicates, &target, context)?;
    let mut done = match image(params) {
        Some(stream) => stream_image::run(&stream, context)?,
        None => Done::default(),
    };
    context.check()?;
    if params.writes_files() {
        let private = private::find(&target, context)?;
        let has_booted = system == System::Installed && private::has_booted(&target)?;
        if has_booted {
            private::warn_if_booted(&files, context);
        }
        private::write(&private, files, (system, has_booted), params.recreate, context)?;
    }
    if let Some(params) = &params.secure_boot {
        context.check()?;
        secure_boot::enrol(params, &target, context)?;
    }
    done.installed_disk = Some(target.path);
    Ok(done)
}

/// Tells what [`run`] would do. An error only if it was stopped.
pub(crate) fn explain(
    params: &Bottlerocket,
    context: &Context,
) -> Result<Explanation, crate::Error> {
    let sink = Arc::new(Warnings::new(context.sink.clone()));
    let context = &Context { sink: sink.clone(), ..context.clone() };
    let mut explanation = match image(params) {
        Some(stream) => stream_image::explain(&stream, context)?,
        None => Explanation {
            disk: None,
            other_disks: Vec::new(),
            image: ImageSeen::default(),
            plan: None,
            files: Vec::new(),
            warnings: Vec::new(),
            refusals: Vec::new(),
        },
    };
    let system = match target(params, context) {
        Ok((target, system)) => {
            let others = match params.duplicates {
                Duplicates::Wipe => Ok(()),
                asked => duplicates::handle(asked, &target, context),
            };
            refuse(&mut explanation, others)?;
            system
        }
        Err(error) => {
            refuse::<()>(&mut explanation, Err(error))?;
            if params.image.is_some() { System::New } else { System::Installed }
        }
    };
    if let Some(params) = &params.secure_boot {
        refuse(&mut explanation, secure_boot::check(params, context))?;
    }
    let files = refuse(&mut explanation, prove::prove(params, system, context))?;
    if files.as_ref().is_some_and(|files| files.leaves_name_servers) {
        let message = "the lease's name servers go into the user data that is there, if the system has \
                       not booted yet; if it has, they are left out";
        context.sink.warning(message.into());
    }
    for (name, content) in files.iter().flat_map(prove::Files::iter) {
        explanation.files.push(FileSeen { name: name.into(), size: content.len() as u64 });
    }
    explanation.warnings = sink.heard();
    Ok(explanation)
}

/// The value, or none after noting why there is none. Being stopped is no refusal.
fn refuse<T>(
    explanation: &mut Explanation,
    result: Result<T, crate::Error>,
) -> Result<Option<T>, crate::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error @ (crate::Error::Cancelled | crate::Error::TimedOut)) => Err(error),
        Err(error) => {
            let refusal = Refusal { class: error.class(), message: error.to_string() };
            if !explanation.refusals.contains(&refusal) {
                explanation.refusals.push(refusal);
            }
            Ok(None)
        }
    }
}

/// A lease's name servers go into user data: on a system that is installed but has never come up,
/// into the file that an earlier action wrote.
fn with_user_data_that_is_there<'p>(
    params: &'p Bottlerocket,
    target: &Disk,
    context: &Context,
) -> Result<Cow<'p, Bottlerocket>, crate::Error> {
    let net = params.net.as_ref().filter(|net| net.from == Some(NetFrom::Lease));
    let Some(net) = net.filter(|_| params.image.is_none() && params.user_data.is_none()) else {
        return Ok(Cow::Borrowed(params));
    };
    if private::has_booted(target)? {
        return Ok(Cow::Borrowed(params));
    }
    let there = private::user_data(target, context)?.unwrap_or_default();
    let user_data = UserData {
        content: None,
        content_base64: Some(Secret::new(base64::engine::general_purpose::STANDARD.encode(there))),
        url: None,
        metadata: Vec::new(),
        timeout: net.timeout,
    };
    Ok(Cow::Owned(Bottlerocket { user_data: Some(user_data), ..params.clone() }))
}

/// The part of the action that is `stream-image`.
fn image(params: &Bottlerocket) -> Option<StreamImage> {
    let (image, disk) = (params.image.clone()?, params.disk.clone()?);
    Some(StreamImage { image, disk, verify: params.verify })
}

/// The disk that the system is, or will be, on.
fn target(params: &Bottlerocket, context: &Context) -> Result<(Disk, System), crate::Error> {
    let disk = match &params.disk {
        Some(selector) => disk::find(selector, &context.machine)?,
        None => private::find_anywhere(context)?.disk,
    };
    let is_new = params.image.is_some() || context.installed_disk.as_ref() == Some(&disk.path);
    Ok((disk, if is_new { System::New } else { System::Installed }))
}

#[cfg(test)]
mod tests;
