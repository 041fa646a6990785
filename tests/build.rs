//! Compiles the agent's protocols of Tinkerbell to Rust once more: their servers.

use std::path::PathBuf;
use std::{env, error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let protocols = [("agent", "../agent/proto"), ("tink-worker", "../agent/proto/tink-worker")];
    for (protocol, folder) in protocols {
        let out = out.join(protocol);
        fs::create_dir_all(&out)?;
        println!("cargo::rerun-if-changed={folder}/workflow.proto");
        let files = protox::compile(["workflow.proto"], [folder])?;
        tonic_prost_build::configure()
            .build_client(false)
            .build_transport(false)
            .out_dir(out)
            .compile_fds(files)?;
    }
    Ok(())
}
