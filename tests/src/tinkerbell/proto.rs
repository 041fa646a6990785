//! The messages of tink-agent's protocol and its server.

#![allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/agent/proto.rs"));

/// The same of tink-worker's.
pub mod tink_worker {
    include!(concat!(env!("OUT_DIR"), "/tink-worker/proto.rs"));
}
