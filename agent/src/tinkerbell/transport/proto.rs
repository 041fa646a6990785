//! The messages of tink-agent's protocol and its client, from `proto/workflow.proto`.

#![allow(missing_docs, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/agent/proto.rs"));
