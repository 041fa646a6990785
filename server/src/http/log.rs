//! One line in the log for each request of note. Never a query or a body: secrets travel there.

use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use tracing::{debug, error, info, warn};

/// What changes something, what fails and who fetches a file is of note. Reading and polling is
/// not, and what a machine is told has lines of its own.
pub(super) async fn request(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let peer = peer.ip();
    let seconds = begun.elapsed().as_secs_f64();
    let is_of_note = method == Method::PUT || path.starts_with("/assets/");
    match status {
        500.. => error!(%method, path, status, %peer, seconds, "request"),
        400.. => warn!(%method, path, status, %peer, seconds, "request"),
        _ if is_of_note => info!(%method, path, status, %peer, seconds, "request"),
        _ => debug!(%method, path, status, %peer, seconds, "request"),
    }
    response
}
