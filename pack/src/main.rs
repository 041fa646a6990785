//! The command line of `nibs-pack`; `build.sh` calls it.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use nibs_pack::{bottlerocket, checksum, debian, images, initramfs};

/// Assembles what Nibs ships.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pack the agent and CA roots into an initramfs
    Initramfs {
        /// The agent, a static program
        #[arg(long)]
        agent: PathBuf,
        /// CA roots, a PEM bundle
        #[arg(long)]
        ca: PathBuf,
        /// The initramfs to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Pack the agent and CA roots into container images, one for each of the agent's names
    Images {
        /// The agent, a static program
        #[arg(long)]
        agent: PathBuf,
        /// CA roots, a PEM bundle
        #[arg(long)]
        ca: PathBuf,
        /// The directory to write, which is replaced
        #[arg(long)]
        out: PathBuf,
    },
    /// Build the Bottlerocket-shaped demo image and its manifest
    Bottlerocket {
        /// Kernel for x86-64 with an EFI stub
        #[arg(long)]
        kernel: PathBuf,
        /// The program demo-init
        #[arg(long)]
        init: PathBuf,
        /// The image to write, packed with lz4
        #[arg(long)]
        out: PathBuf,
    },
    /// Build the Debian 12 image and its manifest
    Debian {
        /// The image to write, packed with zstd
        #[arg(long)]
        out: PathBuf,
    },
    /// Write checksum.txt over the files of a directory
    Checksum {
        /// The directory
        dir: PathBuf,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Initramfs { agent, ca, out } => initramfs::write(&agent, &ca, &out),
        Command::Images { agent, ca, out } => images::write(&agent, &ca, &out),
        Command::Bottlerocket { kernel, init, out } => bottlerocket::write(&kernel, &init, &out),
        Command::Debian { out } => debian::write(&out),
        Command::Checksum { dir } => checksum::write(&dir),
    }
}
