//! Containers from outside: images made here, pulled from a real registry, run in real namespaces.
//!
//! Needs root, a static busybox, and for registries Debian's docker-registry and skopeo; skips
//! without, and says so.

mod images;
mod layers;
mod pull;
mod run;
mod support;
// Of what it has, not all is needed here.
#[allow(dead_code)]
#[path = "../engine/web.rs"]
mod web;
