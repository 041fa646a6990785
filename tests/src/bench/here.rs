//! Contenders on this host: on a file, or a loop device on one.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;

use super::contender::{Contender, Job};
use super::figures::Outcome;
use super::images::Image;
use super::limit::{Limit, Stages};
use super::server::Server;
use super::target::Target;
use super::{Options, Place, measure, warm};

/// This host, and the server on its loopback.
#[derive(Debug)]
pub struct Here<'a> {
    options: &'a Options,
    server: Server,
}

impl<'a> Here<'a> {
    /// Starts the server.
    pub fn start(options: &'a Options) -> Result<Self> {
        Ok(Self { options, server: Server::start(&options.images, Ipv4Addr::LOCALHOST)? })
    }
}

impl Place for Here<'_> {
    fn run(&mut self, contender: Contender, image: &Image, target: &Target) -> Result<Outcome> {
        let Options { images, agent, scratch, timeout, .. } = self.options;
        let raw = images.join(&image.raw);
        warm(&if contender.reads_raw_file() { raw.clone() } else { images.join(&image.served) })?;
        let job = Job {
            image,
            server: &self.server,
            raw: &raw,
            agent,
            target: target.path(),
            is_device: target.is_device(),
        };
        let timeout = Duration::from_secs(*timeout);
        measure::run(&contender.commands(&job)?, target.path(), timeout, &scratch.join("log"))
    }

    fn limit(&mut self, image: &Image, target: &Target) -> Result<Limit> {
        let served = self.options.images.join(&image.served);
        warm(&served)?;
        let stages = Stages {
            format: image.format,
            url: self.server.url(&image.served),
            served,
            data: image.data,
            target: target.path().to_owned(),
            repetitions: self.options.repetitions,
        };
        stages.find()
    }
}
