//! `/boot.ipxe` and `/ipxe`: which script a machine boots.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use nibs_job::Mac;
use tracing::{info, warn};
use url::Url;

use super::App;
use super::error::ApiError;
use super::extract::block;
use crate::catalog::Catalog;
use crate::control::{self, Decision, Plan};
use crate::store::Store;
use crate::{Labels, MachineId, Timestamp, ipxe};

/// This server's URL without a slash at its end, in characters that a boot script can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{why}; expected such as http://10.0.0.1:8080");
        let url = Url::parse(text).map_err(|e| wrong(&format!("not a URL ({e})")))?;
        let is_bare = url.query().is_none() && url.fragment().is_none();
        let is_anonymous = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !is_bare || !is_anonymous {
            return Err(wrong("not a plain http or https URL, without user, query and fragment"));
        }
        if url.as_str().contains('$') {
            return Err(wrong("a `$` cannot stand in a boot script"));
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl BaseUrl {
    /// As the request calls this server. It goes into a script, so it has to be a bare authority.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let host = headers.get(header::HOST)?.to_str().ok()?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:-_[]".contains(&byte);
        let is_authority = host.parse::<Authority>().is_ok() && host.bytes().all(is_plain);
        is_authority.then(|| Self(format!("http://{host}")))
    }
}

/// `GET /boot.ipxe`: one script for all, which brings each machine to its own.
pub(super) async fn chain() -> Response {
    script_response(ipxe::CHAIN.to_owned())
}

/// `GET /ipxe`: the script of a machine. Always 200 with a script: an HTTP error would leave
/// iPXE with a number where a console could show a sentence.
pub(super) async fn script(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let value = |key: &str| value(&query, key);
    let Ok(mac) = value("mac").map(|mac| mac.parse::<Mac>()).transpose() else {
        warn!(peer = %peer.ip(), "refusing a boot script: mac= is not a hardware address");
        return script_response(ipxe::ask_again("mac= is not a hardware address"));
    };
    let Some(base) = app.url.clone().or_else(|| BaseUrl::of(&headers)) else {
        warn!(peer = %peer.ip(), "refusing a boot script: no usable Host; start with --url");
        return script_response(ipxe::ask_again("the server does not know its URL, see its --url"));
    };
    let asked = Labels {
        machine: None,
        macs: mac.into_iter().collect(),
        uuid: value("uuid").map(|uuid| uuid.to_ascii_lowercase()),
        serial: value("serial").map(Cow::into_owned),
        product: value("product").map(Cow::into_owned),
        vendor: value("vendor").map(Cow::into_owned),
        architecture: None,
    };
    let (store, catalog) = (Arc::clone(&app.store), app.live.current());
    let address = peer.ip().to_string();
    let decided = block(move || decide(&store, &catalog, mac, asked, &address)).await;
    let Ok((machine, decision)) = decided else {
        return script_response(ipxe::ask_again("the server failed, see its log"));
    };
    let (boots_agent, why) = verdict(&decision);
    let name = machine.as_ref().map_or("unknown", MachineId::as_str);
    info!(machine = name, boots_agent, why, "boot script");
    if let Some(problem) = &decision.problem {
        warn!(machine = name, "{problem}");
    }
    script_response(if boots_agent {
        let arch = value("arch").unwrap_or_default();
        ipxe::boot_agent(&app.agent, &base.0, machine.as_ref(), mac, &arch, &why)
    } else {
        ipxe::next_device(format_args!("{name}: {why}"))
    })
}

/// The machine, if what it says of itself names one, and what it is to do.
fn decide(
    store: &Store,
    catalog: &Catalog,
    mac: Option<Mac>,
    asked: Labels,
    address: &str,
) -> Result<(Option<MachineId>, Decision), ApiError> {
    let id = match mac {
        // The machine may be known under another card's address or a name of its own.
        Some(mac) => Some(store.owner_of(mac)?.unwrap_or_else(|| mac.into())),
        None => asked.uuid.as_deref().and_then(|uuid| uuid.parse().ok()),
    };
    let Some(id) = id else { return Ok((None, control::decide_by(catalog, &[], &asked))) };
    let machine = store.record_boot(&id, address, Timestamp::now())?;
    // The agent's facts first: they are what decides when it asks for the job.
    let labels = machine.labels().or(asked);
    let decision = control::decide(catalog, store, &id, &labels)?;
    Ok((Some(id), decision))
}

/// Whether the agent is booted, and why, in words that can stand in a script.
///
/// A machine whose job failed boots the agent too, which waits: its disk may hold half a system,
/// and a retry then finds it at once.
fn verdict(decision: &Decision) -> (bool, String) {
    match &decision.plan {
        Plan::Run { job, .. } => (true, format!("job {}", job.id)),
        Plan::Finished { job, outcome } if outcome.is_success() => {
            (false, format!("job {job} has finished"))
        }
        Plan::Finished { job, .. } => (true, format!("job {job} failed and waits for a retry")),
        Plan::Idle if decision.problem.is_some() => {
            (true, "no job can be chosen, see the log of the server".into())
        }
        Plan::Idle => (true, "no job yet".into()),
    }
}

/// The first value of a key, unless it is empty: iPXE sends what it does not know as empty.
fn value<'a>(query: &'a str, key: &str) -> Option<Cow<'a, str>> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == key)
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty())
}

fn script_response(script: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], script).into_response()
}
