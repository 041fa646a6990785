//! An image in a registry.

use std::time::Duration;

use nibs_job::OciReference;
use nibs_job::params::RunContainer;

use super::error::Error;
use super::image::{Config, Image, Place};
use crate::image::manifest::first_of_this_machine;
use crate::image::{self, Access, Credentials, Fetch, Registry};
use crate::{Context, Stop, http};

/// How long an insecure registry may take to say whether it speaks TLS.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no image.
pub(super) enum PullError {
    /// The registry does not give it.
    Fetch(image::Error),
    /// It cannot be run, or there is no client to ask with.
    Other(crate::Error),
}

impl From<image::Error> for PullError {
    fn from(error: image::Error) -> Self {
        Self::Fetch(error)
    }
}

impl From<http::Error> for PullError {
    fn from(error: http::Error) -> Self {
        Self::Other(error.into())
    }
}

/// What the registry says the image is made of.
pub(super) fn find(params: &RunContainer, context: &Context) -> Result<Image, PullError> {
    let name = &params.image;
    let mut reference = name.reference.clone();
    let mut options = context.http.clone();
    if is_insecure(&reference, &params.insecure_registries) {
        options.unchecked_certificates = true;
        reference.plain_http = !speaks_tls(&reference, &http::client(&options)?, context)?;
    }
    if reference.plain_http && params.password.is_some() {
        let registry = &reference.registry;
        context.sink.warning(format!("{registry} gets the password in plain text: it has no TLS"));
    }
    let fetch = Fetch {
        urls: Vec::new(),
        client: http::client(&options)?,
        access: Access::Open,
        accept: None,
        runtime: context.runtime.clone(),
        stop: context.stop.clone(),
        sink: context.sink.clone(),
        stall_timeout: params.stall_timeout.0,
        proven_by_digest: false,
        connections: 1,
    };
    let registry = Registry::new(reference, credentials(params));
    let manifest = registry.image(&fetch, first_of_this_machine)?;
    let wrong =
        |cause: String| PullError::Other(Error::Image { image: name.to_string(), cause }.into());
    let config =
        manifest.config.ok_or_else(|| wrong("its manifest names no configuration".into()))?;
    let place = Place::Registry { registry: Box::new(registry), fetch };
    let config = place.read(&config)?.and_then(|json| Config::parse(&json)).map_err(wrong)?;
    Ok(Image { config, layers: manifest.layers, place })
}

fn credentials(params: &RunContainer) -> Option<Credentials> {
    let (username, password) = (params.username.clone()?, params.password.clone()?);
    Some(Credentials { username, password })
}

/// Whether certificates of a registry do not count: named so, or this machine's own, as for Docker.
fn is_insecure(reference: &OciReference, named: &[String]) -> bool {
    let registry = &reference.registry;
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost"
        || address.is_ok_and(|address| address.is_loopback())
        || named.iter().any(|named| named == registry || named == host)
}

/// Whether the registry answers at all over TLS.
fn speaks_tls(
    reference: &OciReference,
    client: &reqwest::Client,
    context: &Context,
) -> image::Result<bool> {
    let url = format!("https://{}/v2/", reference.registry);
    let ask = async { client.get(url).timeout(PROBE_TIMEOUT).send().await };
    let stop: &Stop = &context.stop;
    Ok(context.runtime.block_on(stop.guard(ask))?.is_ok())
}

#[cfg(test)]
mod tests {
    use nibs_job::params::ImageName;

    use super::*;

    #[test]
    fn certificates_do_not_count_where_that_is_said_and_on_this_machine() {
        let named = ["registry.example:5000".to_owned(), "10.0.0.1".to_owned()];
        for (image, insecure) in [
            ("registry.example:5000/a", true),
            ("registry.example/a", false),
            ("10.0.0.1:8080/a", true),
            ("127.0.0.1/embedded/a", true),
            ("localhost:5000/a", true),
            ("quay.io/a", false),
        ] {
            let name: ImageName = image.parse().unwrap();
            assert_eq!(is_insecure(&name.reference, &named), insecure, "{image}");
        }
    }
}
