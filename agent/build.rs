//! How the agent is linked.

fn main() {
    // As RELR instead of RELA: 400 KB less to load. The C library applies either (glibc 2.36).
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    println!("cargo::rerun-if-changed=build.rs");
}
