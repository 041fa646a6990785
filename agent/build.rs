//! Compiles `proto/` to Rust, without a protoc on the machine.

use std::path::PathBuf;
use std::{env, error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Two protocols of one package name, so each gets a folder of its own.
    for (protocol, folder) in [("agent", "proto"), ("tink-worker", "proto/tink-worker")] {
        let out = out.join(protocol);
        fs::create_dir_all(&out)?;
        println!("cargo::rerun-if-changed={folder}/workflow.proto");
        let files = protox::compile(["workflow.proto"], [folder])?;
        tonic_prost_build::configure()
            .build_server(false)
            .build_transport(false)
            .out_dir(out)
            .compile_fds(files)?;
    }
    Ok(())
}
