//! `nibs-server serve`

use std::io;

use anyhow::{Context, Result};
use nibs_server::http::{Config, Server};
use nibs_server::ipxe::Agent;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::Serve;

pub(crate) fn serve(options: Serve) -> Result<()> {
    let wanted = std::env::var("NIBS_LOG").ok();
    let filter: Targets = wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or_default();
    let rest = filter.default_level().unwrap_or(LevelFilter::INFO);
    let filter = filter.with_default(rest);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).init();
    let Serve { data, address, assets, url, kernel, initramfs, kernel_parameters } = options;
    let config = Config {
        assets: assets.unwrap_or_else(|| data.join("assets")),
        data,
        address,
        url,
        agent: Agent { kernel, initramfs, parameters: kernel_parameters },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        // Before the socket is open: a signal that comes as soon as it answers must not kill it.
        let mut terminate = signal(SignalKind::terminate()).context("catching SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
        let server = Server::bind(config).await?;
        let end = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server.run(end).await.context("serving")
    })
}
