//! The command line. Every option can come from the environment; an option given beats it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use nibs_server::MachineId;
use nibs_server::http::BaseUrl;
use nibs_server::ipxe::{DEFAULT_INITRAMFS, DEFAULT_KERNEL, Parameters, Source};
use url::Url;

/// The embedded control plane of Nibs: boots machines, hands them jobs, keeps what they report.
#[derive(Debug, Parser)]
#[command(name = "nibs-server", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves jobs, boot scripts and assets, until SIGTERM or SIGINT
    Serve(Serve),
    /// Lists the machines that a running server has seen
    Machines(Machines),
    /// Shows what machines reported to a running server
    Events(Events),
    /// Has a machine run its finished job once more
    Retry(Retry),
    /// Checks a data directory and names every fault in it
    Check {
        /// The data directory
        #[arg(env = "NIBS_DATA")]
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Directory of jobs/, matches/ and the server's own state
    #[arg(long, value_name = "DIR", env = "NIBS_DATA")]
    pub(crate) data: PathBuf,
    /// Address and port to listen on
    #[arg(long, default_value = "0.0.0.0:8080", env = "NIBS_ADDRESS")]
    pub(crate) address: SocketAddr,
    /// Directory served as /assets [default: assets in the data directory]
    #[arg(long, value_name = "DIR", env = "NIBS_ASSETS")]
    pub(crate) assets: Option<PathBuf>,
    /// URL by which machines reach this server [default: as each boot request calls it]
    #[arg(long, env = "NIBS_URL")]
    pub(crate) url: Option<BaseUrl>,
    /// Kernel that boots the agent: a URL, or a path on this server
    #[arg(long, value_name = "URL", default_value = DEFAULT_KERNEL, env = "NIBS_KERNEL")]
    pub(crate) kernel: Source,
    /// Initramfs with the agent: a URL, or a path on this server
    #[arg(long, value_name = "URL", default_value = DEFAULT_INITRAMFS, env = "NIBS_INITRAMFS")]
    pub(crate) initramfs: Source,
    /// Further kernel parameters for the agent, one argument with blanks between them
    #[arg(long, default_value = "", env = "NIBS_KERNEL_PARAMETERS", allow_hyphen_values = true)]
    pub(crate) kernel_parameters: Parameters,
}

/// Which server.
#[derive(Debug, Args)]
pub(crate) struct Server {
    /// URL of the server
    #[arg(long = "server", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    #[arg(env = "NIBS_SERVER")]
    pub(crate) url: Url,
}

#[derive(Debug, Args)]
pub(crate) struct Machines {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Prints a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Only of this machine
    #[arg(long)]
    pub(crate) machine: Option<MachineId>,
    /// Only of this job
    #[arg(long)]
    pub(crate) job: Option<String>,
    /// Goes on with what comes, until SIGINT
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Prints each event as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Retry {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The machine
    #[arg(long)]
    pub(crate) machine: MachineId,
    /// The job, if it is not the one that the machine is given now
    #[arg(long)]
    pub(crate) job: Option<String>,
}
