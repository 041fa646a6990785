//! The server of all contenders: a directory over HTTP, with ranges.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_http::services::ServeDir;

/// Large enough that the server costs the contenders little of the machine they share.
const READ: usize = 1 << 20;

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Server {
    /// Serves the files of a directory at an address of this host.
    pub fn start(directory: &Path, address: Ipv4Addr) -> Result<Self> {
        let runtime = Runtime::new().context("starting the server's runtime")?;
        let listener = runtime
            .block_on(TcpListener::bind((address, 0)))
            .context("binding the server's port")?;
        let address = listener.local_addr().context("asking for the server's address")?;
        let files = ServeDir::new(directory).with_buf_chunk_size(READ);
        let router = Router::new().fallback_service(files);
        // It never ends by itself.
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, _runtime: runtime })
    }

    /// Where a file of the directory is.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }
}
