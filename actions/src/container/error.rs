//! Why a container did not run, or did not end well.

use std::io;
use std::path::PathBuf;

use nibs_job::{Class, Size};

use crate::{Interrupted, image};

/// What the functions of this module answer.
pub(super) type Result<T> = std::result::Result<T, Error>;

/// Why a container did not run, or did not end well. Never tells a value of its environment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It was stopped from outside.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// A registry does not give the image.
    #[error("pulling {image}: {}{cause}", after(*tries))]
    Pull {
        /// The image.
        image: String,
        /// How often it was tried.
        tries: u32,
        /// Why the last try failed.
        cause: Box<image::Error>,
    },
    /// What a registry or a layout gives is no image that can be run.
    #[error("pulling {image}: {cause}")]
    Image {
        /// The image.
        image: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The images that came along cannot be read.
    #[error("looking for {image} in the OCI layout {}: {cause}", layout.display())]
    Layout {
        /// The image.
        image: String,
        /// The directory.
        layout: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The image is too large.
    #[error(
        "unpacking {image}: needs {}{} ({needed} bytes) in {place}, {} ({free} bytes) are there for \
         it; {advice}", if *about { "about " } else { "" }, Size(*needed), Size(*free)
    )]
    NoRoom {
        /// The image.
        image: String,
        /// Bytes that it takes.
        needed: u64,
        /// Whether that is a guess.
        about: bool,
        /// Bytes that there are.
        free: u64,
        /// Where.
        place: String,
        /// What the operator can do.
        advice: &'static str,
    },
    /// The image turned out to be larger than what is there.
    #[error("unpacking {image}: {place} is full after {} ({free} bytes); {advice}", Size(*free))]
    Full {
        /// The image.
        image: String,
        /// Bytes that there were.
        free: u64,
        /// Where.
        place: String,
        /// What the operator can do.
        advice: &'static str,
    },
    /// A layer is not what its manifest says, or no layer.
    #[error("unpacking {image}: layer {layer}: {cause}")]
    Layer {
        /// The image.
        image: String,
        /// Digest of the layer.
        layer: String,
        /// What was expected and what was found.
        cause: String,
    },
    /// The machine refused something that a container needs.
    #[error("preparing a container, {step}: {cause}")]
    Prepare {
        /// What was being done, in the gerund.
        step: String,
        /// The kernel's word.
        cause: io::Error,
    },
    /// A volume cannot be had.
    #[error("binding the volume {volume}: {step}: {cause}")]
    Volume {
        /// The volume.
        volume: String,
        /// What was being done, in the gerund.
        step: &'static str,
        /// The kernel's word.
        cause: io::Error,
    },
    /// The image's user is nobody in it.
    #[error("looking up the user {user:?} of {image}: {cause}")]
    User {
        /// The image.
        image: String,
        /// The user, as its configuration names it.
        user: String,
        /// What is missing.
        cause: String,
    },
    /// There is nothing to run.
    #[error(
        "running {image}: it has neither an entry point nor a command; give the action a command"
    )]
    NoProgram {
        /// The image.
        image: String,
    },
    /// The program is not in the image.
    #[error("running {program} in {image}: command not found; looked in {looked}")]
    NotFound {
        /// The image.
        image: String,
        /// The program.
        program: String,
        /// Where it was looked for.
        looked: String,
    },
    /// The program does not start.
    #[error("running {program} in {image}: {cause}{}", hint(cause))]
    Start {
        /// The image.
        image: String,
        /// The program.
        program: String,
        /// The kernel's word.
        cause: io::Error,
    },
    /// The program failed.
    #[error("running {program} in {image}: {status}{}", said(last))]
    Ended {
        /// The image.
        image: String,
        /// The program.
        program: String,
        /// Exit code or signal, in words.
        status: String,
        /// What it said last.
        last: Vec<String>,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Interrupted(Interrupted::Cancelled) => Class::Internal,
            Self::Interrupted(Interrupted::TimedOut) => Class::Transient,
            Self::Pull { cause, .. } => cause.class(),
            Self::Image { .. }
            | Self::Layer { .. }
            | Self::User { .. }
            | Self::NoProgram { .. }
            | Self::NotFound { .. }
            | Self::Start { .. } => Class::InvalidInput,
            Self::Layout { .. }
            | Self::NoRoom { .. }
            | Self::Full { .. }
            | Self::Prepare { .. }
            | Self::Volume { .. }
            | Self::Ended { .. } => Class::Environment,
        }
    }
}

fn after(tries: u32) -> String {
    if tries > 1 { format!("after {tries} tries: ") } else { String::new() }
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::ENOEXEC) => "; is it made for this machine's architecture?",
        Some(libc::ENOENT) => "; the loader or interpreter that it names is not in the image",
        Some(libc::EACCES) => "; it is not executable",
        _ => "",
    }
}

fn said(last: &[String]) -> String {
    if last.is_empty() {
        return "; it said nothing".into();
    }
    format!("; it said last: {}", last.join(" | "))
}
