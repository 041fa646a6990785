//! The few bytes of a configuration file, from a URL, a path or a metadata service.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use nibs_job::{Class, Location};
use reqwest::{Client, StatusCode};
use url::Url;

use super::error::Error;
use crate::{Context, http};

/// Where a metadata service of EC2's kind has a machine's user data.
const METADATA_PATH: &str = "2009-04-04/user-data";

/// A file to be had.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Its name.
    pub(crate) file: &'static str,
    /// Most bytes that are read of it.
    pub(crate) limit: usize,
    /// How long one server is tried.
    pub(crate) timeout: Duration,
}

/// Why one place does not give a file.
struct Refusal {
    cause: String,
    class: Class,
}

impl Wanted {
    /// Reads the file from where it is.
    pub(crate) fn read(
        &self,
        location: &Location,
        context: &Context,
    ) -> Result<Vec<u8>, crate::Error> {
        let answer = match location {
            Location::Http(url) => self.get(url, context)?,
            Location::File(path) => {
                let file = File::open(path).map_err(|cause| (cause, Class::InvalidInput));
                self.read_file(file)
                    .map_err(|(cause, class)| Refusal { cause: cause.to_string(), class })
            }
            // Decoding refuses such a job.
            Location::Oci(_) => {
                Err(Refusal { cause: "it is in a registry".into(), class: Class::InvalidInput })
            }
        };
        match answer {
            Ok(bytes) => {
                context.info(format!("{}: {} bytes from {location}", self.file, bytes.len()));
                Ok(bytes)
            }
            Err(Refusal { cause, class }) => {
                let place = location.to_string();
                Err(Error::Read { file: self.file, place, cause, class }.into())
            }
        }
    }

    /// Asks metadata services, one after the other, until one answers.
    pub(crate) fn ask(
        &self,
        services: &[Location],
        context: &Context,
    ) -> Result<Vec<u8>, crate::Error> {
        let mut refusals = Vec::new();
        let mut class = Class::InvalidInput;
        for service in services {
            let Location::Http(url) = service else { continue };
            match self.get(&metadata(url), context)? {
                Ok(bytes) => {
                    context.info(format!("{}: {} bytes from {service}", self.file, bytes.len()));
                    return Ok(bytes);
                }
                Err(refusal) => {
                    let refused = format!("{service}: {}", refusal.cause);
                    context.info(format!("no user data from {refused}"));
                    refusals.push(refused);
                    if refusal.class == Class::Transient {
                        class = Class::Transient;
                    }
                }
            }
        }
        let place = format!("metadata services (/{METADATA_PATH})");
        let cause = format!("none of them has it: {}", refusals.join("; "));
        Err(Error::Read { file: self.file, place, cause, class }.into())
    }

    fn read_file(
        &self,
        file: Result<File, (std::io::Error, Class)>,
    ) -> Result<Vec<u8>, (std::io::Error, Class)> {
        let mut bytes = Vec::new();
        let limit = self.limit as u64 + 1;
        file?.take(limit).read_to_end(&mut bytes).map_err(|cause| (cause, Class::Environment))?;
        match bytes.len() > self.limit {
            true => Err((std::io::Error::other(self.too_long()), Class::InvalidInput)),
            false => Ok(bytes),
        }
    }

    fn too_long(&self) -> String {
        format!("it has more than {} bytes, the most that is taken", self.limit)
    }

    /// An error only if the action has to end.
    fn get(&self, url: &Url, context: &Context) -> Result<Result<Vec<u8>, Refusal>, crate::Error> {
        let client = http::client(&context.http)?;
        // Timers want to be made on the runtime.
        let exchange =
            async { tokio::time::timeout(self.timeout, self.exchange(&client, url.clone())).await };
        let ended = context.runtime.block_on(context.stop.guard(exchange))?;
        let late = |_| Refusal {
            cause: format!("no whole answer within {} s", self.timeout.as_secs_f32()),
            class: Class::Transient,
        };
        Ok(ended.map_err(late).and_then(|answer| answer))
    }

    async fn exchange(&self, client: &Client, url: Url) -> Result<Vec<u8>, Refusal> {
        let broken = |error| Refusal { cause: http::describe(error), class: Class::Transient };
        let mut response = client.get(url).send().await.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            let passing = status.is_server_error()
                || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
            let class = if passing { Class::Transient } else { Class::InvalidInput };
            return Err(Refusal { cause: format!("the server answers {status}"), class });
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > self.limit {
                return Err(Refusal { cause: self.too_long(), class: Class::InvalidInput });
            }
        }
        Ok(bytes)
    }
}

/// The address of a service's user data.
fn metadata(service: &Url) -> Url {
    let mut url = service.clone();
    url.set_path(&format!("{}/{METADATA_PATH}", service.path().trim_end_matches('/')));
    url
}
