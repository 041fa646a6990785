//! The HTTP side: routes, limits, start and graceful end. The handlers are thin; what they decide
//! with is in [`crate::control`], [`crate::catalog`] and [`crate::store`].
//!
//! | route | for |
//! |---|---|
//! | `POST /v1/machines/{machine}/job?wait=S` | agent: ask for work, held open up to `S` seconds |
//! | `POST /v1/jobs/{job}/events` | agent: report |
//! | `GET /boot.ipxe`, `GET /ipxe?mac=…` | firmware: boot scripts |
//! | `GET /assets/…` | firmware and agent: files |
//! | `GET /v1/machines`, `GET /v1/machines/{machine}` | operator: machines and their runs |
//! | `POST /v1/machines/{machine}/retry?job=J` | operator: run a finished job once more |
//! | `GET /v1/jobs`, `PUT /v1/jobs/{job}`, `PUT /v1/matches/{match}` | operator: definitions |
//! | `GET /v1/jobs/{job}/events?machine=M&after=N` | operator: the events of a run, a JSON array |
//! | `GET /healthz` | monitoring |
//!
//! One job may run on many machines. A run is a machine and a job: a report names its machine in
//! its body, a reader in `machine=`, which may be left out while the job has run on one only.

mod assets;
mod boot;
mod error;
mod extract;
mod jobs;
mod log;
mod machines;
mod range;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post, put};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::catalog::{Live, MAX_DEFINITION};
use crate::ipxe::Agent;
use crate::store::{Store, StoreError};
use error::ApiError;

pub use boot::BaseUrl;

/// Largest report or question that is taken, bytes. An agent's batches are far smaller.
pub const MAX_REPORT: usize = 4 << 20;

/// How long requests that are under way at the stop may take; an asset may have gigabytes to go,
/// and its reader takes up where it was cut.
const DRAIN: Duration = Duration::from_secs(30);

/// What the server is told by its caller.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory; made if it is not there.
    pub data: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// The directory served as `/assets`.
    pub assets: PathBuf,
    /// This server's URL as machines reach it; by default what each request calls it.
    pub url: Option<BaseUrl>,
    /// How the agent is booted.
    pub agent: Agent,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory could not be made or read.
    #[error("opening the data directory {path}: {source}")]
    Data {
        /// The directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address could not be listened on.
    #[error("listening on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    app: App,
    stop: watch::Sender<bool>,
}

/// What the handlers share.
#[derive(Debug, Clone)]
struct App {
    live: Arc<Live>,
    store: Arc<Store>,
    assets: Arc<PathBuf>,
    agent: Arc<Agent>,
    url: Option<BaseUrl>,
    stopping: watch::Receiver<bool>,
}

impl Server {
    /// Opens the data directory and the socket.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let Config { data, address, assets, url, agent } = config;
        let live = Live::open(&data)
            .map_err(|source| StartError::Data { path: data.display().to_string(), source })?;
        let store = Store::open(&data.join("state.redb"))?;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| StartError::Listen { address, source })?;
        let (stop, stopping) = watch::channel(false);
        let app = App {
            live: Arc::new(live),
            store: Arc::new(store),
            assets: Arc::new(assets),
            agent: Arc::new(agent),
            url,
            stopping,
        };
        Ok(Self { listener, app, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `end` completes. Then questions held open are answered at once, and other
    /// requests may end, for half a minute.
    pub async fn run(self, end: impl Future<Output = ()> + Send) -> io::Result<()> {
        let Self { listener, app, stop } = self;
        info!(address = %listener.local_addr()?, assets = %app.assets.display(), "listening");
        let follow = tokio::spawn(Arc::clone(&app.live).follow());
        let stopping = app.stopping.clone();
        let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
        let serve = axum::serve(listener, service)
            .with_graceful_shutdown(stopped(stopping.clone()))
            .into_future();
        let deadline = async {
            end.await;
            info!("stopping");
            stop.send_replace(true);
            tokio::time::sleep(DRAIN).await;
        };
        let ended = tokio::select! {
            ended = serve => ended,
            () = deadline => {
                warn!("requests were still under way after {} s; cutting them", DRAIN.as_secs());
                Ok(())
            }
        };
        follow.abort();
        ended
    }
}

/// Completes when the server is told to stop.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the end as well.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

fn router(app: App) -> Router {
    let definitions = Router::new()
        .route("/v1/jobs/{job}", put(jobs::put_job))
        .route("/v1/matches/{name}", put(jobs::put_match))
        .layer(DefaultBodyLimit::max(usize::try_from(MAX_DEFINITION).unwrap_or(usize::MAX)));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/boot.ipxe", get(boot::chain))
        .route("/ipxe", get(boot::script))
        .route("/assets/{*path}", get(assets::serve))
        .route("/v1/machines", get(machines::list))
        .route("/v1/machines/{machine}", get(machines::one))
        .route("/v1/machines/{machine}/job", post(machines::ask))
        .route("/v1/machines/{machine}/retry", post(machines::retry))
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/{job}/events", get(jobs::events).post(jobs::report))
        .layer(DefaultBodyLimit::max(MAX_REPORT))
        .merge(definitions)
        .fallback(ApiError::no_route)
        .method_not_allowed_fallback(ApiError::no_method)
        .layer(middleware::from_fn(log::request))
        .with_state(app)
}

/// Whether the store can be read, without which nothing works.
async fn healthz(State(app): State<App>) -> Result<&'static str, ApiError> {
    extract::block(move || app.store.check()).await?;
    Ok("ok\n")
}
